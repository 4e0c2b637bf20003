"""A run as it is looked at: displays that show, that break, and that stop it."""

from __future__ import annotations

import io
import logging
import sys
import threading
from typing import Any

import pytest
from rich.console import Console

import cloudposterior as cp
from cloudposterior.errors import DisplayWarning
from cloudposterior.events import ChainReport, Event, Phase, StopAsked
from cloudposterior.progress.board import digest_of
from cloudposterior.progress.table import RunTable, Table
from cloudposterior.progress.terminal import PlainLines, TerminalTable, rendered
from cloudposterior.progress.view import RunView

pytestmark = pytest.mark.once


class Kept:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self.closed = False
        self.address: str | None = None

    def link(self, address: str) -> None:
        self.address = address

    def show(self, table: Table) -> None:
        self.tables.append(table)

    def close(self, table: Table) -> None:
        self.tables.append(table)
        self.closed = True


class Broken(Kept):
    def show(self, table: Table) -> None:
        raise OSError("the browser is gone")


def view(display: Kept) -> RunView:
    return RunView(RunTable("run", "radon", 2), lambda stop: display)


def report(chain: int, drawn: int, divergences: int = 0) -> ChainReport:
    return ChainReport(chain, "tcp://10.0.0.1:1", drawn, 100, 200, divergences, 0.5, 7.0, 1.0)


def test_view_shows_phases_at_once_and_the_end() -> None:
    display = Kept()
    with view(display) as shown:
        shown.phase("waiting for workers")
        shown.phase("compiling")
        shown.take(report(0, 150))
    assert [table.phase for table in display.tables] == [
        "waiting for workers",
        "compiling",
        "finished",
    ]
    assert display.closed
    assert display.tables[-1].rows[0].drawn == 150


def test_view_that_breaks_warns_once_and_goes_on() -> None:
    shown = view(Broken())
    with pytest.warns(DisplayWarning, match="browser is gone.*the run goes on"):
        shown.phase("compiling")
    # warnings are errors here
    shown.phase("sampling")
    assert not shown.watch()


def test_display_that_breaks_lets_go_of_what_it_holds() -> None:
    display = Broken()
    with pytest.warns(DisplayWarning, match="browser is gone"):
        view(display).phase("compiling")
    assert display.closed


def test_display_that_cannot_be_made_costs_a_warning() -> None:
    def choose(stop: Any) -> Any:
        raise ImportError("no anywidget")

    with pytest.warns(DisplayWarning, match="no anywidget.*the run goes on"):
        shown = RunView(RunTable("run", "radon", 2), choose)
    shown.phase("compiling")
    assert not shown.watched


def test_view_says_when_it_was_stopped() -> None:
    display = Kept()
    with view(display) as shown:
        assert not shown.watch()
        shown.stop()
        assert shown.watch()
    assert display.tables[-1].phase == "stopped"


def test_view_of_a_run_that_fails_says_so() -> None:
    display = Kept()
    with pytest.raises(ValueError, match="no"), view(display):
        raise ValueError("no")
    assert display.tables[-1].phase == "failed"


class Elsewhere:
    """Another place where a run is looked at."""

    stop_digest = digest_of("mine")
    link = "http://10.0.0.1:8787/posterior?run=run"

    def __init__(self) -> None:
        self.told: list[Event] = []

    def tell(self, event: Event) -> None:
        self.told.append(event)


def test_view_tells_elsewhere_what_is_known_here_only() -> None:
    display, elsewhere = Kept(), Elsewhere()
    with view(display) as shown:
        shown.share(elsewhere)
        shown.phase("compiling")
        # a worker has told it there already
        shown.take(report(0, 150))
        with shown.ending():
            shown.phase("saving", "a.nc")
        assert [event for event in elsewhere.told if isinstance(event, ChainReport)] == []
        assert elsewhere.told == [
            Phase("compiling"),
            Phase("saving", detail="a.nc"),
            Phase("finished"),
        ]
    assert len(elsewhere.told) == 3
    assert display.address == elsewhere.link


def test_view_stops_for_who_has_its_own_link_only() -> None:
    with view(Kept()) as shown:
        shown.take(StopAsked(Elsewhere.stop_digest))
        assert not shown.stopped  # it is shown nowhere else
        shown.share(Elsewhere())
        shown.take(StopAsked(digest_of("another's")))
        assert not shown.stopped
        shown.take(StopAsked(Elsewhere.stop_digest))
        assert shown.stopped


def test_runs_under_way_can_be_stopped_from_anywhere() -> None:
    assert cp.runs() == []
    with view(Kept()) as shown:
        (run,) = cp.runs()
        assert run.status().title == "radon"
        thread = threading.Thread(target=run.stop)
        thread.start()
        thread.join()
        assert shown.watch()
        assert "radon" in repr(run)
    assert cp.runs() == []


def table_of(*events: ChainReport | Phase, title: str = "radon") -> Table:
    run = RunTable("run", title, 2)
    for event in events:
        run.update(event)
    return run.snapshot()


def test_terminal_shows_a_line_a_chain() -> None:
    out = io.StringIO()
    terminal = TerminalTable(Console(file=out, width=120, force_terminal=False))
    terminal.show(table_of(Phase("compiling")))
    terminal.close(table_of(Phase("sampling"), report(0, 150, divergences=2), report(1, 40)))
    text = out.getvalue()
    assert "Total Chains: 2   Active Chains: 2   Finished Chains: 0" in text
    assert any("150" in line and "0.5" in line and "2" in line for line in text.splitlines())
    assert "Divergences" in text


def test_terminal_shows_names_as_text() -> None:
    out = io.StringIO()
    terminal = TerminalTable(Console(file=out, width=300, force_terminal=False))
    terminal.close(table_of(Phase("sampling"), title="[red]a[/red] <script>"))
    assert "[red]a[/red] <script>" in out.getvalue()


def test_what_is_logged_goes_above_the_table() -> None:
    """A handler has the stream of the time when it was made, which rich does not redirect."""
    handler = logging.StreamHandler(sys.stderr)
    before = handler.stream
    logging.getLogger("pymc").addHandler(handler)
    terminal = TerminalTable(Console(file=io.StringIO(), width=120, force_terminal=True))
    try:
        terminal.show(table_of(Phase("sampling")))
        lent = handler.stream
        terminal.close(table_of(Phase("finished")))
    finally:
        logging.getLogger("pymc").removeHandler(handler)
    assert lent is not before
    assert handler.stream is before


def test_second_table_in_a_terminal_leaves_the_first_alone() -> None:
    out, other = io.StringIO(), io.StringIO()
    first = TerminalTable(Console(file=out, width=120, force_terminal=False))
    second = TerminalTable(Console(file=other, width=120, force_terminal=False))
    assert TerminalTable.is_free()
    first.show(table_of(Phase("sampling")))
    assert not TerminalTable.is_free()
    second.show(table_of(Phase("sampling")))
    second.close(table_of(Phase("finished")))
    assert not TerminalTable.is_free()
    first.close(table_of(Phase("finished")))
    assert TerminalTable.is_free()
    assert (other.getvalue(), "Finished after" in out.getvalue()) == ("", True)


def test_terminal_shows_the_link_while_there_is_something_to_stop() -> None:
    def printed(table: Table) -> str:
        console = Console(file=io.StringIO(), width=120)
        with console.capture() as capture:
            console.print(rendered(table, "http://10.0.0.1:8787/posterior?run=a"))
        return capture.get()

    assert "http://10.0.0.1:8787/posterior?run=a" in printed(table_of(Phase("sampling")))
    assert "posterior?run" not in printed(table_of(Phase("sampling"), Phase("finished")))


def test_plain_lines_come_every_ten_seconds() -> None:
    said: list[str] = []
    now = [0.0]
    lines = PlainLines(said.append, clock=lambda: now[0])
    table = table_of(Phase("sampling"), report(0, 150, divergences=2), report(1, 50))
    for now[0] in (1.0, 5.0, 10.0, 11.0, 20.5):
        lines.show(table)
    assert len(said) == 2
    assert said[0].startswith("radon: 50% of the draws, 0 of 2 chains finished, 2 divergences.")
