"""A cache in a directory: one netCDF file per result, which any number of processes may share.

An entry appears by a rename, whole or not at all; what is found broken is moved aside, and
nothing is deleted but by `discard`, `prune` and `clear`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import xarray as xr

from cloudposterior.cache import upkeep
from cloudposterior.cache.layout import plan_tree, rebuild_tree
from cloudposterior.cache.names import SUFFIX, file_names, safe_name
from cloudposterior.cache.netcdf import open_datasets, write_netcdf
from cloudposterior.cache.outside import readable, split_text
from cloudposterior.cache.protocol import Entry, Record, check_record
from cloudposterior.cache.seal import FORMAT, Seal, append_seal, check_all, open_file, read_seal
from cloudposterior.errors import CacheFileError, CacheWarning, warn

__all__ = ["DiskCache"]

_NO_SUCH_PLACE = {errno.ENOTDIR, errno.ENAMETOOLONG}


class DiskCache:
    """Results as netCDF files ``<root>/<model>/<label>-<8 hex digits of the token>.nc``.

    Each file opens with ``xarray.open_datatree`` and ``arviz.from_netcdf`` alone. Here it is read
    by the layout in it, after its checksum has been found right; no pickle is ever read.

    Parameters
    ----------
    root : str or pathlib.Path
        The directory; made at the first `put`.

    Examples
    --------
    >>> cache = DiskCache(".cloudposterior")
    >>> cache.prune(older_than=timedelta(days=30), max_size_bytes=None, keep=None, dry_run=True)
    []
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        """Return how this cache was made."""
        return f"DiskCache({str(self.root)!r})"

    def get(self, token: str, *, model: str, label: str) -> tuple[xr.DataTree, Entry] | None:
        """Return the result under `token`, which is the caller's own, and its entry.

        A file that is torn, foreign or of another format is a miss, with one `CacheWarning`; it is
        moved aside in its directory, not deleted. A file that cannot be read is a miss with a
        warning, and stays.

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
        for name in file_names(label, token):
            path = self.root / safe_name(model) / name
            try:
                found = _read(path, token)
            except FileNotFoundError:
                continue  # never there, or removed or moved by another process meanwhile
            except CacheFileError as error:
                _move_aside(path, str(error))
            except OSError as error:
                if error.errno in _NO_SUCH_PLACE:
                    return None  # nothing lies there, and nothing can: `put` will say so
                warn(CacheWarning, f"{path} is not used: {error}")
                return None
            else:
                if found is not None:
                    return found
        return None

    def put(self, tree: xr.DataTree, record: Record) -> Entry:
        """Write a result, in the place of an entry with the same token.

        Raises
        ------
        OSError
            If it cannot be written: disk full, read-only, no such place.
        TypeError
            If something in the tree cannot be held exactly; the message names it.
        ValueError
            If the record has no proper token or date.
        """
        check_record(record)
        groups, layout = plan_tree(tree)
        described = json.loads(json.dumps({"record": vars(record), "layout": layout}))
        directory = self.root / safe_name(record.model)
        directory.mkdir(parents=True, exist_ok=True)
        unique = f"{os.getpid()}-{threading.get_ident()}-{uuid.uuid4().hex}"
        partial = directory / f"{upkeep.PARTIAL_PREFIX}{unique}"
        try:
            write_netcdf(str(partial), groups, _root_attributes(record, layout))
            append_seal(str(partial), described)
            size = partial.stat().st_size
            path = _place(directory, record)
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()
            raise
        _flush_directory(directory)
        return Entry(Record(**described["record"]), path, size)

    def discard(self, token: str, *, model: str, label: str) -> bool:
        """Remove the entry under `token`, and say whether there was one.

        Parameters
        ----------
        token : str
            The full token; a file with another stays, and so does one that is broken.
        model, label : str
            As in the record; they name the file.

        Raises
        ------
        OSError
            If it cannot be removed.
        """
        directory = self.root / safe_name(model)
        removed = [upkeep.remove_file(directory / name, token) for name in file_names(label, token)]
        return any(removed)

    def entries(self) -> list[Entry]:
        """List the whole entries by date; the broken ones are listed by `verify`.

        Only the end of each file is read and checked, not the draws.
        """
        return upkeep.entries(self.root)

    def verify(self) -> list[tuple[Path, str]]:
        """Read every byte of every file, and return the broken ones: the path, what is wrong."""
        return upkeep.verify(self.root)

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
            What was removed, or would be, the oldest first.

        Raises
        ------
        ValueError
            If a limit is negative.
        """
        doomed = upkeep.choose(self.entries(), older_than, max_size_bytes, keep)
        return upkeep.remove(self.root, doomed, dry_run=dry_run)

    def clear(self, dry_run: bool = False) -> list[Entry]:
        """Remove all entries, and return them; files that are not ours, or broken, stay.

        Parameters
        ----------
        dry_run : bool, default False
            Remove nothing, only return what would be.
        """
        return upkeep.remove(self.root, self.entries(), dry_run=dry_run)

    def show(self, name_or_path: str | Path) -> Entry:
        """Return one entry.

        Parameters
        ----------
        name_or_path : str or pathlib.Path
            A path, or a part of one that fits a single entry: ``radon/draws1000-0a1b2c3d``,
            the file's name, or the first digits of the token.

        Raises
        ------
        FileNotFoundError
            If there is no such entry.
        ValueError
            If several fit; the message lists them.
        CacheFileError
            If a path was given and the file is broken.
        """
        return upkeep.find(self.root, name_or_path)


def _read(path: Path, token: str) -> tuple[xr.DataTree, Entry] | None:
    """Return what a file holds; None if that is a whole entry with another token."""
    with open_file(path) as file:
        try:
            seal = read_seal(file)
            entry = upkeep.as_entry(path, seal)
            if entry.record.token != token:
                return None
            check_all(file, seal)
            return _rebuild(file, seal), entry
        except CacheFileError:
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                # a writer has put another file in its place: that one must not be moved aside
                raise FileNotFoundError(path) from None
            raise


def _rebuild(file: BinaryIO, seal: Seal) -> xr.DataTree:
    try:
        with open_datasets(file) as datasets:
            return rebuild_tree(seal.description["layout"], datasets.read)
    except (OSError, MemoryError):
        raise  # the machine's, not the file's
    except Exception as error:
        # whole, but not to be understood: by another version of this package, xarray or pandas
        raise CacheFileError(f"its layout is not understood ({error!r})") from error


def _move_aside(path: Path, reason: str) -> None:
    """Take a broken file out of the way, and say so in one warning."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(
        f"{path.name.removesuffix(SUFFIX)[:60]}.aside-{now}-{uuid.uuid4().hex[:8]}"
    )
    try:
        os.replace(path, aside)
    except OSError as error:
        outcome = f"it could not be moved aside ({error})"
    else:
        outcome = f"it was moved aside to {aside.name}"
    warn(CacheWarning, f"{path} is not used: {reason}; {outcome}")


def _place(directory: Path, record: Record) -> Path:
    """Return the first of an entry's possible paths that no other entry has."""
    for name in file_names(record.label, record.token):
        path = directory / name
        try:
            with open_file(path) as file:
                held = upkeep.as_entry(path, read_seal(file))
        except FileNotFoundError:
            return path
        except CacheFileError as error:
            _move_aside(path, str(error))
            return path
        if held.record.token == record.token:
            return path
    raise AssertionError("the last name has the whole token")  # pragma: no cover


def _root_attributes(record: Record, layout: object) -> dict[str, object]:
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
    attrs: dict[str, object] = {"cloudposterior_format": FORMAT}
    for name, text in texts.items():
        attrs.update(split_text(f"cloudposterior_{name}", text))
    return {**attrs, "cloudposterior_elapsed_s": float(record.elapsed_s)}


def _flush_directory(directory: Path) -> None:
    """See the rename on the disk; Windows has no way to, and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
