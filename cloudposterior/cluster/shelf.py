"""A cache in the memory of other workers, for a run that is driven on a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xarray import DataTree

from cloudposterior.cache import Entry, Record
from cloudposterior.cluster.keeping import is_there, keep, kept, let_go, parts_kept

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Shelf"]


class Shelf:
    """Keeps what one run has drawn where its own worker's death does not matter.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    run : str
        The run.
    own : str
        The address of the worker that drives it; it keeps something only if it is the only one.
    """

    def __init__(self, client: Client, run: str, own: str) -> None:
        self._client = client
        self._run = run
        self._own = own

    def get(self, token: str, *, model: str, label: str) -> tuple[DataTree, Entry] | None:
        """Give what is kept under a token; None where there is nothing, or its worker has gone."""
        if not is_there(self._client, self._run, token):
            return None
        future = kept(self._client, self._run, token)
        if future is None:
            return None
        tree, record = self._client.gather(future)
        return tree, Entry(record, None, tree.nbytes)

    def put(self, tree: DataTree, record: Record) -> Entry:
        """Keep a tree on another worker."""
        (future,) = self._client.scatter([(tree, record)], workers=self._others(), hash=False)
        keep(self._client, self._run, record.token, future, replace=True)
        return Entry(record, None, tree.nbytes)

    def _others(self) -> list[str] | None:
        """Choose the worker that uses the least memory, other than one's own."""
        workers = self._client.scheduler_info(n_workers=-1).get("workers", {})
        others = {
            address: of.get("metrics", {}).get("memory", 0)
            for address, of in workers.items()
            if address != self._own and of["status"] == "running"
        }
        return [min(others, key=lambda address: others[address])] if others else None

    def entries(self) -> list[Entry]:
        """List nothing: what is here is asked for by its token."""
        return []

    def discard(self, token: str, *, model: str, label: str) -> bool:
        """Let go of what is kept under a token, and say whether there was something."""
        found = token in parts_kept(self._client, self._run)
        if found:
            let_go(self._client, self._run, token)
        return found
