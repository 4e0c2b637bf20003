"""A cache behind a URL, which a team shares."""

from __future__ import annotations

from typing import Any

from cloudposterior.cache.files import FileCache
from cloudposterior.cache.local import LocalStore
from cloudposterior.cache.remote import RemoteStore
from cloudposterior.cache.store import Store
from cloudposterior.cache.urls import LOCAL, local_path, protocol_of, shown

__all__ = ["RemoteCache"]


class RemoteCache(FileCache):
    """Results as netCDF files ``<url>/<model>/<label>-<8 hex digits of the token>.nc``.

    The files and their checks are those of `DiskCache`. What is promised of a store depends on it:
    see the page on files of the cache. The object can be pickled, with its options, and be used by
    any number of processes.

    Parameters
    ----------
    url : str
        Any URL that fsspec knows, e.g. ``"s3://bucket/prefix"``; the bucket must exist.
    **storage_options : Any
        What fsspec's file system takes: credentials, an endpoint. They appear in no message.

    Attributes
    ----------
    url : str
        The URL, without what is secret in it.
    shared : bool
        Whether other machines reach it, too; of a URL of this machine they do not.

    Raises
    ------
    ValueError
        If fsspec does not know the protocol, or the URL names no place.
    ImportError
        If the package of the protocol is missing.

    Examples
    --------
    >>> cache = cp.RemoteCache("memory://team/posteriors")
    >>> idata = cp.sample(model, draws=100, tune=100, chains=2, random_seed=1, cache=cache)
    >>> cache.entries()[0].path
    'memory://team/posteriors/mu/draws100_tune100_chains2_seed1-....nc'

    With options, of which nothing is shown:

    >>> cp.RemoteCache("s3://bucket/prefix", key="...", secret="...")  # doctest: +SKIP
    RemoteCache('s3://bucket/prefix', key=***, secret=***)
    """

    def __init__(self, url: str, **storage_options: Any) -> None:
        self.url = shown(url)
        self.shared = protocol_of(url) not in {*LOCAL, "memory"}
        self._options = tuple(storage_options)
        super().__init__(_open_store(url, storage_options))

    def __repr__(self) -> str:
        """Return how this cache was made, without anything secret."""
        options = [f", {name}=***" for name in self._options]
        return f"RemoteCache({self.url!r}{''.join(options)})"


def _open_store(url: str, options: dict[str, Any]) -> Store:
    if protocol_of(url) in LOCAL:  # a directory, with all that can be promised of one
        return LocalStore(local_path(url))
    return RemoteStore(url, options)
