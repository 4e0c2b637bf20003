"""What was drawn in a run that has not ended: kept until the same request is run again.

Draws are written as they come in, now and then, each time what is new, with the state that their
chain goes on from. So a client that is killed loses what came in since, and whatever else ends a
run, a dead scheduler or Ctrl-C, loses nothing. Each part is an entry of the cache, under a token
made from that of the request. All of them come from one seed, also where the request names none:
the next run goes on with theirs.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from dask.base import tokenize
from dask.utils import parse_timedelta
from xarray import DataTree

from cloudposterior.cache import Cache, Entry, MemoryCache, Record
from cloudposterior.cache.protocol import PART_OF
from cloudposterior.config import cluster_setting
from cloudposterior.errors import CacheWarning, tell
from cloudposterior.operations.request import Request
from cloudposterior.operations.sample import SampleCall
from cloudposterior.operations.seed import recorded_seed
from cloudposterior.samplers.protocol import State

__all__ = ["Parts", "parts_of"]

_log = logging.getLogger("pymc")

_Kinds = tuple[type[BaseException], ...]

_SHARE = 0.05
"""Of the time of a run, at most, is spent on writing parts while it lasts."""


class _Join(Protocol):
    """Where the chains of a run come together."""

    def drawn(self, chain: int) -> int: ...

    def is_whole(self, chain: int) -> bool: ...

    def part(self, chain: int, first: int) -> DataTree | None: ...

    def add_part(self, chain: int, tree: DataTree) -> State | None: ...


def parts_of(call: SampleCall, request: Request | None, cache: Cache | None) -> Parts:
    """Open the place in a cache where the draws of a request are kept until it is answered.

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
    return Parts(cache, request, call.chains, quiet=call.quiet)


class Parts:
    """The draws of one request, while its result is not there.

    Parameters
    ----------
    cache : Cache or None
        Where they are kept; None for nowhere.
    request : Request or None
        The request; there is one where there is a cache.
    chains : int
        How many chains the request has.
    quiet : bool
        Whether nothing is logged.

    Attributes
    ----------
    states : dict of int to State
        By chain, where those go on from of which the first draws were found.
    whole : list of int
        The chains of which all draws were found.
    keeps : bool
        Whether a run that ended without all draws has left some here.
    """

    def __init__(
        self, cache: Cache | None, request: Request | None, chains: int, *, quiet: bool = False
    ) -> None:
        self._cache = cache
        self._request = request
        self._chains = chains
        self._quiet = quiet
        self._count = [0] * chains
        self._until = [0] * chains
        self.states: dict[int, State] = {}
        self.whole: list[int] = []
        self.keeps = False
        self._every_s = float(parse_timedelta(cluster_setting("keep-every")))
        self._began = time.perf_counter()
        self._next = self._began + self._every_s

    def find(self, seed: Any) -> tuple[Any, dict[int, list[DataTree]]]:
        """Look up what an earlier run has left.

        Parameters
        ----------
        seed : Any
            The seed of the call; None takes that of the draws.

        Returns
        -------
        seed
            The seed to draw with; None where the call has none and nothing was found.
        dict of int to list of xarray.DataTree
            The parts of each chain, in order.
        """
        wanted = _as_stored(recorded_seed(seed))
        found: dict[int, list[DataTree]] = {}
        for chain in range(self._chains):
            while (kept := self._get(chain, len(found.get(chain, ())))) is not None:
                tree, entry = kept
                if wanted is None and type(entry.record.random_seed) is int:
                    seed = wanted = entry.record.random_seed
                if wanted is None or entry.record.random_seed != wanted:
                    break
                found.setdefault(chain, []).append(tree)
        return seed, found

    def _get(self, chain: int, number: int) -> tuple[DataTree, Entry] | None:
        if self._cache is not None:
            with _told("reading the draws of an earlier run"):
                names = self._names(chain, number)
                found = self._cache.get(self._token(chain, number), **names)
                return found and (found[0].load(scheduler="threads"), found[1])
        return None

    def add_to(self, join: _Join, found: dict[int, list[DataTree]]) -> None:
        """Put the draws that were found where those that are drawn will come.

        Parameters
        ----------
        join : PyMCJoin or WholeJoin
            Where the chains come together.
        found : dict of int to list of xarray.DataTree
            By chain; empty afterwards, so that no draw is held twice.
        """
        for chain in sorted(found):
            parts = found.pop(chain)
            with _told("using the draws of an earlier run"):
                while parts:
                    self._add(join, chain, parts.pop(0))
        if any(self._until) and not self._quiet:
            _log.info("%s of an earlier run taken from the cache", self._counted())

    def _add(self, join: _Join, chain: int, tree: DataTree) -> None:
        state = join.add_part(chain, tree)
        self._count[chain] += 1
        self._until[chain] = join.drawn(chain)
        if state is not None:
            self.states[chain] = state
        elif join.is_whole(chain):
            self.states.pop(chain, None)
            self.whole.append(chain)

    @property
    def missing(self) -> list[int]:
        """The chains that are to be drawn, or to be drawn further."""
        return [chain for chain in range(self._chains) if chain not in self.whole]

    def look(self, join: _Join, seed: Any) -> None:
        """Keep what has come in, if that is due.

        Not in memory, which would be lost with the client.

        Parameters
        ----------
        join : PyMCJoin or WholeJoin
            Where the chains come together.
        seed : Any
            The seed of the run, as it is recorded.
        """
        now = time.perf_counter()
        if now < self._next or isinstance(self._cache, MemoryCache):
            return
        # the first time is spent on imports, for the most part
        is_first = not any(self._count)
        self._keep(join, seed)
        took = time.perf_counter() - now
        self._next = now + took + max(self._every_s, 0.0 if is_first else took / _SHARE)

    @contextmanager
    def kept_from(
        self, join: _Join, seed: Any, *, unless: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Keep what came in of a run that ends without its result, however it ends.

        Parameters
        ----------
        join : PyMCJoin or WholeJoin
            Where the chains come together.
        seed : Any
            The seed of the run, as it is recorded.
        unless : callable
            Tells whether the result is there although not all draws are.
        """
        try:
            yield
        except BaseException as error:
            kept = self._keep(join, seed, _EVEN_WHEN_INTERRUPTED)
            if kept:
                error.add_note(kept)
            raise
        if not (unless() or all(join.is_whole(chain) for chain in range(self._chains))):
            self.keeps = bool(self._keep(join, seed, _EVEN_WHEN_INTERRUPTED))

    def _keep(self, join: _Join, seed: Any, kinds: _Kinds = (Exception,)) -> str:
        """Keep what is new; say what is kept now, or nothing if nothing is."""
        if self._cache is None:
            return ""
        with _told("keeping what was drawn", kinds):
            self._begin_again_where_lost()
            for chain in range(self._chains):
                tree = join.part(chain, self._until[chain])
                if tree is None:
                    continue
                self._cache.put(tree, self._record(chain, seed))
                self._count[chain] += 1
                self._until[chain] = join.drawn(chain)
        if not any(self._until):
            return ""
        return f"{self._counted()} are kept in the cache; the same call draws only what is missing"

    def _begin_again_where_lost(self) -> None:
        """Have all draws of a chain kept once more where a part went with its worker."""
        holds = getattr(self._cache, "holds", None)
        tokens = [
            [self._token(chain, number) for number in range(self._count[chain])]
            for chain in range(self._chains)
        ]
        if holds is None or holds([token for of in tokens for token in of]):
            return
        for chain, of in enumerate(tokens):
            if not holds(of):
                self._cache.drop(of)  # type: ignore[union-attr]
                self._count[chain] = self._until[chain] = 0

    def _counted(self) -> str:
        chains = sum(map(bool, self._until))
        return f"{sum(self._until)} draws of {chains} chain{'' if chains == 1 else 's'}"

    def _record(self, chain: int, seed: Any) -> Record:
        assert self._request is not None
        number = self._count[chain]
        part = {PART_OF: self._request.token, "chain": chain, "part": number}
        return Record(
            token=self._token(chain, number),
            **self._names(chain, number),
            manifest={**self._request.manifest(), **part},
            versions=dict(self._request.versions),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            elapsed_s=time.perf_counter() - self._began,
            random_seed=seed,
        )

    def forget(self) -> None:
        """Discard all that is kept, from a cache that can; the whole result is there now."""
        discard = getattr(self._cache, "discard", None)
        if discard is None:
            return
        with _told("discarding the draws of earlier runs", _EVEN_WHEN_INTERRUPTED):
            for chain in range(self._chains):
                number = 0
                # what an earlier run has left may go on after what is known of this one
                while discard(self._token(chain, number), **self._names(chain, number)):
                    number += 1

    def _token(self, chain: int, number: int) -> str:
        assert self._request is not None
        token: str = tokenize(self._request.token, "chain", chain, "part", number)
        return token

    def _names(self, chain: int, number: int) -> dict[str, str]:
        assert self._request is not None
        return {
            "model": self._request.model_name,
            "label": f"{self._request.label}_chain{chain}_part{number}",
        }


def _as_stored(seed: Any) -> Any:
    return json.loads(json.dumps(seed))


_EVEN_WHEN_INTERRUPTED = (Exception, KeyboardInterrupt)


@contextmanager
def _told(doing: str, kinds: _Kinds = (Exception,)) -> Iterator[None]:
    """Turn what goes wrong into a warning: a result, or another error, outranks these draws."""
    try:
        yield
    except kinds as error:
        tell(CacheWarning, f"{doing} failed: {type(error).__name__}: {error}")
