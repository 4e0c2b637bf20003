"""Workers that are lost: who tells of them, and which chains each of them drew."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cloudposterior.cluster.connect import scheduler_of
from cloudposterior.errors import ClusterWarning, tell
from cloudposterior.events import TaskBegun, WorkerLost

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Losses", "tell_losses"]

_told: WeakKeyDictionary[Client, tuple[str, bool]] = WeakKeyDictionary()
"""By client its scheduler, and whether that tells of losses."""


def tell_losses(client: Client) -> bool:
    """Have a scheduler tell of each worker that it loses, and of the tasks that were there.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.

    Returns
    -------
    bool
        Whether it does so; if it cannot, that was said once.
    """
    # a client may have another scheduler by now, at the same address
    scheduler = scheduler_of(client)
    if client not in _told or _told[client][0] != scheduler:
        # it brings in distributed
        plugin = importlib.import_module("cloudposterior.cluster.plugin")
        try:
            client.register_plugin(plugin.TellLosses())
        except Exception as error:  # noqa: BLE001  (what a scheduler lacks may raise anything)
            _told[client] = scheduler, False
            tell(
                ClusterWarning,
                f"the scheduler cannot tell which chains a lost worker had ({error!r}): such "
                "chains are drawn again from their start",
            )
        else:
            _told[client] = scheduler, True
    return _told[client][1]


class Losses:
    """What a run hears of its workers; it may hear it in any thread."""

    def __init__(self) -> None:
        self._losses: deque[WorkerLost] = deque()
        # by task, the worker that draws it
        self._drawing: dict[str, str] = {}
        self._drew: set[str] = set()

    def hear(self, event: TaskBegun | WorkerLost) -> None:
        """Take in what is told."""
        if isinstance(event, TaskBegun):
            self._drawing[event.key] = event.worker
        else:
            self._losses.append(event)

    @property
    def warm(self) -> frozenset[str]:
        """The workers that have drawn, and need not compile any more."""
        return frozenset(self._drew)

    def came_in(self, key: str) -> None:
        """Note that what a task drew is here."""
        worker = self._drawing.pop(key, "")
        if worker:
            self._drew.add(worker)

    def forget(self, keys: Iterable[str]) -> None:
        """Note that nobody waits for tasks any more."""
        for key in keys:
            self._drawing.pop(key, None)

    def each(self) -> Iterator[tuple[WorkerLost, set[str]]]:
        """Give the losses that were not given yet.

        Yields
        ------
        tuple of WorkerLost and set of str
            With each the tasks that the worker had begun to draw. Where it had begun none, it
            compiled.
        """
        while self._losses:
            loss = self._losses.popleft()
            self._drew.discard(loss.worker)
            begun = {key for key in loss.drawing if key in self._drawing}
            # those too that it had drawn: another of its address has not compiled
            self.forget([key for key, of in list(self._drawing.items()) if of == loss.worker])
            self.forget(begun)
            yield loss, begun
