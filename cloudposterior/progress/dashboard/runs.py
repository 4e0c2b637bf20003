"""What the scheduler knows of runs: a bounded number of them, each with its table."""

from __future__ import annotations

import hashlib
import hmac
import threading
from dataclasses import dataclass, field
from typing import Any

from cloudposterior.events import ChainReport, Phase, RunStarted, StopAsked, from_message
from cloudposterior.progress.dashboard.diagnostics import Diagnostics
from cloudposterior.progress.table import RunTable, Table

__all__ = ["Runs", "Sight"]

_MOST_RUNS = 50
_MOST_CHAINS = 10_000
_MOST_LETTERS = 300


@dataclass(frozen=True)
class Sight:
    """A run at one moment, as the page shows it.

    Attributes
    ----------
    owner : str
        Who runs it.
    table : Table
        Where its chains stand.
    diagnostics : Diagnostics or None
        How good its posterior is; None as long as nobody knows.
    stop_asked : bool
        Whether somebody asked for its end.
    """

    owner: str
    table: Table
    diagnostics: Diagnostics | None
    stop_asked: bool


@dataclass
class _Known:
    started: RunStarted
    table: RunTable
    diagnostics: Diagnostics | None = None
    stop_asked: bool = False
    version: int = 0


@dataclass
class Runs:
    """What is known of runs. It may be asked from any thread: Bokeh 3.10 draws pages in others.

    Attributes
    ----------
    most : int
        How many runs are kept; of more, those that ended first are forgotten first.
    """

    most: int = _MOST_RUNS
    _known: dict[str, _Known] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, message: dict[str, Any]) -> None:
        """Take in what was logged; what says nothing of a known run changes nothing.

        Raises
        ------
        KeyError, TypeError, ValueError, AttributeError
            If the message is none that this package wrote.
        """
        read = from_message(message)
        if read is None:
            return
        run, event = read
        with self._lock:
            if isinstance(event, RunStarted):
                self._begin(run, event)
                return
            known = self._known.get(run)
            if known is None:
                return
            if isinstance(event, ChainReport | Phase):
                known.table.update(event)
            elif isinstance(event, StopAsked):
                known.stop_asked = True
            known.version += 1

    def take_diagnostics(self, run: str, diagnostics: Diagnostics) -> None:
        """Take in how good the posterior of a run is at present."""
        with self._lock:
            known = self._known.get(run)
            if known is not None:
                known.diagnostics = diagnostics
                known.version += 1

    def version(self, run: str) -> int:
        """Count the news of a run; a higher count means that there is something new to see."""
        with self._lock:
            known = self._known.get(run)
            return -1 if known is None else known.version

    def look(self, run: str) -> Sight | None:
        """Give a run as it stands; None where it is not known (any more)."""
        with self._lock:
            known = self._known.get(run)
            if known is None:
                return None
            return Sight(
                owner=known.started.owner[:_MOST_LETTERS],
                table=known.table.snapshot(),
                diagnostics=known.diagnostics,
                stop_asked=known.stop_asked,
            )

    def listed(self) -> list[tuple[str, str]]:
        """List the runs, those that began last first: how each is called inside, and in words."""
        with self._lock:
            known = list(self._known.items())
        return [(run, _words(one)) for run, one in reversed(known)]

    def may_stop(self, run: str, secret: str) -> bool:
        """Tell whether a secret is the one that the link to the run carries."""
        with self._lock:
            known = self._known.get(run)
        if known is None or not known.started.stop_digest:
            return False
        digest = hashlib.sha256(secret.encode()).hexdigest()
        return hmac.compare_digest(digest.encode(), known.started.stop_digest.encode())

    def _begin(self, run: str, started: RunStarted) -> None:
        # who tells of a run a second time cannot make another secret stop it
        if run in self._known:
            return
        title, chains = started.title[:_MOST_LETTERS], min(int(started.chains), _MOST_CHAINS)
        self._known[run] = _Known(started, RunTable(run, title, chains))
        while len(self._known) > self.most:
            ended = (name for name, known in self._known.items() if known.table.ended)
            del self._known[next(ended, next(iter(self._known)))]


def _words(known: _Known) -> str:
    now = known.table.phase.name
    return " · ".join(part for part in (known.table.title, known.started.owner, now) if part)
