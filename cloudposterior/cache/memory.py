"""A cache that lives as long as its process."""

from __future__ import annotations

import json
import threading

import xarray as xr

from cloudposterior.cache.protocol import Entry, Record, check_record

__all__ = ["MemoryCache"]


class MemoryCache:
    """Results in memory, under their full tokens; safe to share between threads.

    A result is copied on its way in and on its way out, so that no caller changes another's.

    Examples
    --------
    >>> cache = cp.MemoryCache()
    >>> idata = cp.sample(model, draws=100, tune=100, chains=2, cache=cache)
    >>> len(cache.entries())
    1
    >>> cache.clear()
    >>> cache.entries()
    []
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[xr.DataTree, Entry]] = {}
        self._lock = threading.Lock()

    def get(self, token: str, *, model: str, label: str) -> tuple[xr.DataTree, Entry] | None:
        """Return a copy of the result under `token`, and its entry; None where there is none.

        Parameters
        ----------
        token : str
            The full token.
        model, label : str
            Not needed here: the token says all.

        Returns
        -------
        tuple of xarray.DataTree and Entry, or None
            The tree is the caller's own.
        """
        with self._lock:
            kept = self._kept.get(token)
        if kept is None:
            return None
        tree, entry = kept
        return _own_copy(tree), entry

    def put(self, tree: xr.DataTree, record: Record) -> Entry:
        """Keep a copy of a result, in the place of an entry with the same token.

        Parameters
        ----------
        tree : xarray.DataTree
            The result; lazy variables are computed.
        record : Record
            What is known of it.

        Returns
        -------
        Entry
            As `entries` lists it.

        Raises
        ------
        ValueError
            If the record has no proper token or date.
        TypeError
            If JSON cannot hold the record.
        """
        check_record(record)
        copy = _own_copy(tree)
        # through JSON, as on disk: the entry shares no dict with the caller
        record = Record(**json.loads(json.dumps(vars(record))))
        size = sum(node.to_dataset(inherit=False).nbytes for node in copy.subtree)
        entry = Entry(record, path=None, size_bytes=size)
        with self._lock:
            self._kept[record.token] = (copy, entry)
        return entry

    def discard(self, token: str, *, model: str, label: str) -> bool:
        """Forget the entry under `token`, and say whether there was one.

        Parameters
        ----------
        token : str
            The full token.
        model, label : str
            Not needed here: the token says all.

        Returns
        -------
        bool
            Whether there was one.
        """
        with self._lock:
            return self._kept.pop(token, None) is not None

    def entries(self) -> list[Entry]:
        """List what is kept.

        Returns
        -------
        list of Entry
            In the order in which they came.
        """
        with self._lock:
            return [entry for _, entry in self._kept.values()]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()


def _own_copy(tree: xr.DataTree) -> xr.DataTree:
    """Return a copy that shares nothing with `tree`, with lazy variables computed."""
    if tree.parent is not None:
        tree = tree.copy()  # a root of its own, with the coordinates that it inherits
    groups = {
        node.path: node.to_dataset(inherit=False).copy(deep=True).load(scheduler="threads")
        for node in tree.subtree
    }
    copy = xr.DataTree.from_dict(groups)
    copy.name = tree.name
    return copy
