"""From what a user passes as ``cache=`` to a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cloudposterior.cache.disk import DiskCache
from cloudposterior.cache.memory import MemoryCache
from cloudposterior.cache.protocol import Cache
from cloudposterior.cache.shared import RemoteCache
from cloudposterior.cache.urls import LOCAL, is_url, local_path, protocol_of

__all__ = ["MEMORY", "CacheChoice", "choose_cache", "open_files"]

CacheChoice = bool | str | Path | Cache | None

MEMORY = MemoryCache()
"""The cache of this process, which every ``cache="memory"`` shares."""


def choose_cache(cache: Any, *, directory: str) -> Cache | None:
    """Open the cache that a ``cache=`` argument names.

    Parameters
    ----------
    cache : {"memory", "disk"}, str, pathlib.Path, bool or Cache
        True is ``"memory"``; False is no cache; a URL is a store that fsspec knows; any other
        string or path is a directory.
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
        For a URL that fsspec does not know, or that names no place.
    ImportError
        For a URL whose protocol needs a package that is not installed.
    """
    if cache is False:
        return None
    if cache is True or cache == "memory":
        return MEMORY
    if cache == "disk":
        return DiskCache(directory)
    if isinstance(cache, str | Path) and str(cache):
        return open_files(cache)
    if all(callable(getattr(cache, name, None)) for name in ("get", "put", "entries")):
        return cache  # type: ignore[no-any-return]
    raise TypeError(
        f"cache={cache!r} is no cache: pass 'memory', 'disk', a directory as str or Path, a URL "
        "such as 's3://bucket/prefix', or False for none"
    )


def open_files(place: str | Path) -> DiskCache | RemoteCache:
    """Open the cache of files in a directory, or behind a URL.

    Raises
    ------
    ValueError, ImportError
        As `choose_cache`.
    """
    if is_url(place):
        url = str(place)
        return DiskCache(local_path(url)) if protocol_of(url) in LOCAL else RemoteCache(url)
    if "\0" in str(place):
        raise ValueError(f"cache={str(place)!r} has a NUL in it, which no path may have")
    return DiskCache(Path(place).expanduser())
