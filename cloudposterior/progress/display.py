"""What a display of a run is, and which one a run gets."""

from __future__ import annotations

import sys
from typing import Protocol

from cloudposterior.progress.table import Table
from cloudposterior.progress.terminal import PlainLines, TerminalTable

__all__ = ["Display", "Silence", "choose_display"]


class Display(Protocol):
    """Shows the table of a run. None of its methods may raise: a run outranks its display."""

    def show(self, table: Table) -> None:
        """Show the table as it stands."""
        ...

    def poll(self) -> None:
        """Look what the user did; called some ten times a second by the thread that samples."""
        ...

    def close(self, table: Table) -> None:
        """Show the table for the last time."""
        ...


class Silence:
    """Shows nothing."""

    def show(self, table: Table) -> None:
        """Show nothing."""

    def poll(self) -> None:
        """Look at nothing."""

    def close(self, table: Table) -> None:
        """Show nothing."""


def choose_display(*, silent: bool) -> Display:
    """Choose the display that fits where the process writes.

    Parameters
    ----------
    silent : bool
        Whether nothing is to be shown.
    """
    if silent:
        return Silence()
    return TerminalTable() if sys.stdout.isatty() else PlainLines()
