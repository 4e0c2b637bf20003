"""How many fits are done, running and failed, and when all will be."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cloudposterior.errors import DisplayWarning, tell
from cloudposterior.progress.terminal import print_line

__all__ = ["FitsBar"]


class FitsBar:
    """Shows how many fits stand how, in a terminal or a notebook.

    Parameters
    ----------
    total : int or None
        How many there are; None where nobody knows yet.
    shown : bool
        Whether to show anything.
    console : rich.console.Console, optional
        Where to; None is the standard output.
    """

    def __init__(
        self, total: int | None, *, shown: bool = True, console: Console | None = None
    ) -> None:
        self._progress = Progress(
            TextColumn("fits"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[running]} running, {task.fields[failures]} failed, left"),
            TimeRemainingColumn(),
            console=console,
            disable=not shown,
        )
        self._fits = self._progress.add_task("fits", total=total, running=0, failures=0)
        self._failures = 0
        self._is_broken = False

    def __enter__(self) -> FitsBar:
        """Show it."""
        self._try(self._progress.start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave it as it stands."""
        self.show(running=0)
        self._try(self._progress.stop)
        if self._progress.console.is_jupyter and not self._progress.disable:
            # a notebook that is saved keeps nothing of what was drawn in place
            print_line(self._outcome())

    def _outcome(self) -> str:
        (task,) = self._progress.tasks
        total = "" if task.total is None else f" of {task.total:.0f}"
        return f"fits: {task.completed:.0f}{total} done, {self._failures} of them failed"

    def show(self, *, running: int) -> None:
        """Say how many fits are under way."""
        self._try(lambda: self._progress.update(self._fits, running=running))

    def done(self) -> None:
        """Count a fit that has ended."""
        self._try(lambda: self._progress.advance(self._fits))

    def failed(self) -> None:
        """Count a fit that has failed."""
        self._failures += 1
        self._try(lambda: self._progress.update(self._fits, advance=1, failures=self._failures))

    def _try(self, show: Callable[[], object]) -> None:
        """Show something; what goes wrong with that ends no fit."""
        if self._is_broken:
            return
        try:
            show()
        except Exception as error:  # noqa: BLE001  (a fit outranks its display)
            self._is_broken = True
            tell(DisplayWarning, f"the number of fits is shown no more: {error!r}")
