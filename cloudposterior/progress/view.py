"""A run as it is looked at: its table, its display, and whether somebody asked it to stop."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

from cloudposterior.errors import DisplayWarning, tell
from cloudposterior.events import ChainReport, Event, Phase
from cloudposterior.progress.display import Display, Silence
from cloudposterior.progress.table import RunTable

__all__ = ["RunView"]

_EVERY_S = 0.25


class RunView:
    """Shows a run while it is under way.

    Events may come from any thread; it is shown in the thread that samples. A display that breaks
    is dropped with one warning, and the run goes on.

    Parameters
    ----------
    table : RunTable
        The run.
    display : Display
        Where it is shown.
    """

    def __init__(self, table: RunTable, display: Display) -> None:
        self.table = table
        self._display = display
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._next = 0.0

    def __enter__(self) -> RunView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is not None:
            self.take(Phase("stopped" if kind is KeyboardInterrupt else "failed"))
        elif not self.table.ended:
            self.take(Phase("stopped" if self.stopped else "finished"))
        self._try(self._display.close)

    @property
    def stopped(self) -> bool:
        """Whether somebody asked the run to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask the run to stop: it ends with the draws that it has."""
        self._stop.set()

    def take(self, event: Event) -> None:
        """Take an event in."""
        if isinstance(event, ChainReport | Phase):
            with self._lock:
                self.table.update(event)

    def phase(self, name: str, detail: str = "") -> None:
        """Say what the run does now, and show it at once."""
        self.take(Phase(name, detail=detail))
        self._next = 0.0
        self.watch()

    def watch(self) -> bool:
        """Show how it stands, if that is due; say whether the run is to stop."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY_S
            self._try(self._display.show)
        self._try(lambda _: self._display.poll())
        return self.stopped

    def _try(self, show: Any) -> None:
        with self._lock:
            table = self.table.snapshot()
        try:
            show(table)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is said, and the run goes on)
            self._display = Silence()
            tell(DisplayWarning, f"the progress is not shown any more: {error!r}; the run goes on")
