"""Runs that a worker drives: submitted by a client, and fetched by it or by any other."""

from __future__ import annotations

import asyncio
import importlib
import re
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cloudposterior.cache import Cache, Record
from cloudposterior.cluster import keeping, tasks
from cloudposterior.errors import CacheWarning, ClusterError, tell
from cloudposterior.posterior import is_posterior, to_tree
from cloudposterior.progress.table import Row, RunTable, Table
from cloudposterior.samplers.surroundings import say

if TYPE_CHECKING:
    from distributed import Client, Future

    from cloudposterior.cluster.parcel import Parcel

__all__ = ["SubmittedRun", "find_run", "id_of", "open_ways", "send_run"]

_PART_BYTES = 8 * 2**20
_MOST_TRIES = 20
_LOOK_UP_S = 0.1


class SubmittedRun:
    """A run on a cluster that goes on without whoever asked for it.

    `cp.submit` and `cp.attach` give it. The cluster keeps the result until it is fetched, or for
    the setting ``cloudposterior.cluster.keep-results``.

    Attributes
    ----------
    id : str
        What `cp.attach` takes.
    record : Record or None
        Under which a cache keeps the result; None before it is fetched, and where it is not whole.
    """

    def __init__(
        self,
        id: str,  # noqa: A002  (what its users call it)
        client: Client | None = None,
        future: Future | None = None,
        *,
        title: str = "",
        cache: Cache | None = None,
        quiet: bool = False,
        result: Any = None,
        closing: ExitStack | None = None,
    ) -> None:
        self.id = id
        self._client = client
        self._future = future
        self._title = title or id
        self._cache = cache
        self._quiet = quiet
        self._result = result
        self.closing = closing or ExitStack()
        self._last: Table | None = None
        self.record: Record | None = None

    def __repr__(self) -> str:
        """Say which run it is, and how it stands."""
        return f"<cloudposterior.SubmittedRun {self.id}: {'; '.join(self.status().lines())}>"

    def done(self) -> bool:
        """Say whether `result` would return, or raise, at once."""
        return self._future is None or bool(self._future.done())

    def status(self) -> Table:
        """Say how it stands.

        Returns
        -------
        cloudposterior.progress.table.Table
            A row for each chain, times in seconds; ``lines()`` puts it in words.
        """
        if self._client is not None and self._client.status == "running":
            _, table = self._ask("cloudposterior_status")
            if table is not None:
                self._last = _as_table(table)
        if self._last is None:
            self._last = RunTable(self.id, self._title, 0).snapshot()
        return self._last

    @property
    def key(self) -> str:
        """What its chains tell events under; empty where it has not begun."""
        return str(self._ask("cloudposterior_status")[0])

    def _ask(self, handler: str) -> Any:
        assert self._client is not None
        return self._client.sync(getattr(self._client.scheduler, handler), submitted=self.id)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result, fetch it, and have the cluster keep it no longer.

        Parameters
        ----------
        timeout : float, optional
            How long to wait, in seconds; None waits as long as it takes.

        Returns
        -------
        xarray.DataTree or arviz.InferenceData
            What `pymc.sample` returns; of a run that was stopped, with the draws that it had.

        Raises
        ------
        TimeoutError
            If it takes longer. The run goes on.
        ClusterError, ShippingError, ChainError
            As `cloudposterior.sample` raises them.
        """
        if self._result is None:
            found = self._answer(timeout)
            say(found.said, quiet=self._quiet)
            self.record = found.record
            self._keep(found)
            self._result = found.result
            self._leave()
        return self._result

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the result in another thread, as ``await run``."""
        return asyncio.to_thread(self.result).__await__()

    def _answer(self, timeout: float | None) -> Any:
        from distributed.scheduler import KilledWorker

        client, future = self._here()
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in range(_MOST_TRIES):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return future.result(timeout=left)
            except KilledWorker:
                # not its fault: it does little more than wait, on workers that others end
                client.retry([future])
            except TimeoutError:
                raise TimeoutError(
                    f"run {self.id} has not ended within {timeout:g} s; it goes on, and "
                    "result() may be called again"
                ) from None
            except asyncio.CancelledError as error:
                raise ClusterError(
                    f"run {self.id} is not there any more: it was cancelled, or its scheduler was "
                    "restarted or closed"
                ) from error
            except Exception:
                self._leave()
                raise
        raise ClusterError(
            f"the workers that drive run {self.id} die again and again: look into their logs"
        )

    def _here(self) -> tuple[Client, Future]:
        if self._client is None or self._future is None or self._client.status != "running":
            raise ClusterError(
                f"run {self.id} was left, or cancelled, or its cluster was closed: "
                "cp.attach(run.id, cluster=...) finds it where it still runs"
            )
        return self._client, self._future

    def _keep(self, found: Any) -> None:
        if self._cache is None or found.record is None or not is_posterior(found.result):
            return
        record = found.record
        try:
            self._cache.put(to_tree(found.result), record)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (a posterior outranks it)
            tell(CacheWarning, f"the posterior is returned, but could not be saved: {error!r}")

    def stop(self) -> None:
        """Ask its chains to end; the result has the draws made by then.

        Raises
        ------
        ClusterError
            If it is not there any more.
        """
        _, future = self._here()
        while not future.done() and not self._ask("cloudposterior_stop"):
            # it was submitted just now, and has not got so far
            _pause(future)

    def cancel(self) -> None:
        """End it, and have the cluster forget what came of it."""
        if self._future is None:
            return
        client, future = self._here()
        keeping.let_go(client, self.id)
        if not future.done():
            self._ask("cloudposterior_stop")
        future.cancel(force=True)
        self._leave()

    def close(self) -> None:
        """Leave the run alone: it goes on, and `cp.attach` finds it."""
        self.status()
        self._drop()

    def _leave(self) -> None:
        client, _ = self._here()
        self.status()
        keeping.let_go(client, self.id)
        self._drop()

    def _drop(self) -> None:
        if self._future is not None:
            self._future.release()
        self._future = self._client = None
        self.closing.close()

    def watched(self, watch: Callable[[], bool]) -> Any:
        """Give the result, and call `watch` meanwhile, which says True to stop the run."""
        asked = False
        while not self.done():
            if watch() and not asked:
                asked = bool(self._ask("cloudposterior_stop"))
            assert self._future is not None
            _pause(self._future)
        return self.result()


def _pause(future: Future) -> None:
    try:
        future.exception(timeout=_LOOK_UP_S)
    except TimeoutError:
        return
    except asyncio.CancelledError:
        return


def _as_table(plain: dict[str, Any]) -> Table:
    rows = tuple(Row(**row) for row in plain["rows"])
    return Table(**{**plain, "rows": rows})


def id_of(model_name: str, token: str) -> str:
    """Name a run, so that whoever asks for the same finds it.

    Parameters
    ----------
    model_name : str
        The name of its model; only for people.
    token : str
        The token of its request.
    """
    return f"{re.sub(r'[^0-9A-Za-z_.]+', '_', model_name)[:40] or 'model'}-{token}"


def open_ways(client: Client) -> None:
    """Make a scheduler ready for runs that are submitted.

    Raises
    ------
    ClusterError
        If it cannot be.
    """
    # it brings in distributed
    plugin = importlib.import_module("cloudposterior.cluster.plugin")
    try:
        for one in (plugin.PosteriorPlugin(), plugin.Expiry()):
            client.register_plugin(one)
    except Exception as error:
        raise ClusterError(
            f"the scheduler at {client.scheduler.address} cannot keep runs ({error!r}): install "
            "cloudposterior there, as it is here"
        ) from error


def find_run(client: Client, run: str, **options: Any) -> SubmittedRun | None:
    """Find a run on a cluster.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    run : str
        Its id.
    **options
        As `SubmittedRun` takes them.

    Returns
    -------
    SubmittedRun or None
        None where there is none.
    """
    future = keeping.kept(client, run, keeping.RUN)
    return None if future is None else SubmittedRun(run, client, future, **options)


def send_run(
    client: Client,
    drive: Callable[[Parcel, bytes], Any],
    parcel: Parcel,
    model: bytes,
    **options: Any,
) -> SubmittedRun:
    """Send a run to a cluster, or join the one that is there under its name.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    drive : callable
        Drives the run, on a worker.
    parcel : Parcel
        The call.
    model : bytes
        Its model.
    **options
        As `SubmittedRun` takes them.
    """
    future = keeping.kept(client, parcel.run, keeping.RUN)
    if future is not None:
        # what is known of it is on its way
        _pause(future)
        if future.status == "error":
            keeping.let_go(client, parcel.run)
            future = None
    if future is None:
        unique = f"{parcel.run}-{uuid.uuid4().hex}"
        parts = [
            client.submit(tasks.same, model[i : i + _PART_BYTES], key=f"{unique}-model-{i}")
            for i in range(0, len(model), _PART_BYTES)
        ]
        sent = client.submit(tasks.join_parts, *parts, key=f"{unique}-model")
        # before the chains of others: it does little, and they wait for it
        future = client.submit(
            drive, parcel, sent, key=f"{unique}-driver", pure=False, priority=1000
        )
        if not keeping.keep(client, parcel.run, keeping.RUN, future):
            # somebody else was faster
            future = keeping.kept(client, parcel.run, keeping.RUN)
    return SubmittedRun(parcel.run, client, future, **options)
