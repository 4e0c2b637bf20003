"""What a sampler is to a cluster: a chain that starts, and advances segment by segment.

The form is BlackJAX's: ``start(...) -> state`` and ``advance(state, ...) -> state, segments``. Both
run inside of tasks; what they give travels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

__all__ = ["REPORT_EVERY_S", "Budget", "Run", "Sampler", "Segment", "State", "Tally"]

REPORT_EVERY_S = 0.25
"""However fast a chain is, nobody reads faster."""


@dataclass(frozen=True)
class Run:
    """What all chains of one run share; it travels once.

    Attributes
    ----------
    key : str
        Tells this run from every other; two runs share it only if their draws cannot differ.
    model : str
        The token of the model.
    structure : str
        The token of the model without the values of its `pymc.Data`; models that share it share
        what is compiled.
    arguments : bytes
        The arguments of `pymc.sample` that a chain depends on, as `shipping` packs them.
    seed : Any
        The seed, as `samplers.pymc.packed_seed` gives it.
    chains : int
        How many chains there are.
    settings : mapping of str to str
        The settings of PyTensor to run with.
    versions : mapping of str to str or None
        The version of Python and of each package that the draws depend on, on the client.
    """

    key: str
    model: str
    structure: str
    arguments: bytes
    seed: Any
    chains: int
    settings: Mapping[str, str]
    versions: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Tally:
    """What is counted of a chain beside its draws, from the first draw on.

    Attributes
    ----------
    divergences : int
        Divergences after tuning.
    step_size : float or None
        The present one; None where the sampler has none.
    gradients : float or None
        Gradients for each draw, as the mean of the latest draws; None where the sampler has none.
    elapsed_s : float
        For how long it was drawn, in seconds.
    """

    divergences: int = 0
    step_size: float | None = None
    gradients: float | None = None
    elapsed_s: float = 0.0


def _nobody(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Budget:
    """How long a segment may take, and who is told how it goes.

    Attributes
    ----------
    seconds : float
        The segment ends with the first draw after this time, which makes it at least one draw long.
    stopped : callable
        Tells whether the run was stopped; the segment then ends at once.
    report : callable
        Called with the chain, its draws so far, how many of them are for tuning, how many there
        will be, and what was counted; at most every `REPORT_EVERY_S` seconds, and at a chain's end.
    phase : callable
        Called with the chain and what it begins to do, by samplers that compile while they draw.
    """

    seconds: float
    stopped: Callable[[], bool]
    report: Callable[[int, int, int, int, Tally], None] = _nobody
    phase: Callable[[int, str], None] = _nobody
    _began: float = field(default_factory=time.perf_counter)

    def begun(self) -> Budget:
        """Give this budget with its time beginning now, as for who waited for a model."""
        return replace(self, _began=time.perf_counter())

    @property
    def spent(self) -> bool:
        """Whether the segment should end."""
        return self.stopped() or time.perf_counter() - self._began >= self.seconds


@dataclass(frozen=True)
class State:
    """Where a chain stands: all that another process needs to go on with it.

    Attributes
    ----------
    chains : tuple of int
        The chains that advance together; one, unless they talk to each other.
    drawn : int
        Draws that were made, tuning included.
    total : int
        Draws to be made, tuning included.
    held : Any
        What the sampler keeps of it.
    tally : Tally
        What was counted.
    """

    chains: tuple[int, ...]
    drawn: int
    total: int
    held: Any = None
    tally: Tally = Tally()

    @property
    def finished(self) -> bool:
        """Whether all draws are made."""
        return self.drawn >= self.total


@dataclass(frozen=True)
class Segment:
    """Draws of one chain, one after the other.

    Attributes
    ----------
    chain : int
        The number of the chain.
    first : int
        The number of the first draw, tuning included.
    draws : int
        How many there are.
    samples : dict of str to numpy.ndarray
        Values by variable, of shape ``(draws, *shape)``; of a sampler without segments, its result.
    stats : list of dict
        Statistics, ``(draws,)`` by name, for each step method.
    plan : Any
        What the first segment says of all: kinds and shapes, and what PyMC had to say.
    """

    chain: int
    first: int
    draws: int
    samples: Any
    stats: list[dict[str, np.ndarray]]
    plan: Any = None


class Sampler(Protocol):
    """Draws chains; an instance travels, and holds nothing that cannot."""

    def start(self, model: bytes, run: Run, chains: tuple[int, ...]) -> State:
        """Make ready for the first draw; compiles what the worker has not compiled yet."""
        ...

    def prepare(self, model: bytes, run: Run) -> None:
        """Compile what the worker has not compiled yet, where that can be done before drawing."""
        ...

    def advance(
        self, model: bytes, run: Run, state: State, budget: Budget
    ) -> tuple[State, list[Segment]]:
        """Draw until the budget is spent or all draws are made."""
        ...
