"""What surrounds a chain on a worker: PyTensor's settings, threads, and where PyMC's log goes."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytensor
from threadpoolctl import ThreadpoolController

from cloudposterior.errors import ClusterError, warn
from cloudposterior.samplers.compiling import COMPILING, guard_compiler
from cloudposterior.samplers.doors import doors
from cloudposterior.samplers.pymc import ANY_COMPILER, compiles_just_in_time

__all__ = ["Said", "one_thread", "said_kept", "say", "settings_of"]

guard_compiler()

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
        If one of them cannot be changed once PyTensor is loaded, or there is no compiler.
    """
    config = pytensor.config
    with COMPILING:
        other = {
            name: _parsed(value, getattr(config, name))
            for name, value in settings.items()
            if hasattr(config, name) and value not in (ANY_COMPILER, str(getattr(config, name)))
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
            _check_compiler(settings)
            yield
        finally:
            flags.__exit__()


def _check_compiler(settings: Mapping[str, str]) -> None:
    """Check that C is compiled here if it is on the client; Numba and JAX do without."""
    wanted = settings.get("cxx") == ANY_COMPILER
    if wanted and not pytensor.config.cxx and not compiles_just_in_time(None):
        raise ClusterError(
            "this worker has no C++ compiler, which the client has: without one PyTensor rounds "
            "otherwise, so these would not be the draws of plain PyMC there. Install g++ here, or "
            "sample with pytensor.config.cxx = '' on the client"
        )


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


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS, OpenMP and Numba to one thread, which is what a task is given.

    OpenMP and Numba count for each thread of the process by itself, so each task limits its own;
    BLAS counts for the process, and is given back when the last task leaves. What is loaded
    during a task is held from the next one on.
    """
    with _numba_held():
        # only now: asked for its threads, Numba may load a library of OpenMP
        libraries = ThreadpoolController()
        with (
            # before BLAS, which may be one that runs in threads of OpenMP
            libraries.select(user_api="openmp").limit(limits=1),
            _blas_held(libraries.select(user_api="blas").lib_controllers),
        ):
            yield


@contextmanager
def _numba_held() -> Iterator[None]:
    if "numba" not in sys.modules:
        yield
        return
    # another thread may be importing it just now
    numba = importlib.import_module("numba")
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


_blas_lock = threading.Lock()
_blas_users = 0
_blas_before: list[tuple[Any, int]] = []


@contextmanager
def _blas_held(libraries: Iterable[Any]) -> Iterator[None]:
    global _blas_users
    with _blas_lock:
        _blas_users += 1
        # those of the first one in; of later ones what was loaded since
        for library in libraries:
            if library.num_threads != 1:
                _blas_before.append((library, library.num_threads))
                _set_threads(library, 1)
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            while _blas_before and not _blas_users:
                _set_threads(*_blas_before.pop())


def _set_threads(library: Any, threads: int) -> None:
    """Set the threads of a library of BLAS, whichever thread has set them before.

    Newer versions of threadpoolctl let one thread of a process do so, and ignore all others.
    """
    let_go = getattr(library, "clear_controlling_thread", lambda force: None)
    let_go(force=True)
    library.set_num_threads(threads)
    let_go(force=True)
