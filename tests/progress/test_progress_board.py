"""The board of all runs on a scheduler, as plain data."""

from __future__ import annotations

import numpy as np
import pytest

from cloudposterior.events import ChainReport, Diagnosis, Event, Phase, RunStarted, StopAsked
from cloudposterior.progress.board import Board, digest_of

pytestmark = pytest.mark.once


def started(client: str = "client-1", secret: str = "secret", chains: int = 2) -> RunStarted:
    return RunStarted("radon", chains, "me on here", digest_of(secret) if secret else "", client)


def report(chain: int, drawn: int) -> ChainReport:
    return ChainReport(chain, "tcp://10.0.0.1:1", drawn, 100, 200, 0, 0.5, 7.0, 1.0)


def diagnosis(size: int = 100) -> Diagnosis:
    one = (1.0,)
    trace = np.zeros(size, "<f4").tobytes()
    return Diagnosis((0, 1), 50, 1, ("a",), one, one, one, one, one, 1, size // 2, trace)


def board(*events: tuple[str, Event]) -> Board:
    board = Board(clock=lambda: 1000.0)
    for key, event in events:
        board.take(key, event, who=digest_of("secret"))
    return board


def test_late_comers_see_the_whole_state() -> None:
    shown = board(
        ("a", started()), ("a", Phase("sampling")), ("a", report(0, 150)), ("a", diagnosis())
    )
    run = shown.get("a")
    assert run is not None
    table = run.table.snapshot()
    assert (table.phase, table.rows[0].drawn, table.rows[1].drawn) == ("sampling", 150, 0)
    assert run.table.diagnosis == diagnosis()
    assert (run.since, run.started.owner) == (1000.0, "me on here")


def test_runs_are_listed_the_latest_first() -> None:
    assert [run.key for run in board(("a", started()), ("b", started()))] == ["b", "a"]


def test_events_of_a_run_that_nobody_announced_are_nothing() -> None:
    shown = board(("a", report(0, 150)), ("a", StopAsked("no")), ("a", Phase("finished")))
    assert list(shown) == []


def test_each_event_makes_a_new_version() -> None:
    shown = board(("a", started()))
    run = shown.get("a")
    assert run is not None
    before = run.version
    shown.take("a", report(0, 150))
    assert run.version == before + 1


@pytest.mark.parametrize(("secret", "stops"), [("secret", True), ("guess", False), ("", False)])
def test_only_the_secret_stops_a_run(secret: str, stops: bool) -> None:
    run = board(("a", started())).get("a")
    assert run is not None
    assert (run.stop_digest(secret) is not None) == stops


def test_run_without_a_secret_is_stopped_by_nobody() -> None:
    run = board(("a", started(secret=""))).get("a")
    assert run is not None
    assert run.stop_digest("") is None


def test_run_that_has_ended_is_not_stopped() -> None:
    run = board(("a", started()), ("a", Phase("finished"))).get("a")
    assert run is not None
    assert run.stop_digest("secret") is None


def test_client_that_leaves_a_run_leaves_it_to_the_other() -> None:
    shown = board(("a", started()))
    shown.take("a", started("client-2", "other"), who=digest_of("other"))
    run = shown.get("a")
    assert run is not None
    shown.take("a", Phase("stopped"), who=digest_of("secret"))
    assert not run.table.ended
    assert (run.stop_digest("secret"), run.stop_digest("other")) == (None, digest_of("other"))
    shown.take("a", Phase("stopped"), who=digest_of("other"))
    assert run.table.snapshot().phase == "stopped"


def test_run_whose_client_has_gone_does_not_go_on() -> None:
    shown = board(("a", started()), ("b", started()), ("b", Phase("finished")))
    shown.lose("client-1")
    tables = {run.key: run.table.snapshot() for run in shown}
    assert (tables["a"].phase, tables["a"].detail) == ("failed", "its client has gone")
    assert tables["b"].phase == "finished"


def test_run_that_is_made_again_begins_anew() -> None:
    shown = board(("a", started()), ("a", report(0, 150)), ("a", Phase("finished")))
    shown.take("b", started())
    shown.take("a", started())
    assert [run.key for run in shown] == ["a", "b"]
    run = shown.get("a")
    assert run is not None
    assert run.table.snapshot().rows[0].drawn == 0


def test_what_is_held_is_bounded() -> None:
    shown = Board()
    for number in range(700):
        shown.take(str(number), started())
        shown.take(str(number), diagnosis())
        shown.take(str(number), Phase("finished"), who=digest_of("secret"))
    runs = list(shown)
    assert len(runs) == 500
    assert runs[0].key == "699"
    traces = [run.table.diagnosis.trace for run in runs if run.table.diagnosis is not None]
    assert len(traces) == 500
    assert sum(bool(trace) for trace in traces) == 50


def test_runs_that_have_not_ended_are_all_held() -> None:
    shown = Board()
    for number in range(600):
        shown.take(str(number), started())
    assert len(list(shown)) == 600
