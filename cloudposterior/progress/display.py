"""What a display of a run is, and which one a run gets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

from cloudposterior.progress.notebook import NotebookTable, in_notebook, show_line
from cloudposterior.progress.table import Table
from cloudposterior.progress.terminal import PlainLines, TerminalTable, print_line

__all__ = ["Display", "Silence", "choose_display", "say"]


class Display(Protocol):
    """Shows the table of a run. What its methods raise ends the display, and not the run."""

    def link(self, address: str) -> None:
        """Learn where else the run is shown; empty where that is nowhere."""
        ...

    def show(self, table: Table) -> None:
        """Show the table as it stands."""
        ...

    def close(self, table: Table) -> None:
        """Show the table for the last time."""
        ...


class Silence:
    """Shows nothing."""

    def link(self, address: str) -> None:
        """Forget it."""

    def show(self, table: Table) -> None:
        """Show nothing."""

    def close(self, table: Table) -> None:
        """Show nothing."""


def choose_display(stop: Callable[[], None], *, silent: bool) -> Display:
    """Choose the display that fits where the process writes.

    Parameters
    ----------
    stop : callable
        Stops the run.
    silent : bool
        Whether nothing is to be shown.
    """
    if silent:
        return Silence()
    if in_notebook():
        return NotebookTable(stop)
    if sys.stdout is not None and sys.stdout.isatty() and TerminalTable.is_free():
        return TerminalTable()
    return PlainLines()


def say(line: str) -> None:
    """Say a line in the place where a table would be.

    Parameters
    ----------
    line : str
        What to say.
    """
    if in_notebook():
        show_line(line)
        return
    print_line(line)
