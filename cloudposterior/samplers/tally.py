"""Counting draws as they are made, and telling of them now and then."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cloudposterior.samplers.protocol import REPORT_EVERY_S, Budget, State, Tally

__all__ = ["Counter"]


class Counter:
    """Counts the draws of a segment.

    Parameters
    ----------
    state : State
        Where the chain stands when the segment begins.
    tune : int
        How many draws are for tuning.
    budget : Budget
        Who is told.
    """

    def __init__(self, state: State, tune: int, budget: Budget) -> None:
        self._state = state
        self._tune = tune
        self._budget = budget
        self._divergences = state.tally.divergences
        self._before_s = state.tally.elapsed_s
        self._began = time.perf_counter()
        self._next = self._began + REPORT_EVERY_S
        self._gradients, self._draws = 0, 0
        self._last: Sequence[dict[str, Any]] = ()
        self._strange = False

    def saw(self, drawn: int, stats: Sequence[dict[str, Any]]) -> None:
        """Count a draw; called for each, so it does little.

        Parameters
        ----------
        drawn : int
            Draws so far, this one included.
        stats : sequence of dict
            What PyMC's step methods say of it.
        """
        if self._strange:
            return
        try:
            self._count(drawn, stats)
        except (TypeError, ValueError):
            # of a step method of the user's, by these names, but no numbers: nobody is told of it
            self._strange = True

    def _count(self, drawn: int, stats: Sequence[dict[str, Any]]) -> None:
        for of in stats:
            if drawn > self._tune and of.get("diverging"):
                self._divergences += 1
            self._gradients += of.get("tree_size", 0)
        self._draws += 1
        self._last = stats
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + REPORT_EVERY_S
            self._tell(drawn, now)
            self._gradients, self._draws = 0, 0

    def tally(self, drawn: int) -> Tally:
        """Give what was counted so far; tell of it if the chain is at its end."""
        now = time.perf_counter()
        try:
            if drawn >= self._state.total:
                self._tell(drawn, now)
            return self._tally(now)
        except (TypeError, ValueError):
            self._strange = True
            return self._tally(now)

    def _tell(self, drawn: int, now: float) -> None:
        chain, total = self._state.chains[0], self._state.total
        self._budget.report(chain, drawn, self._tune, total, self._tally(now))

    def _tally(self, now: float) -> Tally:
        before = self._state.tally
        if self._strange:
            return replace(before, elapsed_s=self._before_s + now - self._began)
        sizes = [of["step_size"] for of in self._last if "step_size" in of]
        mean = self._gradients / self._draws if self._gradients else before.gradients
        return Tally(
            divergences=self._divergences,
            step_size=float(sizes[0]) if sizes else before.step_size,
            gradients=float(mean) if mean is not None else None,
            elapsed_s=self._before_s + now - self._began,
        )
