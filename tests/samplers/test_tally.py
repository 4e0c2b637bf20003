"""What is told of a chain while it is drawn, and how often."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from cloudposterior.samplers import tally
from cloudposterior.samplers.protocol import Budget, State, Tally
from cloudposterior.samplers.tally import Counter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tally.time, "perf_counter", clock)
    return clock


def counted(clock: Clock, draws: int, every_s: float) -> list[tuple[Any, ...]]:
    """Draw a chain of 100 tuning draws and others, and give what was told."""
    told: list[tuple[Any, ...]] = []
    budget = Budget(1e9, lambda: False, lambda *of: told.append((clock.now, *of)))
    counter = Counter(State((3,), 0, draws), 100, budget)
    for drawn in range(1, draws + 1):
        clock.now += every_s
        counter.saw(drawn, [{"diverging": drawn % 10 == 0, "step_size": 0.5, "tree_size": 7}])
    counter.tally(draws)
    return told


def test_reports_come_four_times_a_second_however_fast_the_chain_is(clock: Clock) -> None:
    told = counted(clock, draws=100_000, every_s=1e-4)
    assert len(told) <= 4 * 10 + 1
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(told)]
    assert min(gaps[:-1]) >= 0.25 - 1e-6


@pytest.mark.parametrize(
    "stats",
    [
        {"step_size": np.array([0.5, 0.6])},
        {"diverging": np.array([True, False])},
        {"tree_size": None},
    ],
    ids=lambda of: next(iter(of)),
)
def test_statistics_that_are_no_numbers_cost_no_chain(stats: dict[str, Any], clock: Clock) -> None:
    counter = Counter(State((0,), 0, 20), 0, Budget(1e9, lambda: False))
    for drawn in range(1, 21):
        clock.now += 1
        counter.saw(drawn, [stats])
    assert counter.tally(20) == Tally(elapsed_s=pytest.approx(20))


def test_last_report_is_of_all_draws(clock: Clock) -> None:
    *_, (_, chain, drawn, tune, total, last) = counted(clock, draws=200, every_s=1e-3)
    assert (chain, drawn, tune, total) == (3, 200, 100, 200)
    # after tuning
    assert last == Tally(10, 0.5, 7.0, pytest.approx(0.2))
