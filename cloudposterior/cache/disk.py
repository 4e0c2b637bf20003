"""A cache in a directory: one netCDF file per result, which any number of processes may share."""

from __future__ import annotations

import os
from pathlib import Path

from cloudposterior.cache.files import FileCache
from cloudposterior.cache.local import LocalStore
from cloudposterior.cache.protocol import Entry
from cloudposterior.cache.upkeep import read_entry

__all__ = ["DiskCache"]


class DiskCache(FileCache):
    """Results as netCDF files ``<root>/<model>/<label>-<8 hex digits of the token>.nc``.

    Each file opens with ``xarray.open_datatree`` and ``arviz.from_netcdf`` alone. Here it is read
    by the layout in it, after its checksum has been found right; no pickle is ever read.

    Parameters
    ----------
    root : str or pathlib.Path
        The directory; made at the first `put`.

    Examples
    --------
    >>> cache = cp.DiskCache("posteriors")
    >>> idata = cp.sample(model, draws=100, tune=100, chains=2, random_seed=1, cache=cache)
    >>> [entry.record.label for entry in cache.entries()]
    ['draws100_tune100_chains2_seed1']
    >>> cache.verify()
    []
    >>> from datetime import timedelta
    >>> cache.prune(older_than=timedelta(days=30))
    []
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        super().__init__(LocalStore(self.root))

    def __repr__(self) -> str:
        """Return how this cache was made."""
        return f"DiskCache({str(self.root)!r})"

    def show(self, name_or_path: str | Path) -> Entry:
        """Return one entry.

        Parameters
        ----------
        name_or_path : str or pathlib.Path
            A path; the file's name, with or without ``.nc``, alone or with its directory
            (``radon/draws1000-0a1b2c3d``); the model's name, where it has one entry; or the
            first digits of the token, four or more.

        Returns
        -------
        Entry
            Without its draws, which are not read.

        Raises
        ------
        FileNotFoundError
            If there is no such entry.
        ValueError
            If several fit; the message lists them.
        CacheFileError
            If a path was given and the file is broken.
        """
        for path in (Path(name_or_path), self.root / name_or_path):
            if os.path.isfile(path):  # unlike Path.is_file, false for any text that is no path
                return read_entry(path)
        return super().show(name_or_path)
