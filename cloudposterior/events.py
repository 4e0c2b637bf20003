"""What is told of a run while it is under way: small, frozen, made of plain values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

__all__ = [
    "TOPIC",
    "ChainReport",
    "Diagnosis",
    "Event",
    "Phase",
    "RunStarted",
    "StopAsked",
    "TaskBegun",
    "WorkerLost",
    "from_message",
    "literal",
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
    submitted : str
        The key of the task that drives the run; empty where a client does.
    """

    title: str
    chains: int
    owner: str = ""
    stop_digest: str = ""
    client: str = ""
    submitted: str = ""


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
        ``"stopped"``, ``"failed"``, ``"cached result"``; of a chain also ``"restarting"``: it is
        drawn once more from its start, and nothing counts that was told of it before.
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


@dataclass(frozen=True)
class TaskBegun:
    """A worker has begun to draw what a task is to draw; it has compiled by then.

    Attributes
    ----------
    key : str
        The task.
    worker : str
        The address of the worker.
    """

    key: str
    worker: str


@dataclass(frozen=True)
class WorkerLost:
    """A worker has left its cluster, and tasks of the run were there; the scheduler tells it.

    Attributes
    ----------
    worker : str
        Its address.
    drawing : tuple of str
        The keys of those that it ran, or was to run.
    lost : tuple of str
        The keys of those whose results no other worker has.
    expected : bool
        Whether it left by itself, as when a cluster shrinks.
    memory_bytes : int
        What it was last seen to use; 0 where that is not known.
    limit_bytes : int
        What it might use; 0 where there was no limit.
    """

    worker: str
    drawing: tuple[str, ...]
    lost: tuple[str, ...]
    expected: bool = False
    memory_bytes: int = 0
    limit_bytes: int = 0


Event = RunStarted | ChainReport | Phase | Diagnosis | StopAsked | TaskBegun | WorkerLost

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Event)}


def to_message(run: str, event: Event) -> dict[str, Any]:
    """Write an event as Dask's log of events takes it: numbers, text, bytes and None."""
    return {"run": run, "kind": type(event).__name__, **asdict(event)}


def from_message(message: Any) -> tuple[str, Event] | None:
    """Read an event; None for what is none, or comes from a version that knows others.

    Whoever reaches a scheduler may send it anything: what is not as `to_message` writes it is no
    event, so that those who show events need not ask.

    Parameters
    ----------
    message : dict
        As `to_message` wrote it; Dask adds the worker that sent it.

    Returns
    -------
    tuple of (str, Event), or None
        The run, and the event; its texts are `literal`, and long ones are cut.
    """
    if not isinstance(message, dict):
        return None
    run, name = message.get("run"), message.get("kind")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    try:
        if kind is None or _text(run) != run:
            return None
        values = {of: read(message[of]) for of, read in _FIELDS[kind] if of in message}
        event: Event = kind(**values)
    except (TypeError, ValueError, OverflowError):
        return None
    return (run, event) if _is_sound(event) else None


_MOST_TEXT = 1000
_MOST_CHAINS = 10_000
_MOST_MEMBERS = 20_000
_MOST_BYTES = 2**21
_MOST_COUNTED = 2**53
_MOST_SECONDS = 1e12

# what a terminal obeys, what turns the text after it around, and halves of characters
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def literal(text: str) -> str:
    r"""Write a text so that it is shown and not obeyed: an escape character becomes ``\x1b``.

    Parameters
    ----------
    text : str
        Any text.
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return literal(value if len(value) <= _MOST_TEXT else f"{value[:_MOST_TEXT]}\u2026")


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MOST_COUNTED:
        raise ValueError(value)
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _data(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(value)
    return value


def _maybe(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _many(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read_all(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, list | tuple) or len(values) > _MOST_MEMBERS:
            raise TypeError(values)
        return tuple(map(read, values))

    return read_all


def _texts(values: Any) -> tuple[str, ...]:
    read = _many(_text)(values)
    if sum(map(len, read)) > _MOST_BYTES:
        raise ValueError(values)
    return read


_READERS: dict[Any, Callable[[Any], Any]] = {
    "str": _text,
    "int": _count,
    "float": _number,
    "bool": _truth,
    "bytes": _data,
    "int | None": _maybe(_count),
    "float | None": _maybe(_number),
    "tuple[int, ...]": _many(_count),
    "tuple[str, ...]": _texts,
    "tuple[float, ...]": _many(_number),
}
"""How a field is read, by its annotation."""


_FIELDS = {
    kind: [(field.name, _READERS[field.type]) for field in fields(kind)] for kind in _KINDS.values()
}


def _is_sound(event: Event) -> bool:
    """Tell whether the parts of an event fit each other, and are of a size that can be held."""
    if isinstance(event, RunStarted):
        return event.chains <= _MOST_CHAINS and _is_digest(event.stop_digest)
    if isinstance(event, StopAsked):
        return _is_digest(event.stop_digest)
    if isinstance(event, ChainReport):
        return event.drawn <= event.total and 0 <= event.elapsed_s <= _MOST_SECONDS
    return not isinstance(event, Diagnosis) or _can_be_plotted(event)


def _is_digest(text: str) -> bool:
    return not text or re.fullmatch("[0-9a-f]{64}", text) is not None


def _can_be_plotted(found: Diagnosis) -> bool:
    columns = (found.mean, found.sd, found.r_hat, found.ess_bulk, found.ess_tail)
    floats = found.traced * found.points * len(found.chains)
    return (
        all(len(column) == len(found.names) for column in columns)
        and 0 < len(found.chains) <= _MOST_CHAINS
        and found.traced <= len(found.names)
        and 4 * floats == len(found.trace) <= _MOST_BYTES
        and (floats > 0 or not found.traced)
    )
