"""What is told of a run while it is under way: small, frozen, made of plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = [
    "TOPIC",
    "ChainReport",
    "Diagnosis",
    "Event",
    "Phase",
    "RunStarted",
    "StopAsked",
    "from_message",
    "to_message",
]

TOPIC = "cloudposterior"
"""Under which events are logged in Dask (`Worker.log_event`, `Client.log_event`)."""


@dataclass(frozen=True)
class RunStarted:
    """A run begins.

    Attributes
    ----------
    title : str
        The model and what is done with it, e.g. ``"radon, sampled by pymc"``.
    chains : int
        How many chains there are.
    owner : str
        Who runs it: user and machine.
    stop_digest : str
        SHA-256, in hex, of the secret that the client's link to the page carries; only who has
        the secret may stop the run. Empty where nobody may.
    client : str
        The client, as its scheduler knows it.
    """

    title: str
    chains: int
    owner: str = ""
    stop_digest: str = ""
    client: str = ""


@dataclass(frozen=True)
class ChainReport:
    """Where a chain stands.

    Attributes
    ----------
    chain : int
        Its number.
    worker : str
        The address of the worker that draws it.
    drawn : int
        Draws that were made, tuning included.
    tune : int
        How many of them are for tuning.
    total : int
        Draws to be made, tuning included.
    divergences : int
        Divergences after tuning.
    step_size : float or None
        The present one; None where the sampler has none.
    gradients : float or None
        Gradients for each draw, as the mean of the latest; None where the sampler has none.
    elapsed_s : float
        For how long it was drawn, in seconds.
    """

    chain: int
    worker: str
    drawn: int
    tune: int
    total: int
    divergences: int = 0
    step_size: float | None = None
    gradients: float | None = None
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class Phase:
    """What a run, or one chain of it, does at present.

    Attributes
    ----------
    name : str
        In words: ``"waiting for workers"``, ``"sending the model"``, ``"compiling"``,
        ``"sampling"``, ``"stopping"``, ``"gathering"``, ``"saving"``, ``"finished"``,
        ``"stopped"``, ``"failed"``, ``"cached result"``.
    chain : int or None
        The chain; None for the run.
    worker : str
        The address of the worker that does it; empty where the client does.
    detail : str
        What else there is to say, such as the file of a cached result.
    """

    name: str
    chain: int | None = None
    worker: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """How good the posterior is so far, by its draws after tuning; parameters are its elements.

    Attributes
    ----------
    chains : tuple of int
        The chains whose draws were looked at.
    draws : int
        How many of each.
    parameters : int
        How many there are.
    names : tuple of str
        Those that were looked at, the worst first, e.g. ``"a[AITKIN]"``.
    mean, sd, r_hat, ess_bulk, ess_tail : tuple of float
        For each of them: mean, standard deviation, rank-normalized split R-hat, and effective
        sample sizes (Vehtari et al., 2021, doi:10.1214/20-BA1221). NaN where it is not defined.
    traced : int
        Of how many of them, from the first on, there are draws in `trace`.
    points : int
        How many draws of each chain, spread evenly.
    trace : bytes
        Those draws, as 32-bit floats ``(traced, chain, points)``, little-endian.
    """

    chains: tuple[int, ...]
    draws: int
    parameters: int
    names: tuple[str, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    r_hat: tuple[float, ...]
    ess_bulk: tuple[float, ...]
    ess_tail: tuple[float, ...]
    traced: int = 0
    points: int = 0
    trace: bytes = b""


@dataclass(frozen=True)
class StopAsked:
    """Somebody who has the link to a run asks on the dashboard for its end.

    Attributes
    ----------
    stop_digest : str
        That of the link; who has another goes on.
    """

    stop_digest: str


_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (RunStarted, ChainReport, Phase, Diagnosis, StopAsked)
}


Event = RunStarted | ChainReport | Phase | Diagnosis | StopAsked


def to_message(run: str, event: Event) -> dict[str, Any]:
    """Write an event as Dask's log of events takes it: numbers, text, bytes and None."""
    return {"run": run, "kind": type(event).__name__, **asdict(event)}


def from_message(message: dict[str, Any]) -> tuple[str, Event] | None:
    """Read an event; None for what is none, or comes from a version that knows others.

    Parameters
    ----------
    message : dict
        As `to_message` wrote it; Dask adds the worker that sent it.

    Returns
    -------
    tuple of (str, Event), or None
        The run, and the event.
    """
    kind = _KINDS.get(str(message.get("kind")))
    if kind is None:
        return None
    known = {field.name for field in fields(kind)}
    return str(message["run"]), kind(**{k: v for k, v in message.items() if k in known})
