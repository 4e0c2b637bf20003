"""Tasks that were told to stop, in a worker; it needs no PyMC, which an idle one may lack yet."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

__all__ = ["is_stopped", "stop"]

_MOST_STOPPED = 100_000
_lock = threading.Lock()
_stopped: OrderedDict[str, None] = OrderedDict()


def stop(keys: Iterable[str]) -> None:
    """End the segments that these tasks draw, or will draw, on this worker at once.

    A task that ends early is none the worse: the chain can go on from there.
    """
    with _lock:
        _stopped.update(dict.fromkeys(keys))
        while len(_stopped) > _MOST_STOPPED:
            _stopped.popitem(last=False)


def is_stopped(key: str) -> bool:
    """Tell whether a task was told to stop."""
    return key in _stopped
