"""What is known of all runs on one scheduler: one table for each, whoever started it."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from cloudposterior.events import Diagnosis, Event, Phase, RunStarted, StopAsked
from cloudposterior.progress.table import RunTable

__all__ = ["Board", "PostedRun", "digest_of"]

_LEFT = ("stopped", "failed")
_MOST_RUNS = 500
_MOST_TRACED = 50
"""Older runs that have ended keep their figures, and lose the draws that are plotted."""
_MOST_AT_ONCE = 1000
_MOST_WAITING = 100
"""More than anybody has, so that who announces runs without end does not fill a scheduler."""


def digest_of(secret: str) -> str:
    """Give what a secret is known by to those who must not know it."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass
class PostedRun:
    """One run on a board.

    Attributes
    ----------
    key : str
        Tells it from others.
    started : RunStarted
        What its client said first.
    since : float
        When that was, in seconds since 1970.
    table : RunTable
        How it stands.
    waiting : dict of str to str
        Who waits for it: the client, by the digest that stops it. Two that ask for the same run
        share it.
    version : int
        Grows with each event.
    """

    key: str
    started: RunStarted
    since: float
    table: RunTable
    waiting: dict[str, str] = field(default_factory=dict)
    version: int = 0

    def stop_digest(self, secret: str) -> str | None:
        """Give the digest by which a secret stops the run; None if it does not."""
        digest = digest_of(secret)
        known = [own for own in self.waiting if own and hmac.compare_digest(own, digest)]
        return known[0] if known and not self.table.ended else None


class Board:
    """Takes the events of all runs in; late comers see the whole state.

    What it holds of a run does not grow with its draws, and the runs that it holds are bounded.

    Parameters
    ----------
    clock : callable
        Gives the time in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._runs: dict[str, PostedRun] = {}

    def __iter__(self) -> Iterator[PostedRun]:
        """Give the runs, the latest first."""
        return reversed(self._runs.values())

    def get(self, key: str) -> PostedRun | None:
        """Give a run by its key."""
        return self._runs.get(key)

    def find(self, submitted: str) -> PostedRun | None:
        """Give the latest run that a task drives, by the key of that task."""
        # those that a client waits for have none
        return next((run for run in self if submitted and run.started.submitted == submitted), None)

    def take(self, key: str, event: Event, *, who: str = "") -> None:
        """Take an event in; those of a run that nobody has announced say nothing to anybody.

        Parameters
        ----------
        key : str
            The run.
        event : Event
            The event.
        who : str
            The digest of who tells it; empty for a worker.
        """
        if isinstance(event, RunStarted):
            self._start(key, event)
            return
        run = self._runs.get(key)
        if run is None or isinstance(event, StopAsked):
            return
        if isinstance(event, Phase) and event.chain is None and event.name in _LEFT:
            run.waiting.pop(who, None)
            if run.waiting:  # others still wait for it
                return
        run.table.update(event)
        run.version += 1
        if isinstance(event, Phase) and run.table.ended:
            self._thin()

    def lose(self, client: str) -> None:
        """Note that a client has gone: what nobody waits for any more does not go on."""
        for key, run in tuple(self._runs.items()):
            for who in [who for who, of in run.waiting.items() if of == client]:
                if run.table.ended:
                    continue
                if run.started.submitted:
                    # Dask gives it to another worker
                    del run.waiting[who]
                    self.take(key, Phase("waiting for workers", detail="who drove it has gone"))
                else:
                    self.take(key, Phase("failed", detail="its client has gone"), who=who)

    def _start(self, key: str, started: RunStarted) -> None:
        run = self._runs.get(key)
        if run is None or run.table.ended:
            self._runs.pop(key, None)
            run = PostedRun(
                key, started, self._clock(), RunTable(key, started.title, started.chains)
            )
            self._runs[key] = run
        if len(run.waiting) < _MOST_WAITING or started.stop_digest in run.waiting:
            run.waiting[started.stop_digest] = started.client
        run.version += 1
        self._thin()

    def _thin(self) -> None:
        """Let go of what is oldest, first among the runs that have ended."""
        ended = [run for run in self._runs.values() if run.table.ended]
        for run in ended[: max(0, len(self._runs) - _MOST_RUNS)]:
            del self._runs[run.key]
        while len(self._runs) > _MOST_AT_ONCE:
            del self._runs[next(iter(self._runs))]
        for run in ended[:-_MOST_TRACED]:
            found = run.table.diagnosis
            if found is not None and found.trace:
                run.table.diagnosis = _without_trace(found)


def _without_trace(found: Diagnosis) -> Diagnosis:
    return replace(found, traced=0, points=0, trace=b"")
