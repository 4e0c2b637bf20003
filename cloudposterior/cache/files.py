"""A cache of sealed files, in any store: the same names, the same checks, the same promises.

An entry appears whole or not at all; what is found broken is moved aside, and nothing is deleted
but by `discard`, `prune` and `clear`.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import xarray as xr

from cloudposterior.cache import upkeep
from cloudposterior.cache.hdf5 import open_datasets
from cloudposterior.cache.layout import check_layout, plan_tree, rebuild_tree
from cloudposterior.cache.lazy import KeptFile
from cloudposterior.cache.names import SUFFIX, file_names, safe_name
from cloudposterior.cache.netcdf import write_netcdf
from cloudposterior.cache.outside import readable, split_text
from cloudposterior.cache.protocol import Entry, Record, check_record
from cloudposterior.cache.seal import FORMAT, append_seal, check_description, read_seal
from cloudposterior.cache.store import Item, ReplacedError, Store
from cloudposterior.config import stays_on_disk
from cloudposterior.errors import CacheFileError, CacheWarning, warn

__all__ = ["FileCache"]

_NO_SUCH_PLACE = {errno.ENOTDIR, errno.ENAMETOOLONG}
# How often a file is read that writers replace while it is read, or a file written whose directory
# is removed while it is written.
_ATTEMPTS = 3


class FileCache:
    """Results as netCDF files ``<model>/<label>-<8 hex digits of the token>.nc`` in a store.

    Parameters
    ----------
    store : Store
        Where the files lie.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # a setting that is none is told of before hours of sampling
        stays_on_disk(0)

    def get(self, token: str, *, model: str, label: str) -> tuple[xr.DataTree, Entry] | None:
        """Return the result under `token`, which is the caller's own, and its entry.

        A file that is torn, foreign, of another format, or made up to do harm is a miss, with one
        `CacheWarning`; it is moved aside in its directory, not deleted. A file that cannot be read
        is a miss with a warning, and stays.

        Of a result larger than the setting ``cloudposterior.lazy-above``, large arrays are left in
        the file, and come as dask arrays. They stay readable when the entry is removed.

        Parameters
        ----------
        token : str
            The full token; a file with another is no hit.
        model, label : str
            As in the record; they name the file.

        Returns
        -------
        tuple of xarray.DataTree and Entry, or None
            None where there is no such entry.
        """
        directory = safe_name(model)
        for name in file_names(label, token):
            try:
                found = self._read(directory, name, token)
            except FileNotFoundError:
                continue  # never there, or removed or moved by another process meanwhile
            except (OSError, MemoryError) as error:
                if isinstance(error, OSError) and error.errno in _NO_SUCH_PLACE:
                    return None  # nothing lies there, and nothing can: `put` will say so
                path = self._store.locate(directory, name)
                reason = str(error) or "there is not enough memory"
                warn(CacheWarning, f"{path} is not used: {reason}")
                return None
            if found is not None:
                return found
        return None

    def _read(self, directory: str, name: str, token: str) -> tuple[xr.DataTree, Entry] | None:
        """Return what a file holds; None if it is a whole entry with another token, or broken."""
        for _ in range(_ATTEMPTS):
            item = self._store.find(directory, name)
            try:
                with self._store.open(item) as file:
                    return _read_file(file, token, self._store.locate(directory, name))
            except ReplacedError:
                continue
            except CacheFileError as error:
                # false where a writer has put another in its place: that is read now
                if self._move_aside(item, str(error)):
                    return None
        return None

    def put(self, tree: xr.DataTree, record: Record) -> Entry:
        """Write a result, in the place of an entry with the same token.

        Parameters
        ----------
        tree : xarray.DataTree
            The result; not changed.
        record : Record
            What is known of it.

        Returns
        -------
        Entry
            With the path of the file.

        Raises
        ------
        OSError
            If it cannot be written: disk full, read-only, no such place.
        TypeError
            If something in the tree cannot be held exactly; the message names it.
        ValueError
            If the record has no proper token or date, or the tree is nested too deeply.
        """
        check_record(record)
        groups, layout = plan_tree(tree)
        described = json.loads(json.dumps({"record": vars(record), "layout": layout}))
        text = check_description(described)
        # what is to be read in parts lies there as it is
        compress = not stays_on_disk(check_layout(described["layout"]))
        attrs = _root_attributes(record, layout)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._store.write(safe_name(record.model)) as new:
                    write_netcdf(new.file, groups, attrs, compress=compress)
                    size = append_seal(new.file, text)
                    directory, name = self._place(record)
                    new.publish(name)
            except FileNotFoundError:  # somebody removed the directory, or the file, meanwhile
                if attempt == _ATTEMPTS:
                    raise
            else:
                break
        return Entry(Record(**described["record"]), self._store.locate(directory, name), size)

    def scratch(self, size_bytes: int) -> BinaryIO:
        """Open a file without a name, for a result that has no room in memory until it is put.

        Parameters
        ----------
        size_bytes : int
            How large the file is; the room for it is taken at once.

        Returns
        -------
        file object
            Open for writing and reading; the file is gone when it is closed.

        Raises
        ------
        OSError
            If there is not so much room.
        """
        file = tempfile.TemporaryFile(dir=self._store.scratch_directory())  # noqa: SIM115
        try:
            if hasattr(os, "posix_fallocate"):
                # else a full disk would end the process, when a page is written to it
                os.posix_fallocate(file.fileno(), 0, size_bytes)
            else:
                file.truncate(size_bytes)
        except BaseException:
            file.close()
            raise
        return file

    def _place(self, record: Record) -> tuple[str, str]:
        """Return the first of an entry's possible places that no other entry has."""
        directory = safe_name(record.model)
        for name in file_names(record.label, record.token):
            if self._token_at(directory, name) in (None, record.token):
                return directory, name
        raise AssertionError("the last name has the whole token")  # pragma: no cover

    def _token_at(self, directory: str, name: str) -> str | None:
        """Return the token of the entry in a place, which is free now where there is none."""
        for _ in range(_ATTEMPTS):
            try:
                item = self._store.find(directory, name)
                return upkeep.entry_of(self._store, item).record.token
            except ReplacedError:
                continue
            except FileNotFoundError:
                return None
            except CacheFileError as error:
                if self._move_aside(item, str(error)):
                    return None
        return None

    def _move_aside(self, item: Item, reason: str) -> bool:
        """Take a broken file out of the way, and say so in one warning; False if it is gone."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = f"{item.name.removesuffix(SUFFIX)[:60]}.aside-{now}-{uuid.uuid4().hex[:8]}"
        try:
            if not self._store.set_aside(item, aside):
                return False
        except OSError as error:
            outcome = f"it could not be moved aside ({error})"
        else:
            outcome = f"it was moved aside to {aside}"
        path = self._store.locate(item.directory, item.name)
        warn(CacheWarning, f"{path} is not used: {reason}; {outcome}")
        return True

    def discard(self, token: str, *, model: str, label: str) -> bool:
        """Remove the entry under `token`, and say whether there was one.

        Parameters
        ----------
        token : str
            The full token; a file with another stays, and so does one that is broken.
        model, label : str
            As in the record; they name the file.

        Returns
        -------
        bool
            Whether there was one.

        Raises
        ------
        OSError
            If it cannot be removed.
        """
        directory = safe_name(model)
        removed = [
            upkeep.remove_file(self._store, directory, name, token)
            for name in file_names(label, token)
        ]
        return any(removed)

    def entries(self) -> list[Entry]:
        """List the whole entries by date; the broken ones are listed by `verify`.

        Only the end of each file is read and checked, not the draws.

        Returns
        -------
        list of Entry
            The oldest first.
        """
        return upkeep.entries(self._store)

    def near(
        self, token: str, *, model: str, label: str
    ) -> tuple[Iterator[Entry], Iterator[Entry]]:
        """Give the entries that are most like one, without a look at all the others.

        Parameters
        ----------
        token : str
            The full token.
        model, label : str
            As in the record; they name the file.

        Returns
        -------
        own : iterator of Entry
            The model's: that under the token, if there is one, then the newest files, a thousand
            at most. Each is read when it is asked for.
        others : iterator of Entry
            The newest of some models whose names are most like this one's.
        """
        return upkeep.near(self._store, token, model, label)

    def verify(self) -> list[tuple[Path | str, str]]:
        """Read every byte of every file, and return the broken ones.

        Returns
        -------
        list of tuple of pathlib.Path or str, and str
            The path, and what is wrong.
        """
        return upkeep.verify(self._store)

    def prune(
        self,
        *,
        older_than: timedelta | None = None,
        max_size_bytes: int | None = None,
        keep: int | None = None,
        dry_run: bool = False,
    ) -> list[Entry]:
        """Remove the oldest entries, and what writers that died over a day ago left behind.

        Parameters
        ----------
        older_than : datetime.timedelta, optional
            Remove entries made longer ago; None for no limit.
        max_size_bytes : int, optional
            Remove the oldest until the rest takes no more room; None for no limit.
        keep : int, optional
            Keep so many of the newest at most; None for no limit.
        dry_run : bool, default False
            Remove nothing.

        Returns
        -------
        list of Entry
            What was removed, or would be, the oldest first. How old an entry is says the clock of
            the machine that made it.

        Raises
        ------
        ValueError
            If a limit is negative.
        """
        doomed = upkeep.choose(self.entries(), older_than, max_size_bytes, keep)
        return upkeep.remove(self._store, doomed, dry_run=dry_run)

    def clear(self, dry_run: bool = False) -> list[Entry]:
        """Remove all entries, and return them; files that are not ours, or broken, stay.

        Parameters
        ----------
        dry_run : bool, default False
            Remove nothing, only return what would be.

        Returns
        -------
        list of Entry
            What was removed, or would be.
        """
        return upkeep.remove(self._store, self.entries(), dry_run=dry_run)

    def show(self, name_or_path: str | Path) -> Entry:
        """Return one entry.

        Parameters
        ----------
        name_or_path : str or pathlib.Path
            The file's name, with or without ``.nc``, alone or with its directory
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
        """
        return upkeep.find(self._store, str(name_or_path))


def _read_file(file: BinaryIO, token: str, path: Path | str) -> tuple[xr.DataTree, Entry] | None:
    """Return what a file holds; None if that is a whole entry with another token."""
    seal = read_seal(file)
    entry = upkeep.as_entry(path, seal)
    if entry.record.token != token:
        return None
    size = upkeep.check_file(file, seal)
    # Windows has no reading at a place, and would keep an open file from being replaced
    is_left = stays_on_disk(size) and hasattr(os, "pread")
    kept = KeptFile(path, seal.digest, file) if is_left else None
    with upkeep.understood("layout"), open_datasets(file, seal.data_bytes, kept) as datasets:
        return rebuild_tree(seal.description["layout"], datasets.read), entry


def _root_attributes(record: Record, layout: object) -> dict[str, Any]:
    """Return what other readers see of the entry, in the root group."""
    texts = {
        "token": record.token,
        "model": readable(record.model),
        "label": readable(record.label),
        "manifest": json.dumps(record.manifest),
        "versions": json.dumps(record.versions),
        "created": record.created,
        "random_seed": json.dumps(record.random_seed),
        "layout": json.dumps(layout),
    }
    attrs: dict[str, Any] = {"cloudposterior_format": FORMAT}
    for name, text in texts.items():
        attrs.update(split_text(f"cloudposterior_{name}", text))
    return {**attrs, "cloudposterior_elapsed_s": float(record.elapsed_s)}
