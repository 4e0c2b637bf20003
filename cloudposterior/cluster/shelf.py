"""A cache in the memory of other workers, for a run that is driven on a worker."""

from __future__ import annotations

from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from xarray import DataTree

from cloudposterior.cache import Entry, Record
from cloudposterior.cluster.keeping import RUN, keep, kept, keys_of, let_go, parts_kept
from cloudposterior.cluster.sealed import Sealed, opened

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Shelf"]


class Shelf:
    """Keeps what one run has drawn, and its answer, where its own worker's death does not matter.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    run : str
        The run.
    driver : str
        The key of the task that drives it.
    own : str
        The address of the worker that drives it; it keeps something only if it is the only one.
    """

    def __init__(self, client: Client, run: str, driver: str, own: str) -> None:
        self._client = client
        self._run = run
        # an earlier run under this name may have left another, as one that was stopped
        self._answer = f"answer of {driver}"
        self._own = own
        # what is on one's own worker, since there was no other
        self._at_own: set[str] = set()

    def get(self, token: str, *, model: str, label: str) -> tuple[DataTree, Entry] | None:
        """Give draws that are kept; None where there are none, or their worker has gone."""
        found = self._get(token)
        return None if found is None else (found[0], Entry(found[1], None, found[0].nbytes))

    def put(self, tree: DataTree, record: Record) -> Entry:
        """Keep draws; a result is kept as part of the answer."""
        if record.part_of is not None:
            self._put(record.token, (tree, record))
        return Entry(record, None, tree.nbytes)

    def holds(self, tokens: list[str]) -> bool:
        """Tell whether the draws under all of these tokens are as safe as they can be."""
        if not self._at_own.isdisjoint(tokens) and self._others():
            return False
        return all(keys_of(self._client, self._run, tokens))

    def drop(self, tokens: list[str]) -> None:
        """Let go of the draws under these tokens."""
        let_go(self._client, self._run, *tokens)
        self._at_own.difference_update(tokens)

    def entries(self) -> list[Entry]:
        """List nothing: what is here is asked for by its token."""
        return []

    def answer(self) -> Any:
        """Give the answer of another worker that drove the run; None where there is none."""
        return self._get(self._answer)

    def put_answer(self, answer: Any) -> None:
        """Keep the answer, and the draws no longer."""
        self._put(self._answer, answer)
        self.clear(self._answer)

    def clear(self, *but: str) -> None:
        """Let go of what is here, but for some parts and the run itself."""
        parts = [part for part in parts_kept(self._client, self._run) if part not in (RUN, *but)]
        if parts:
            let_go(self._client, self._run, *parts)

    def _get(self, part: str) -> Any:
        if not all(keys_of(self._client, self._run, [part])):
            return None
        future = kept(self._client, self._run, part)
        return None if future is None else opened(self._client.gather(future))

    def _put(self, part: str, value: Any) -> None:
        others = self._others()
        if not others:
            self._at_own.add(part)
        scatter = partial(
            self._client.scatter, [Sealed(value, copied=False)], workers=others, hash=False
        )
        # what a task scatters stays on its own worker, whatever it asks for
        future: Future
        (future,) = Context().run(scatter)
        keep(self._client, self._run, part, future, replace=True)

    def _others(self) -> list[str] | None:
        """Choose the worker that uses the least memory, other than one's own."""
        workers = self._client.scheduler_info(n_workers=-1).get("workers", {})
        others = {
            address: of.get("metrics", {}).get("memory", 0)
            for address, of in workers.items()
            if address != self._own and of["status"] == "running"
        }
        return [min(others, key=lambda address: others[address])] if others else None
