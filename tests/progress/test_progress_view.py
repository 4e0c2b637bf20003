"""A run as it is looked at: displays that show, that break, and that stop it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cloudposterior.errors import DisplayWarning
from cloudposterior.events import ChainReport, Phase
from cloudposterior.progress.table import RunTable, Table
from cloudposterior.progress.terminal import PlainLines, TerminalTable
from cloudposterior.progress.view import RunView


class Kept:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self.closed = False

    def show(self, table: Table) -> None:
        self.tables.append(table)

    def poll(self) -> None:
        pass

    def close(self, table: Table) -> None:
        self.tables.append(table)
        self.closed = True


class Broken(Kept):
    def show(self, table: Table) -> None:
        raise OSError("the browser is gone")


def view(display: Kept) -> RunView:
    return RunView(RunTable("run", "radon", 2), display)


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


def test_plain_lines_come_every_ten_seconds() -> None:
    said: list[str] = []
    now = [0.0]
    lines = PlainLines(said.append, clock=lambda: now[0])
    table = table_of(Phase("sampling"), report(0, 150, divergences=2), report(1, 50))
    for now[0] in (1.0, 5.0, 10.0, 11.0, 20.5):
        lines.show(table)
    assert len(said) == 2
    assert said[0].startswith("radon: 50% of the draws, 0 of 2 chains finished, 2 divergences.")
