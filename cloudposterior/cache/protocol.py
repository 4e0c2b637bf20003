"""What a cache of results is: three calls, and what is known of an entry beside its draws."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import xarray as xr

__all__ = ["PART_OF", "Cache", "Entry", "Record", "check_record", "created_at", "near_entries"]

PART_OF = "part_of"
"""Under which a manifest names the run that its entry is a chain of."""

_TOKEN = re.compile(r"[0-9a-f]{32,64}")


@dataclass(frozen=True)
class Record:
    """All that is known of an entry beside its draws; values that JSON can hold, and no others.

    Attributes
    ----------
    token : str
        The full token, 32 to 64 lower-case hex digits.
    model : str
        The model's name as the user gave it, or as the caller made it up; any text.
    label : str
        The readable parameters, e.g. ``"draws2000_tune1000_chains4"``; any text.
    manifest : dict
        The components that the token was made of.
    versions : dict of str to str
        The version of each package that took part.
    created : str
        When the result was made: ISO 8601, UTC.
    elapsed_s : float
        How long that took, in seconds.
    random_seed : Any
        The seed that the run used.

    Examples
    --------
    >>> cache = cp.MemoryCache()
    >>> idata = cp.sample(model, draws=100, tune=100, chains=2, random_seed=1, cache=cache)
    >>> record = cache.entries()[0].record
    >>> record.model, record.label, record.random_seed
    ('mu', 'draws100_tune100_chains2_seed1', 1)
    >>> len(record.token)
    32
    """

    token: str
    model: str
    label: str
    manifest: dict[str, Any]
    versions: dict[str, str]
    created: str
    elapsed_s: float
    random_seed: Any

    @property
    def part_of(self) -> str | None:
        """The token of the run that this is a chain of; None for a result."""
        token: str | None = self.manifest.get(PART_OF)
        return token


@dataclass(frozen=True)
class Entry:
    """One cached result, as a listing shows it.

    Attributes
    ----------
    record : Record
        What is known of it.
    path : pathlib.Path, str or None
        The file that holds it; in a store that has a URL, the object's URL, without passwords;
        None for an entry in memory.
    size_bytes : int
        How much room it takes, in bytes: of the file, or of the arrays in memory.

    Examples
    --------
    >>> cache = cp.DiskCache("posteriors")
    >>> idata = cp.sample(model, draws=100, tune=100, chains=2, random_seed=1, cache=cache)
    >>> entry = cache.show("mu")
    >>> entry.path.name
    'draws100_tune100_chains2_seed1-....nc'
    >>> entry.size_bytes > 1000
    True
    """

    record: Record
    path: Path | str | None
    size_bytes: int


class Cache(Protocol):
    """A place that keeps results under their full tokens.

    Chains of a run that failed are kept as entries too (`Record.part_of`), until the run was
    repeated. Then they are taken out of a cache that also has
    ``discard(token, *, model, label) -> bool``; in one without it they stay, and nobody asks for
    them. A cache that also has ``scratch(size_bytes)`` opens files without a name, in which results
    are put together that have no room in memory. One that also has ``near(token, *, model, label)``
    is asked for the entries that are like another, as `DiskCache.near` gives them, in the place of
    all of them.

    Examples
    --------
    >>> class Counting(cp.MemoryCache):
    ...     hits = 0
    ...     def get(self, token, *, model, label):
    ...         found = super().get(token, model=model, label=label)
    ...         self.hits += found is not None
    ...         return found
    >>> cache = Counting()
    >>> for _ in range(2):
    ...     idata = cp.sample(model, draws=100, tune=100, chains=2, random_seed=1, cache=cache)
    >>> cache.hits
    1
    """

    def get(self, token: str, *, model: str, label: str) -> tuple[xr.DataTree, Entry] | None:
        """Return a copy that the caller owns, and its entry; None where there is no such entry.

        Parameters
        ----------
        token : str
            The full token; an entry with another is no hit.
        model, label : str
            As in the record; for people, and for the names of files.

        Returns
        -------
        tuple of xarray.DataTree and Entry, or None
            Variables of shape ``(chain, draw, *shape)`` in the groups of the tree.
        """
        ...

    def put(self, tree: xr.DataTree, record: Record) -> Entry:
        """Keep a result, in the place of an entry with the same token; raises where it cannot.

        Parameters
        ----------
        tree : xarray.DataTree
            The result; not changed, and not referred to afterwards.
        record : Record
            What is known of it.

        Returns
        -------
        Entry
            As `entries` lists it.
        """
        ...

    def entries(self) -> list[Entry]:
        """List what is kept.

        Returns
        -------
        list of Entry
            In any order.
        """
        ...


def near_entries(
    cache: Cache, token: str, *, model: str, label: str
) -> tuple[Iterator[Entry], Iterator[Entry]]:
    """Give the entries of a model, that under a token first, and those of others, newest first.

    Parameters
    ----------
    cache : Cache
        Where to look.
    token, model, label : str
        As for `Cache.get`.
    """
    if hasattr(cache, "near"):
        near: tuple[Iterator[Entry], Iterator[Entry]]
        near = cache.near(token, model=model, label=label)
        return near
    newest = sorted(cache.entries(), key=lambda entry: entry.record.created, reverse=True)
    own = [entry for entry in newest if entry.record.model == model]
    own.sort(key=lambda entry: entry.record.token != token)
    return iter(own), (entry for entry in newest if entry.record.model != model)


def check_record(record: Record) -> None:
    """Refuse a record that no cache could find again, or show.

    Raises
    ------
    ValueError
        If the token is not 32 to 64 lower-case hex digits, ``created`` is not an ISO 8601 time, or
        another value is not of its type.
    """
    if not (isinstance(record.token, str) and _TOKEN.fullmatch(record.token)):
        raise ValueError(f"a token is 32 to 64 lower-case hex digits, got {record.token!r}")
    for name, kind in _TYPES.items():
        value = getattr(record, name)
        if not isinstance(value, kind):
            raise ValueError(f"{name} of a record is not of type {type(value).__name__}")
    if not isinstance(record.part_of, str | None):
        raise ValueError(f"{PART_OF} names a token, not a {type(record.part_of).__name__}")
    created_at(record)


_TYPES: dict[str, Any] = {
    "model": str,
    "label": str,
    "manifest": dict,
    "versions": dict,
    "created": str,
    "elapsed_s": int | float,
}


def created_at(record: Record) -> datetime:
    """Return when an entry was made, with its time zone (UTC where the record names none)."""
    when = datetime.fromisoformat(record.created)
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when
