"""The table of a run as plain data: events in, rows and lines out."""

from __future__ import annotations

import msgpack
import pytest

from cloudposterior.events import ChainReport, Phase, RunStarted, from_message, to_message
from cloudposterior.progress.table import RunTable, spoken

pytestmark = pytest.mark.once


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> RunTable:
    return RunTable("run", "Sampler Progress: radon", 4, clock=clock)


def report(chain: int, drawn: int, **changes: object) -> ChainReport:
    values = {"tune": 100, "total": 200, "elapsed_s": drawn / 10, **changes}
    return ChainReport(chain, "tcp://10.0.0.1:1", drawn, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "event",
    [
        RunStarted("radon", 4, "me@here", "ab" * 32),
        ChainReport(1, "tcp://a:1", 10, 100, 200, 3, 0.5, 7.0, 1.5),
        ChainReport(1, "tcp://a:1", 10, 100, 200),
        Phase("compiling", 2, "tcp://a:1"),
    ],
)
def test_events_travel_as_dask_sends_them(event: object) -> None:
    sent = msgpack.unpackb(msgpack.packb(to_message("run", event)))  # type: ignore[arg-type]
    # Dask adds who sent it
    assert from_message({**sent, "worker": sent.get("worker", "tcp://b:2")}) == ("run", event)


def test_message_of_others_is_no_event() -> None:
    assert from_message({"action": "anything"}) is None


def test_table_counts_chains_and_time(table: RunTable, clock: Clock) -> None:
    table.update(Phase("sampling"))
    for chain in (0, 1):
        table.update(report(chain, 200))
    for chain in (2, 3):
        table.update(report(chain, 150))
    clock.now = 12.0
    shown = table.snapshot()
    assert shown.lines() == [
        "Sampler Progress: radon",
        "Total Chains: 4   Active Chains: 2   Finished Chains: 2",
        "Sampling for 12 seconds   Estimated Time to Completion: 5 seconds",
    ]
    assert [row.phase for row in shown.rows] == ["finished", "finished", "sampling", "sampling"]
    assert [row.fraction for row in shown.rows] == [1.0, 1.0, 0.75, 0.75]


def test_chain_that_is_cut_is_whole_with_the_draws_it_has(table: RunTable) -> None:
    table.update(report(0, 130, divergences=2, step_size=0.5))
    table.update(report(1, 150))
    before = table.snapshot().rows
    cut = table.cut(20)
    assert table.snapshot().rows == before  # which others are told of, too
    assert [(of.chain, of.drawn, of.total) for of in cut] == [(0, 120, 120), (1, 120, 120)]
    for event in (*cut, report(0, 140), report(1, 200), *cut):  # what workers told may come late
        table.update(event)
    first, second = table.snapshot().rows[:2]
    assert (first.drawn, first.total, first.fraction, first.phase) == (120, 120, 1.0, "finished")
    assert (first.divergences, first.step_size) == (2, 0.5)
    assert (second.drawn, second.fraction, second.phase) == (120, 1.0, "finished")


def test_chain_is_tuning_until_its_tuning_is_drawn(table: RunTable) -> None:
    phases = []
    for drawn in (0, 99, 100, 200):
        table.update(report(0, drawn))
        phases.append(table.snapshot().rows[0].phase)
    assert phases == ["tuning", "tuning", "sampling", "finished"]


def test_report_that_comes_late_changes_nothing(table: RunTable) -> None:
    table.update(report(0, 150, divergences=3))
    table.update(report(0, 120, divergences=2))
    row = table.snapshot().rows[0]
    assert (row.drawn, row.divergences) == (150, 3)


def test_chain_that_begins_again_does_not_count_twice(table: RunTable) -> None:
    table.update(report(0, 150, divergences=3))
    table.update(Phase("compiling", 0, "tcp://10.0.0.2:1"))
    table.update(report(0, 20, divergences=0))
    row = table.snapshot().rows[0]
    assert (row.drawn, row.divergences, row.phase) == (150, 3, "tuning")
    table.update(report(0, 160, divergences=3))
    assert table.snapshot().rows[0].drawn == 160


def test_table_of_a_run_that_ended_stands_still(table: RunTable, clock: Clock) -> None:
    table.update(report(0, 150))
    clock.now = 5.0
    table.update(Phase("stopped"))
    clock.now = 50.0
    table.update(Phase("sampling"))
    shown = table.snapshot()
    assert shown.ended
    assert shown.lines()[2] == "Stopped after 5 seconds"
    assert {row.phase for row in shown.rows} == {"stopped"}


def test_phase_with_detail_says_it(table: RunTable, clock: Clock) -> None:
    table.update(Phase("cached result", detail="radon.nc"))
    assert table.snapshot().lines()[2] == "Cached result (radon.nc) after 0 seconds"


def test_chain_that_is_none_of_the_run_is_passed_over(table: RunTable) -> None:
    table.update(report(7, 10))
    table.update(Phase("compiling", 9))
    assert [row.phase for row in table.snapshot().rows] == ["waiting"] * 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 seconds"), (1.2, "1 second"), (75, "1 min 15 s"), (3_700, "1 h 1 min")],
)
def test_time_is_spoken(seconds: float, text: str) -> None:
    assert spoken(seconds) == text
