"""Listing, checking and tidying the files of a store."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from cloudposterior.cache.folder import open_path
from cloudposterior.cache.layout import check_layout
from cloudposterior.cache.names import SUFFIX, file_names, safe_name
from cloudposterior.cache.protocol import Entry, Record, check_record, created_at
from cloudposterior.cache.seal import Seal, check_all, read_seal
from cloudposterior.cache.store import Item, ReplacedError, Store
from cloudposterior.errors import CacheFileError

__all__ = [
    "as_entry",
    "check_file",
    "choose",
    "entries",
    "entry_of",
    "find",
    "near",
    "read_entry",
    "remove",
    "remove_file",
    "understood",
    "verify",
]


_MOST_OWN = 1_000
_OTHERS = 5
_MOST_OF_OTHERS = 50
"""As neighbours of an entry so many of its model, of so many other models so many each, at most."""


def as_entry(path: Path | str, seal: Seal) -> Entry:
    """Return the entry that a seal describes.

    Raises
    ------
    CacheFileError
        If the description is not one of this version.
    """
    with understood("description"):
        record = Record(**seal.description["record"])
        check_record(record)
    return Entry(record, path, seal.size_bytes)


@contextlib.contextmanager
def understood(part: str) -> Iterator[None]:
    """Tell what is wrong with a file from what is wrong with the machine that reads it.

    A file may be of another version of this package, of xarray or pandas, or made up: whatever its
    reading raises is one error.
    """
    try:
        yield
    except (CacheFileError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # libhdf5's own have no number
        raise CacheFileError(f"its {part} is not understood ({error!r:.300})") from error


def check_file(file: BinaryIO, seal: Seal) -> int:
    """Check every byte of a file, and before that what it would take to read it.

    Returns
    -------
    int
        How many bytes its arrays take.

    Raises
    ------
    CacheFileError
        If the file is damaged, or asks for more than it can hold.
    """
    with understood("layout"):
        size = check_layout(seal.description["layout"], seal.data_bytes)
    check_all(file, seal)
    return size


def read_entry(path: str | Path) -> Entry:
    """Return what a cache file says of itself, without its draws.

    Parameters
    ----------
    path : str or pathlib.Path
        A file that a cache wrote, in a cache directory or anywhere else.

    Raises
    ------
    CacheFileError
        If the file is torn, foreign, or of another format.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        with open_path(path) as file:
            return as_entry(path, read_seal(file))
    except CacheFileError as error:
        raise CacheFileError(f"{path}: {error}") from error


def entry_of(store: Store, item: Item) -> Entry:
    """Return what a file of a store says of itself, without its draws.

    Raises
    ------
    CacheFileError
        If the file is torn, foreign, or of another format.
    OSError
        If it cannot be read.
    """
    (seal,) = store.seals([item])
    if isinstance(seal, OSError):
        raise seal
    return as_entry(store.locate(item.directory, item.name), seal)


def entries(store: Store) -> list[Entry]:
    """Return the whole entries of a store, the oldest first."""
    return sorted(_whole(store, store.items(suffix=SUFFIX)), key=_by_date)


def _whole(store: Store, items: list[Item]) -> Iterator[Entry]:
    """Read one entry after the other, as they are asked for."""
    for item, seal in zip(items, store.seals(items), strict=True):
        # broken ones are for `verify` to name; others may vanish while we look
        with contextlib.suppress(OSError):
            if isinstance(seal, ReplacedError):
                yield entry_of(store, store.find(item.directory, item.name))
            elif isinstance(seal, Seal):
                yield as_entry(store.locate(item.directory, item.name), seal)


def near(
    store: Store, token: str, model: str, label: str
) -> tuple[Iterator[Entry], Iterator[Entry]]:
    """Give the entries of a model and those of others, the likeliest neighbours of one first.

    Each entry is read when it is asked for, and no others, however many a store holds.
    """
    own = safe_name(model)
    return _newest(store, own, _MOST_OWN, file_names(label, token)), _of_others(store, own)


def _of_others(store: Store, own: str) -> Iterator[Entry]:
    """Read the newest entries of the models whose names have the most in common with one."""
    # an unnamed model is called by its variables
    words = set(own.split("-"))
    names = (name for name in store.directories() if name != own)
    for name in heapq.nsmallest(_OTHERS, names, key=lambda n: len(words ^ set(n.split("-")))):
        yield from _newest(store, name, _MOST_OF_OTHERS)


def _newest(store: Store, directory: str, most: int, before: Sequence[str] = ()) -> Iterator[Entry]:
    """Read the newest files of a directory, and before them those of some names."""
    items = store.items(suffix=SUFFIX, directory=directory)
    ranked = [((item.name in before, item.modified), item) for item in items]
    first = heapq.nlargest(most, ranked, key=lambda pair: pair[0])
    yield from _whole(store, [item for _, item in first])


def _by_date(entry: Entry) -> tuple[datetime, str]:
    return created_at(entry.record), str(entry.path)


def verify(store: Store) -> list[tuple[Path | str, str]]:
    """Return the broken files of a store, and what is wrong with each."""
    broken = []
    for item in store.items(suffix=SUFFIX):
        path = store.locate(item.directory, item.name)
        try:
            with store.open(item) as file:
                seal = read_seal(file)
                record = as_entry(path, seal).record
                check_file(file, seal)
        except FileNotFoundError:
            continue
        except OSError as error:
            broken.append((path, str(error)))
            continue
        names = file_names(record.label, record.token)
        if item.directory != safe_name(record.model) or item.name not in names:
            expected = store.locate(safe_name(record.model), names[0])
            broken.append((path, f"it is not where it is looked for, {expected}"))
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


def remove(store: Store, doomed: list[Entry], *, dry_run: bool) -> list[Entry]:
    """Remove entries and stray partial files; return the entries that were, or would be, removed.

    Each is looked at once more: it must still be an entry with the same token.
    """
    removed = [
        entry
        for entry in doomed
        if remove_file(store, *_names(entry), entry.record.token, dry_run=dry_run)
    ]
    if not dry_run:
        for stray in store.strays():
            with contextlib.suppress(FileNotFoundError):
                store.remove(stray)
    return removed


def remove_file(
    store: Store, directory: str, name: str, token: str, *, dry_run: bool = False
) -> bool:
    """Remove a file if it is the entry with this token, and say whether it was."""
    try:
        item = store.find(directory, name)
        if entry_of(store, item).record.token != token:
            return False
        if not dry_run:
            store.remove(item)
    except (CacheFileError, FileNotFoundError):
        return False  # replaced, or removed by another process, meanwhile
    return True


def find(store: Store, name: str) -> Entry:
    """Return the one entry that a part of a path names (see `FileCache.show`)."""
    listed = entries(store)
    fitting = [entry for entry in listed if name in _called(entry)]
    # who names a model means its results, not what a run that failed has left
    fitting = [entry for entry in fitting if entry.record.part_of is None] or fitting
    if not fitting and len(name) >= 4:
        fitting = [entry for entry in listed if entry.record.token.startswith(name)]
    if len(fitting) > 1:
        paths = ", ".join(str(entry.path) for entry in fitting)
        raise ValueError(f"{name!r} fits {len(fitting)} entries: {paths}")
    if not fitting:
        where = str(store.locate("")).rstrip("/")
        raise FileNotFoundError(f"no entry {name!r} in {where}, which holds {len(listed)}")
    return fitting[0]


def _called(entry: Entry) -> set[str]:
    """Return all by which an entry may be asked for, beside its token."""
    names = [str(entry.path), "/".join(_names(entry)), _names(entry)[1]]
    return {entry.record.model, *names, *(name.removesuffix(SUFFIX) for name in names)}


def _names(entry: Entry) -> tuple[str, str]:
    """Return the names of an entry's directory and file."""
    path = entry.path
    directory, name = path.parts[-2:] if isinstance(path, Path) else str(path).split("/")[-2:]
    return directory, name
