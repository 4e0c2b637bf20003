"""What PyTensor cannot do in two threads of one process at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytensor.tensor.basic

__all__ = ["COMPILING", "guard_compiler"]

COMPILING = threading.RLock()
"""Held while PyTensor compiles."""


class _Guarded:
    """PyTensor's settings, which one thread at a time may change."""

    def __init__(self, config: Any) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)

    @contextmanager
    def change_flags(self, **flags: Any) -> Iterator[None]:
        with COMPILING, self._config.change_flags(**flags):
            yield


def guard_compiler() -> None:
    """Let the shapes of two graphs be inferred one after the other.

    PyTensor hides its compiler from itself for as long as that takes. Of two threads that build
    graphs at once, the later one takes for the setting what the earlier one has put there for the
    moment, and leaves the process without a compiler for good: slow, and with other last bits.
    """
    here = pytensor.tensor.basic
    if not isinstance(here.config, _Guarded):
        here.config = _Guarded(here.config)
