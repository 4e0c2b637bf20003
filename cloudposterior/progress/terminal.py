"""The table of a run in a terminal; in lines of text where there is none."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from cloudposterior.events import literal
from cloudposterior.progress.table import COLUMNS, Row, Table

__all__ = ["PlainLines", "TerminalTable", "print_line"]

_EVERY_S = 10.0


class TerminalTable:
    """Draws the table in place, one line a chain.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to; None is the standard output.
    """

    _shown = threading.Lock()
    """Two tables would draw over each other."""

    def __init__(self, console: Console | None = None) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._begun = False
        self._link = ""
        self._lent: list[tuple[logging.StreamHandler[Any], Any]] = []

    @classmethod
    def is_free(cls) -> bool:
        """Tell whether no other table is being drawn."""
        return not cls._shown.locked()

    def link(self, address: str) -> None:
        """Write it down under the table."""
        self._link = address

    def show(self, table: Table) -> None:
        """Draw the table."""
        if not self._begun:
            self._begun = self._shown.acquire(blocking=False)
            if not self._begun:
                return
            try:
                self._begin()
            except Exception:
                self._begun = False
                self._shown.release()
                raise
        self._live.update(rendered(table, self._link), refresh=True)

    def close(self, table: Table) -> None:
        """Draw the table for the last time, and leave it there."""
        try:
            self.show(table)
        finally:
            if self._begun:
                self._end()

    def _begin(self) -> None:
        streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        self._live.start()
        # what is logged meanwhile goes above the table, as what is printed does; a handler has
        # the stream of the time when it was made
        for handler in {*logging.getLogger().handlers, *logging.getLogger("pymc").handlers}:
            if isinstance(handler, logging.StreamHandler) and handler.stream in streams:
                self._lent.append((handler, handler.setStream(sys.stderr)))

    def _end(self) -> None:
        try:
            for handler, stream in self._lent:
                handler.setStream(stream)
            self._lent.clear()
            self._live.stop()
        finally:
            self._begun = False
            self._shown.release()


def rendered(table: Table, link: str = "") -> Group:
    """Make what rich prints of a table; names are text, whatever is in them."""
    lines = [
        Text(line, style="bold" if not number else "") for number, line in enumerate(table.lines())
    ]
    if link and not table.ended:
        lines.append(Text(literal(link), Style(dim=True, link=literal(link)), overflow="fold"))
    if not table.has_rows:
        return Group(*lines)
    columns = RichTable(box=None, pad_edge=False)
    for name in COLUMNS:
        columns.add_column(name, justify="left" if name in ("Progress", "State") else "right")
    for row in table.rows:
        columns.add_row(*_cells(row))
    return Group(*lines, columns)


def _cells(row: Row) -> tuple[ProgressBar | Text, ...]:
    style = "red" if row.divergences else "green" if row.phase == "finished" else "cyan"
    bar = ProgressBar(
        total=1.0, completed=row.fraction, width=24, complete_style=style, finished_style=style
    )
    return bar, *(
        Text(text, style="red" if row.divergences and n == 2 else "")
        for n, text in enumerate(row.texts())
    )


def print_line(line: str) -> None:
    """Print a line; a terminal that cannot show a name, or would obey it, gets its code instead."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(literal(line).encode(encoding, "backslashreplace").decode(encoding))


class PlainLines:
    """Prints a line now and then, for logs and pipes.

    Parameters
    ----------
    say : callable
        Takes a line.
    clock : callable
        Gives the time in seconds.
    """

    def __init__(
        self, say: Callable[[str], None] = print_line, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._next = clock() + _EVERY_S

    def link(self, address: str) -> None:
        """Leave it out: a log is read by many, and the address stops the run."""

    def show(self, table: Table) -> None:
        """Print a line, if the last one was ten seconds ago."""
        if self._clock() >= self._next:
            self._next = self._clock() + _EVERY_S
            self._say(line_of(table))

    def close(self, table: Table) -> None:
        """Print nothing more: what the run made speaks for itself."""


def line_of(table: Table) -> str:
    """Give the table in one line."""
    drawn, total = sum(row.drawn for row in table.rows), sum(row.total for row in table.rows)
    divergences = sum(row.divergences for row in table.rows)
    share = f"{100 * drawn / total:.0f}% of the draws, " if total else ""
    lines = table.lines()
    return (
        f"{lines[0]}: {share}{table.finished} of {len(table.rows)} chains finished, "
        f"{divergences} divergences. {lines[2]}"
    )
