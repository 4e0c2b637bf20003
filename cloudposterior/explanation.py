"""Why a call is a hit or a miss: today's manifest beside those of the entries that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from cloudposterior.cache import Cache, Entry
from cloudposterior.cache.protocol import near_entries
from cloudposterior.identity.difference import difference
from cloudposterior.identity.manifest import Manifest
from cloudposterior.operations.request import OPERATION, Request

__all__ = ["Explanation", "explain_request", "near_miss"]

_NEAR = 3  # changes; an entry further away explains nothing
_LOOKED_AT = 50  # entries, newest first


@dataclass(frozen=True)
class Explanation:
    """Whether a call would be answered from a cache, and why not.

    Attributes
    ----------
    hit : bool
        Whether there is an entry.
    entry : Entry or None
        The entry that answers the call, or else the one that comes closest.
    changes : tuple of str
        What changed from that entry to this call, a line each; empty for a hit.
    reason : str
        Why there is neither, e.g. that no key can be made.

    Examples
    --------
    >>> why = cp.explain(model, draws=100, cache="disk")
    >>> why
    miss: nothing is kept for 'mu'
    >>> why.hit, why.entry, why.changes
    (False, None, ())
    """

    hit: bool
    entry: Entry | None = None
    changes: tuple[str, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        if self.hit and self.entry is not None:
            return f"hit: {_name(self.entry)}, sampled {self.entry.record.created}"
        if self.entry is None:
            return f"miss: {self.reason}"
        lines = "".join(f"\n  {change}" for change in self.changes)
        return f"miss, compared with {_name(self.entry)}:{lines}"

    __repr__ = __str__


def _name(entry: Entry) -> str:
    return str(entry.path or f"{entry.record.model}, {entry.record.label}")


def explain_request(cache: Cache, request: Request) -> Explanation:
    """Compare a request with the entries of a cache.

    Parameters
    ----------
    cache : Cache
        Where to look.
    request : Request
        What is asked for.

    Returns
    -------
    Explanation
        With the nearest of the newest entries of the model's own name; where there is none, with
        one of another name that hardly differs.
    """
    name = request.model_name
    own, others = near_entries(cache, request.token, model=name, label=request.label)
    first = next(own, None)
    if first is not None and first.record.token == request.token:
        return Explanation(True, first)
    today = request.manifest()
    changes, nearest = _nearest(chain([first] if first else [], own), today)
    if nearest is None:
        # an unnamed model is called by its variables, and so by another name with one more
        changes, nearest = _nearest(others, today)
        if len(changes) > _NEAR:
            nearest = None
    if nearest is None:
        return Explanation(False, reason=f"nothing is kept for {name!r}")
    return Explanation(False, nearest, tuple(changes))


def _nearest(entries: Iterator[Entry], today: Manifest) -> tuple[list[str], Entry | None]:
    looked_at = islice((entry for entry in entries if _is_alike(entry, today)), _LOOKED_AT)
    compared = [(difference(entry.record.manifest, today), entry) for entry in looked_at]
    return min(compared, key=lambda pair: len(pair[0]), default=([], None))


def _is_alike(entry: Entry, today: Manifest) -> bool:
    """Tell whether an entry is a result, and of the same function."""
    if entry.record.part_of is not None:  # a chain of a run that failed
        return False
    names = [of.get("options", {}).get(OPERATION) for of in (entry.record.manifest, today)]
    return bool(names[0] == names[1])


def near_miss(cache: Cache, request: Request) -> str | None:
    """Say in a line why a request was a miss, when an entry on disk comes close; else None."""
    if not hasattr(cache, "root"):
        return None
    try:
        found = explain_request(cache, request)
    except OSError:
        return None  # no directory that could be listed: saving will say so
    if found.hit or found.entry is None or not 0 < len(found.changes) <= _NEAR:
        return None
    return f"no cached result, since: {'; '.join(found.changes)}"
