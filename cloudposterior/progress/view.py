"""A run as it is looked at: its table, its display, and whether somebody asked it to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Protocol

from cloudposterior.errors import DisplayWarning, tell
from cloudposterior.events import Event, Phase, RunStarted, StopAsked
from cloudposterior.progress.display import Display, Silence
from cloudposterior.progress.table import RunTable, Table

__all__ = ["RunView", "views_under_way"]

_EVERY_S = 0.25
_HEARD_EVERY_S = 1.0
_HEARD = ("sampling", "computing", "stopping", "gathering")
_UNDER_WAY: list[RunView] = []


def views_under_way() -> list[RunView]:
    """List the runs of this process that have not ended, the latest at the end."""
    return list(_UNDER_WAY)


class _Elsewhere(Protocol):
    """Where else a run is looked at."""

    stop_digest: str

    @property
    def link(self) -> str: ...

    def tell(self, event: Event) -> None: ...


class RunView:
    """Shows a run while it is under way, here and on the dashboard of its cluster.

    Events may come from any thread; it is shown in the thread that samples. A display that breaks
    is dropped with one warning, and the run goes on.

    Parameters
    ----------
    table : RunTable
        The run.
    choose : callable
        Gives the display, from what stops the run.
    """

    def __init__(self, table: RunTable, choose: Callable[[Callable[[], None]], Display]) -> None:
        self.table = table
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._elsewhere: _Elsewhere | None = None
        self._next = 0.0
        self._next_heard = 0.0
        self.listener: Callable[[Table], None] | None = None
        """Called with the table while it is drawn, in the thread that samples."""
        self._why_short = ""
        self._display: Display
        try:
            self._display = choose(self.stop)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is said, and the run goes on)
            self._display = Silence()
            _say_broken(error)

    def __enter__(self) -> RunView:
        _UNDER_WAY.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        _UNDER_WAY.remove(self)
        self._end(kind)
        self._try(self._display.close)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Say how the run has ended when the block ends, while there is still somebody to hear."""
        try:
            yield
        except BaseException as error:
            self._end(type(error))
            raise
        self._end(None)

    def _end(self, kind: type[BaseException] | None) -> None:
        if self.table.ended:
            return
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            self.tell(Phase("failed"))
        else:
            stopped = self.stopped or kind is not None
            self.tell(Phase("stopped") if stopped else Phase("finished", detail=self._why_short))

    @property
    def watched(self) -> bool:
        """Whether anybody can see it."""
        return not isinstance(self._display, Silence) or self._elsewhere is not None

    @property
    def stopped(self) -> bool:
        """Whether somebody asked the run to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask the run to stop: it ends with the draws that it has."""
        self._stop.set()

    def go_on(self) -> None:
        """Forget that somebody asked: it came when all had been drawn."""
        self._stop.clear()

    def cut(self, draws: int, why: str) -> None:
        """Show the chains as whole after so many draws, not counting tuning, and say why."""
        self._why_short = why
        with self._lock:
            whole = self.table.cut(draws)
        for report in whole:
            self.tell(report)

    def share(self, elsewhere: _Elsewhere) -> None:
        """Have the run looked at elsewhere as well, from now on."""
        self._elsewhere = elsewhere
        self._try(lambda table: self._display.link(elsewhere.link))

    def take(self, event: Event) -> None:
        """Take in what somebody tells of the run."""
        if isinstance(event, StopAsked):
            if self._elsewhere is not None and event.stop_digest == self._elsewhere.stop_digest:
                self.stop()
        elif not isinstance(event, RunStarted):
            with self._lock:
                self.table.update(event)

    def follow(self, other: Table) -> None:
        """Show the chains of a run that somebody else tells of."""
        with self._lock:
            self.table.follow(other)

    def tell(self, event: Event) -> None:
        """Take in what is known here only, and tell it elsewhere."""
        self.take(event)
        if self._elsewhere is not None:
            self._elsewhere.tell(event)

    def phase(self, name: str, detail: str = "") -> None:
        """Say what the run does now, and show it at once."""
        self.tell(Phase(name, detail=detail))
        self._next = 0.0
        self.watch()

    def status(self) -> Table:
        """Give the table as it stands."""
        with self._lock:
            return self.table.snapshot()

    def watch(self) -> bool:
        """Show how it stands, if that is due; say whether the run is to stop."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY_S
            self._try(self._display.show)
        if now >= self._next_heard and self.listener is not None and self._is_heard:
            self.listener(self.status())
            # what the listener takes is no reason to call it more often
            self._next_heard = time.monotonic() + _HEARD_EVERY_S
        return self.stopped

    @property
    def _is_heard(self) -> bool:
        return self.table.phase.name in _HEARD

    def _try(self, show: Callable[[Any], None]) -> None:
        table = self.status()
        try:
            show(table)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is said, and the run goes on)
            broken, self._display = self._display, Silence()
            # what it holds of a terminal or a page; it has said already that it is broken
            with suppress(Exception):
                broken.close(table)
            _say_broken(error)


def _say_broken(error: Exception) -> None:
    tell(DisplayWarning, f"the progress is not shown any more: {error!r}; the run goes on")
