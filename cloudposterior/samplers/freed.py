"""Memory that is freed while a task computes, kept for its next draw.

Dask starts its workers with ``MALLOC_TRIM_THRESHOLD_=65536``, so that they give memory back soon.
glibc then gives back each array above 128 KiB as it is freed, and takes it from the system anew for
the next draw, page by page: a gradient over 50,000 observations takes half as long again.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

__all__ = ["freed_kept"]

# of <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_DEFAULT = 128 * 2**10
_LARGEST_KEPT = 32 * 2**20
"""Arrays up to this size are taken from what was freed; glibc allows no more."""
_KEPT = 2 * _LARGEST_KEPT
"""Freed memory at the end of a heap that is not given back."""

_lock = threading.Lock()
_users = 0


@contextmanager
def freed_kept() -> Iterator[None]:
    """Keep freed memory of this process while one of these blocks is open.

    It is given back when the last one closes. Nothing is changed where the C library is not glibc,
    or where ``MALLOC_MMAP_THRESHOLD_`` is set, by whoever knows better.
    """
    global _users
    libc = _glibc()
    if libc is None or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        yield
        return
    with _lock:
        _users += 1
        _set(libc, _KEPT, _LARGEST_KEPT)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _set(libc, int(os.environ.get("MALLOC_TRIM_THRESHOLD_", _DEFAULT)), _DEFAULT)
                libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, kept: int, largest: int) -> None:
    libc.mallopt(_M_TRIM_THRESHOLD, kept)
    libc.mallopt(_M_MMAP_THRESHOLD, largest)


@cache
def _glibc() -> ctypes.CDLL | None:
    """Give the C library of this process; None where it is another one."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    # musl has none
    return libc if hasattr(libc, "mallopt") else None
