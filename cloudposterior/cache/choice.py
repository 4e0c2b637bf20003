"""From what a user passes as ``cache=`` to a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cloudposterior.cache.disk import DiskCache
from cloudposterior.cache.memory import MemoryCache
from cloudposterior.cache.protocol import Cache

__all__ = ["MEMORY", "CacheChoice", "choose_cache"]

CacheChoice = bool | str | Path | Cache | None

MEMORY = MemoryCache()
"""The cache of this process, which every ``cache="memory"`` shares."""


def choose_cache(cache: Any, *, directory: str) -> Cache | None:
    """Open the cache that a ``cache=`` argument names.

    Parameters
    ----------
    cache : {"memory", "disk"}, str, pathlib.Path, bool or Cache
        True is ``"memory"``; False is no cache; any other string or path is a directory.
    directory : str
        The directory that ``"disk"`` stands for.

    Returns
    -------
    Cache or None
        None for no cache.

    Raises
    ------
    TypeError
        For anything else.
    ValueError
        For a URL, which is not a directory.
    """
    if cache is False:
        return None
    if cache is True or cache == "memory":
        return MEMORY
    if cache == "disk":
        return DiskCache(directory)
    if isinstance(cache, str) and "://" in cache:
        raise ValueError(f"cache={cache!r} is a URL; pass 'memory', 'disk' or a local directory")
    if isinstance(cache, str | Path) and "\0" in str(cache):
        raise ValueError(f"cache={str(cache)!r} has a NUL in it, which no path may have")
    if isinstance(cache, str | Path) and str(cache):
        return DiskCache(Path(cache).expanduser())
    if all(callable(getattr(cache, name, None)) for name in ("get", "put", "entries")):
        return cache  # type: ignore[no-any-return]
    raise TypeError(
        f"cache={cache!r} is no cache: pass 'memory', 'disk', a directory as str or Path, "
        "or False for none"
    )
