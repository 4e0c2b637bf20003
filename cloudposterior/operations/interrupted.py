"""Whether a call was interrupted: some of PyMC's functions return what they have by then."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["interrupts_noted"]


@contextmanager
def interrupts_noted() -> Iterator[list[int]]:
    """Note each Ctrl-C, which goes on to whoever handled it before.

    Yields
    ------
    list of int
        One item for each. Interrupts come to the main thread; elsewhere there are none.
    """
    noted: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield noted
        return

    def note(number: int, frame: Any) -> Any:
        noted.append(number)
        return before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
