"""Listing, checking and tidying a cache directory.

Symbolic links are never followed: what lies outside of the directory is not ours.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cloudposterior.cache.names import SUFFIX, file_names, safe_name
from cloudposterior.cache.protocol import Entry, Record, created_at
from cloudposterior.cache.seal import Seal, check_all, open_file, read_seal
from cloudposterior.errors import CacheFileError

__all__ = [
    "PARTIAL_PREFIX",
    "as_entry",
    "choose",
    "entries",
    "find",
    "read_entry",
    "remove",
    "remove_file",
    "verify",
]

PARTIAL_PREFIX = ".cloudposterior-writing-"
"""How the name of a file begins that is being written."""

_STRAY_AFTER_S = 86_400.0


def as_entry(path: Path, seal: Seal) -> Entry:
    """Return the entry that a seal describes.

    Raises
    ------
    CacheFileError
        If the description is not one of this version.
    """
    try:
        record = Record(**seal.description["record"])
        created_at(record)
    except (KeyError, TypeError, ValueError) as error:
        raise CacheFileError(f"its description is not understood ({error!r})") from error
    return Entry(record, path, seal.size_bytes)


def read_entry(path: str | Path) -> Entry:
    """Return what a cache file says of itself, without its draws.

    Parameters
    ----------
    path : str or pathlib.Path
        A file that `DiskCache` wrote, in a cache directory or anywhere else.

    Raises
    ------
    CacheFileError
        If the file is torn, foreign, or of another format.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        with open_file(path) as file:
            return as_entry(path, read_seal(file))
    except CacheFileError as error:
        raise CacheFileError(f"{path}: {error}") from error


def entries(root: Path) -> list[Entry]:
    """Return the whole entries in a cache directory, the oldest first."""
    found = []
    for path in _files(root, suffix=SUFFIX):
        # broken ones are for `verify` to name; others may vanish while we look
        with contextlib.suppress(OSError):
            found.append(read_entry(path))
    return sorted(found, key=_by_date)


def _by_date(entry: Entry) -> tuple[datetime, str]:
    return created_at(entry.record), str(entry.path)


def verify(root: Path) -> list[tuple[Path, str]]:
    """Return the broken files of a cache directory, and what is wrong with each."""
    broken = []
    for path in _files(root, suffix=SUFFIX):
        try:
            with open_file(path) as file:
                seal = read_seal(file)
                entry = as_entry(path, seal)
                check_all(file, seal)
        except FileNotFoundError:
            continue
        except OSError as error:
            broken.append((path, str(error)))
            continue
        record = entry.record
        expected = [
            Path(safe_name(record.model), n) for n in file_names(record.label, record.token)
        ]
        if path.relative_to(root) not in expected:
            broken.append((path, f"it is not where it is looked for, {root / expected[0]}"))
    return broken


def choose(
    listed: list[Entry],
    older_than: timedelta | None,
    max_size_bytes: int | None,
    keep: int | None,
) -> list[Entry]:
    """Return those of the listed entries (the oldest first) that exceed a limit."""
    for limit, nothing in ((older_than, timedelta(0)), (max_size_bytes, 0), (keep, 0)):
        if limit is not None and limit < nothing:  # type: ignore[operator]
            raise ValueError(f"a limit must not be negative, got {limit!r}")
    now = datetime.now(UTC)
    doomed, room = [], sum(entry.size_bytes for entry in listed)
    for position, entry in enumerate(listed):
        is_old = older_than is not None and now - created_at(entry.record) > older_than
        is_big = max_size_bytes is not None and room > max_size_bytes
        is_many = keep is not None and len(listed) - position > keep
        if is_old or is_big or is_many:
            doomed.append(entry)
            room -= entry.size_bytes
    return doomed


def remove(root: Path, doomed: list[Entry], *, dry_run: bool) -> list[Entry]:
    """Remove entries and stray partial files; return the entries that were, or would be, removed.

    Each is looked at once more: it must still be an entry with the same token.
    """
    removed = [
        entry
        for entry in doomed
        if entry.path is not None and remove_file(entry.path, entry.record.token, dry_run=dry_run)
    ]
    if not dry_run:
        for stray in _stray_files(root):
            stray.unlink(missing_ok=True)
    return removed


def remove_file(path: Path, token: str, *, dry_run: bool = False) -> bool:
    """Remove a file if it is the entry with this token, and say whether it was."""
    try:
        if read_entry(path).record.token != token:
            return False
        if not dry_run:
            path.unlink()
    except (CacheFileError, FileNotFoundError):
        return False  # replaced, or removed by another process, meanwhile
    return True


def _stray_files(root: Path) -> Iterator[Path]:
    """Find what writers that died left behind; a living one is not a day old."""
    for path in _files(root, prefix=PARTIAL_PREFIX):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime > _STRAY_AFTER_S:
                yield path


def find(root: Path, name_or_path: str | Path) -> Entry:
    """Return the one entry that a path, or a part of it, names (see `DiskCache.show`)."""
    for path in (Path(name_or_path), root / name_or_path):
        if os.path.isfile(path):  # unlike Path.is_file, false for any text that is no path
            return read_entry(path)
    name = str(name_or_path)
    listed = entries(root)
    fitting = [entry for entry in listed if name in _names_of(entry, root)]
    # who names a model means its results, not what a run that failed has left
    fitting = [entry for entry in fitting if entry.record.part_of is None] or fitting
    if not fitting and len(name) >= 4:
        fitting = [entry for entry in listed if entry.record.token.startswith(name)]
    if len(fitting) > 1:
        paths = ", ".join(str(entry.path) for entry in fitting)
        raise ValueError(f"{name!r} fits {len(fitting)} entries: {paths}")
    if not fitting:
        raise FileNotFoundError(f"no entry {name!r} in {root}, which holds {len(listed)}")
    return fitting[0]


def _names_of(entry: Entry, root: Path) -> set[str]:
    assert entry.path is not None
    whole = entry.path.relative_to(root).as_posix()
    names = [whole, entry.path.name]
    return {entry.record.model, *names, *(name.removesuffix(SUFFIX) for name in names)}


def _files(root: Path, *, prefix: str = "", suffix: str = "") -> Iterator[Path]:
    """Find the regular files of the model directories, in order, without following links."""
    for directory in _scan(root):
        if not directory.is_dir(follow_symlinks=False):
            continue
        for item in _scan(Path(directory.path)):
            fits = item.name.startswith(prefix) and item.name.endswith(suffix)
            if fits and item.is_file(follow_symlinks=False):
                yield Path(item.path)


def _scan(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as items:
            return sorted(items, key=lambda item: item.name)
    except FileNotFoundError:
        return []
