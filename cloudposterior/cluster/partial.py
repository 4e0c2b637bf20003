"""Chains that were finished in a run that was not: kept until the same request is run again.

Each is an entry of the cache, under a token made from that of the request. All of them come from
one seed, also where the request names none: the next run goes on with theirs.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from dask.base import tokenize
from xarray import DataTree

from cloudposterior.cache import Cache, Entry, Record
from cloudposterior.cache.protocol import PART_OF
from cloudposterior.errors import CacheWarning, tell
from cloudposterior.operations.request import Request
from cloudposterior.operations.sample import SampleCall
from cloudposterior.operations.seed import recorded_seed

__all__ = ["FinishedChains", "finished_chains"]

_log = logging.getLogger("pymc")


class _Join(Protocol):
    """Where the chains of a run come together."""

    def chain(self, number: int) -> DataTree | None: ...

    def add_chain(self, number: int, tree: DataTree) -> None: ...


def finished_chains(
    call: SampleCall, request: Request | None, cache: Cache | None
) -> FinishedChains:
    """Open the place in a cache where the finished chains of a request are kept.

    Nothing is kept there of a call that asks for more than draws and numbers: whose callback or
    trace wants to see each draw, or whose result holds the warnings of NUTS, which no file does.

    Parameters
    ----------
    call : SampleCall
        The call.
    request : Request or None
        Its request; None keeps nothing.
    cache : Cache or None
        The cache; None keeps nothing.
    """
    asked = call.arguments
    wants_more = (
        asked["callback"] is not None or asked["trace"] is not None or asked["keep_warning_stat"]
    )
    if request is None or wants_more:
        cache = None
    return FinishedChains(cache, request, call.chains, quiet=call.quiet)


@dataclass
class FinishedChains:
    """The chains of one request that are finished, while its result is not.

    Attributes
    ----------
    cache : Cache or None
        Where they are kept; None for nowhere.
    request : Request or None
        The request; there is one where there is a cache.
    chains : int
        How many chains the request has.
    quiet : bool
        Whether nothing is logged.
    """

    cache: Cache | None
    request: Request | None
    chains: int
    quiet: bool = False
    _taken: set[int] = field(default_factory=set)

    def find(self, seed: Any) -> tuple[Any, dict[int, DataTree]]:
        """Look up the chains that an earlier run has left.

        Parameters
        ----------
        seed : Any
            The seed of the call; None takes that of the chains.

        Returns
        -------
        seed
            The seed to draw the other chains with; None where the call has none and there are no
            chains.
        dict of int to xarray.DataTree
            The chains by number.
        """
        wanted = _as_stored(recorded_seed(seed))
        found: dict[int, DataTree] = {}
        for chain in range(self.chains):
            kept = self._get(chain)
            if kept is None:
                continue
            tree, entry = kept
            if wanted is None and type(entry.record.random_seed) is int:
                seed = wanted = entry.record.random_seed
            if wanted is not None and entry.record.random_seed == wanted:
                found[chain] = tree
        return seed, found

    def _get(self, chain: int) -> tuple[DataTree, Entry] | None:
        if self.cache is not None:
            with _told("reading a finished chain"):
                return self.cache.get(self._token(chain), **self._names(chain))
        return None

    def add_to(self, join: _Join, found: dict[int, DataTree]) -> None:
        """Put the chains that were found where those that are drawn will come.

        Parameters
        ----------
        join : PyMCJoin or WholeJoin
            Where the chains come together.
        found : dict of int to xarray.DataTree
            The chains by number; empty afterwards, so that none is held twice.
        """
        for chain in sorted(found):
            with _told("using a finished chain"):
                join.add_chain(chain, found.pop(chain))
                self._taken.add(chain)
        if self._taken and not self.quiet:
            _log.info("%s of an earlier run taken from the cache", _counted(len(self._taken)))

    @property
    def taken(self) -> list[int]:
        """The chains that were found and put where they belong."""
        return sorted(self._taken)

    @property
    def missing(self) -> list[int]:
        """The chains that are to be drawn."""
        return [chain for chain in range(self.chains) if chain not in self._taken]

    @contextmanager
    def kept_from(self, join: _Join, seed: Any) -> Iterator[None]:
        """Keep the finished chains of a run that ends without its result, however it ends.

        Parameters
        ----------
        join : PyMCJoin or WholeJoin
            Where the chains come together.
        seed : Any
            The seed of the run, as it is recorded.
        """
        began = time.perf_counter()
        try:
            yield
        except BaseException as error:
            kept = self._keep(join, seed, began)
            if kept:
                error.add_note(kept)
            raise
        kept = self._keep(join, seed, began, unless_all=True)
        if kept and not self.quiet:
            _log.info("%s", kept)

    def _keep(self, join: _Join, seed: Any, began: float, *, unless_all: bool = False) -> str:
        """Keep the chains that are finished; say how many are kept now, or nothing if none is."""
        if self.cache is None:
            return ""
        count = len(self._taken)
        with _told("keeping the finished chains", _EVEN_WHEN_INTERRUPTED):
            finished = {c: tree for c in self.missing if (tree := join.chain(c)) is not None}
            if unless_all and len(finished) == len(self.missing):
                return ""
            for chain, tree in finished.items():
                self.cache.put(tree, self._record(chain, seed, time.perf_counter() - began))
                count += 1
        if not count:
            return ""
        verb = "is" if count == 1 else "are"
        return (
            f"{_counted(count)} {verb} kept in the cache; the same call draws only the missing ones"
        )

    def _record(self, chain: int, seed: Any, elapsed_s: float) -> Record:
        assert self.request is not None
        return Record(
            token=self._token(chain),
            **self._names(chain),
            manifest={**self.request.manifest(), PART_OF: self.request.token, "chain": chain},
            versions=dict(self.request.versions),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            elapsed_s=elapsed_s,
            random_seed=seed,
        )

    def forget(self) -> None:
        """Discard all that is kept, from a cache that can; the whole result is there now."""
        discard = getattr(self.cache, "discard", None)
        if discard is None:
            return
        with _told("discarding the finished chains", _EVEN_WHEN_INTERRUPTED):
            for chain in range(self.chains):
                discard(self._token(chain), **self._names(chain))

    def _token(self, chain: int) -> str:
        assert self.request is not None
        token: str = tokenize(self.request.token, "chain", chain)
        return token

    def _names(self, chain: int) -> dict[str, str]:
        assert self.request is not None
        return {"model": self.request.model_name, "label": f"{self.request.label}_chain{chain}"}


def _as_stored(seed: Any) -> Any:
    return json.loads(json.dumps(seed))


def _counted(chains: int) -> str:
    return f"{chains} finished chain{'' if chains == 1 else 's'}"


_EVEN_WHEN_INTERRUPTED = (Exception, KeyboardInterrupt)


@contextmanager
def _told(doing: str, kinds: tuple[type[BaseException], ...] = (Exception,)) -> Iterator[None]:
    """Turn what goes wrong into a warning: a result, or another error, outranks these chains."""
    try:
        yield
    except kinds as error:
        tell(CacheWarning, f"{doing} failed: {type(error).__name__}: {error}")
