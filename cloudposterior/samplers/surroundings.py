"""What surrounds a chain on a worker: PyTensor's settings, threads, and where PyMC's log goes."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytensor
from threadpoolctl import threadpool_limits

from cloudposterior.errors import ClusterError, warn
from cloudposterior.samplers.doors import COMPILING, doors

__all__ = ["Said", "one_thread", "said_kept", "say", "settings_of"]

Said = tuple[str, int, str] | tuple[type[Warning], str]
"""What PyMC had to say: a logger, a level and a message; or a warning's category and its message.
"""


@contextmanager
def settings_of(settings: Mapping[str, str]) -> Iterator[None]:
    """Compile with the settings of PyTensor that the client has.

    They are the whole process's: nobody else compiles meanwhile.

    Raises
    ------
    ClusterError
        If one of them cannot be changed once PyTensor is loaded.
    """
    config = pytensor.config
    with COMPILING:
        other = {
            name: _parsed(value, getattr(config, name))
            for name, value in settings.items()
            if hasattr(config, name) and str(getattr(config, name)) != value
        }
        flags = config.change_flags(**other)
        try:
            flags.__enter__()
        except Exception as error:
            here = ", ".join(f"{name}={getattr(config, name)!r}" for name in other)
            wanted = ",".join(f"{name}={value}" for name, value in other.items())
            raise ClusterError(
                f"this worker runs with other settings of PyTensor than the client ({here}), and "
                f"they cannot be changed by now: start it with PYTENSOR_FLAGS={wanted!r}"
            ) from error
        try:
            yield
        finally:
            flags.__exit__()


def _parsed(value: str, now: object) -> object:
    return value == "True" if isinstance(now, bool) else value


@dataclass
class _Log(logging.Handler):
    """Keeps what one thread logs."""

    said: list[Said]
    thread: int = field(default_factory=threading.get_ident)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = logging.Handler.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.said.append((record.name, record.levelno, record.getMessage()))


@contextmanager
def said_kept(said: list[Said]) -> Iterator[None]:
    """Keep what this thread logs for PyMC, and warns of, for the client; here nobody reads it."""
    log = logging.getLogger("pymc")
    here = threading.get_ident()

    def by_others(record: logging.LogRecord) -> bool:
        return record.thread != here

    def warned(_: Any, message: Any, category: Any = None, *args: Any, **kwargs: Any) -> None:
        kind = type(message) if isinstance(message, Warning) else category or UserWarning
        said.append((kind, str(message)))

    handler, others = _Log(said), list(log.handlers)
    for other in others:
        other.addFilter(by_others)
    log.addHandler(handler)
    try:
        with doors(warnings, warn=warned):
            yield
    finally:
        log.removeHandler(handler)
        for other in others:
            other.removeFilter(by_others)


def say(said: Iterable[Said], *, quiet: bool) -> None:
    """Log and warn here of what was said elsewhere.

    Parameters
    ----------
    said : iterable of Said
        As `said_kept` kept it.
    quiet : bool
        Whether to log nothing; PyMC warns in any case.
    """
    for one in said:
        if len(one) == 2:
            warn(*one)
        elif not quiet:
            logging.getLogger(one[0]).log(*one[1:])


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
