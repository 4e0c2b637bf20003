"""Samplers that draw nothing, to count and to script failures; they travel to workers by name."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

import numpy as np

from cloudposterior.samplers.protocol import Budget, Run, Segment, State

STARTED: list[tuple[str, tuple[int, ...]]] = []
"""Run and chains that were started in this process."""


class Panic(BaseException):
    """As nutpie's: no `Exception`."""


@dataclass(frozen=True)
class Counting:
    """Chain ``i`` draws ``1000 i``, ``1000 i + 1``, ...

    Attributes
    ----------
    total : int
        How many draws a chain has.
    seconds : float
        How long a draw takes.
    fails : dict of int to (int, type)
        At which draw a chain fails, and with what.
    """

    total: int = 30
    seconds: float = 0.0
    fails: tuple[tuple[int, int, type[BaseException]], ...] = ()

    def start(self, model: bytes, run: Run, chains: tuple[int, ...]) -> State:
        STARTED.append((run.key, chains))
        return State(chains, 0, self.total)

    def prepare(self, model: bytes, run: Run) -> None:
        pass

    def advance(
        self, model: bytes, run: Run, state: State, budget: Budget
    ) -> tuple[State, list[Segment]]:
        chain, drawn, values = state.chains[0], state.drawn, []
        while drawn < state.total:
            for of, at, error in self.fails:
                if (of, at) == (chain, drawn):
                    raise error(f"scripted at draw {drawn}")
            time.sleep(self.seconds)
            values.append(1000 * chain + drawn)
            drawn += 1
            if budget.spent:
                break
        segment = Segment(chain, state.drawn, len(values), {"x": np.array(values)}, [])
        return replace(state, drawn=drawn), [segment]


class Uneven(Counting):
    """Segments whose length differs from one process to another, as it does with time."""

    def advance(
        self, model: bytes, run: Run, state: State, budget: Budget
    ) -> tuple[State, list[Segment]]:
        time.sleep(self.seconds)
        length = min(1 + os.getpid() % 11, state.total - state.drawn)
        values = np.arange(state.drawn, state.drawn + length) + 1000 * state.chains[0]
        segment = Segment(state.chains[0], state.drawn, length, {"x": values}, [])
        return replace(state, drawn=state.drawn + length), [segment]


def run_of(key: str, chains: int = 4) -> Run:
    """A run for a stub."""
    return Run(key, f"model-{key}", f"model-{key}", b"", 1, chains, {})
