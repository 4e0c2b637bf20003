"""What surrounds a chain on a worker: PyTensor's settings, threads, and where PyMC's log goes."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytensor
from threadpoolctl import threadpool_limits

from cloudposterior.samplers.doors import COMPILING

__all__ = ["log_kept", "one_thread", "settings_of"]


@contextmanager
def settings_of(settings: Mapping[str, str]) -> Iterator[None]:
    """Compile with the settings of PyTensor that the client has.

    They are the whole process's: nobody else compiles meanwhile.
    """
    config = pytensor.config
    with COMPILING:
        other = {
            name: _parsed(value, getattr(config, name))
            for name, value in settings.items()
            if hasattr(config, name) and str(getattr(config, name)) != value
        }
        with config.change_flags(**other):
            yield


def _parsed(value: str, now: object) -> object:
    return value == "True" if isinstance(now, bool) else value


@dataclass
class _Log(logging.Handler):
    """Keeps what one thread logs."""

    lines: list[tuple[str, int, str]]
    thread: int = field(default_factory=threading.get_ident)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = logging.Handler.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.lines.append((record.name, record.levelno, record.getMessage()))


@contextmanager
def log_kept(lines: list[tuple[str, int, str]]) -> Iterator[None]:
    """Keep what PyMC logs in this thread for the client, who shows it; here nobody reads it."""
    log = logging.getLogger("pymc")
    here = threading.get_ident()

    def by_others(record: logging.LogRecord) -> bool:
        return record.thread != here

    handler, others = _Log(lines), list(log.handlers)
    for other in others:
        other.addFilter(by_others)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        for other in others:
            other.removeFilter(by_others)


_threads = threading.Lock()
_users = 0
_limits: threadpool_limits | None = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS, OpenMP and Numba to one thread, which is what a task is given.

    The limits are the whole process's: they are lifted when the last one leaves.
    """
    global _users, _limits
    with _threads:
        _users += 1
        if _limits is None:
            _limits = threadpool_limits(limits=1)
    numba = sys.modules.get("numba")
    before = numba.get_num_threads() if numba is not None else 1
    if numba is not None:
        numba.set_num_threads(1)
    try:
        yield
    finally:
        if numba is not None:
            numba.set_num_threads(before)
        with _threads:
            _users -= 1
            if _users == 0 and _limits is not None:
                _limits.restore_original_limits()
                _limits = None
