"""Events of a cluster on their way to the tables of the runs that are under way here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from cloudposterior.events import TOPIC, Event, from_message

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["events_of"]

_lock = threading.Lock()
# a client has one handler for a topic, and may have several runs
_takers: WeakKeyDictionary[Client, list[tuple[str, Callable[[Event], None]]]]
_takers = WeakKeyDictionary()


@contextmanager
def events_of(client: Client, run: str, take: Callable[[Event], None]) -> Iterator[None]:
    """Have a function called with the events of a run, in the thread of the client's loop.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    run : str
        The run.
    take : callable
        Called with each event.
    """
    with _lock:
        takers = _takers.setdefault(client, [])
        if not takers:
            client.subscribe_topic(TOPIC, lambda event: _hand_on(takers, event))
        mine = (run, take)
        takers.append(mine)
    try:
        yield
    finally:
        with _lock:
            takers.remove(mine)
            if not takers and client.status == "running":
                client.unsubscribe_topic(TOPIC)


def _hand_on(takers: list[tuple[str, Callable[[Event], None]]], event: Any) -> None:
    # Dask hands over when and what
    message = event[1] if isinstance(event, tuple | list) else event
    read = from_message(message) if isinstance(message, dict) else None
    if read is not None:
        # a copy: others come and go meanwhile
        for run, take in list(takers):
            if run == read[0]:
                take(read[1])
