"""Runs that a worker drives: submitted by a client, and fetched by it or by any other."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import re
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Protocol

from xarray import DataTree

from cloudposterior.cache import Cache, Record
from cloudposterior.cluster import keeping
from cloudposterior.cluster.reach import reaches_workers
from cloudposterior.cluster.sealed import opened, submit
from cloudposterior.cluster.sending import send_bytes
from cloudposterior.errors import ClusterError
from cloudposterior.progress.table import Row, RunTable, Table
from cloudposterior.run import keep_result
from cloudposterior.samplers.surroundings import Said, say

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = [
    "SubmittedRun",
    "find_run",
    "find_run_under_way",
    "id_of",
    "open_ways",
    "send_run",
    "wait_for_any",
]

_MOST_TRIES = 20
_LOOK_UP_S = 0.1
_CANCELLED = (concurrent.futures.CancelledError, asyncio.CancelledError)
"""The first is Dask's for a task, the second what a client raises that is closed meanwhile."""


class _Answer(Protocol):
    """What came of a run, as its driver says it."""

    result: Any
    record: Record | None
    said: tuple[Said, ...]
    kept_in: str
    states: DataTree | None


class SubmittedRun:
    """A run on a cluster that goes on without whoever asked for it.

    `cp.submit` and `cp.attach` give it; ``await run`` gives the result, too. The cluster keeps the
    result until it is fetched, or for the setting ``cloudposterior.cluster.keep-results``.

    Attributes
    ----------
    id : str
        What `cp.attach` takes.
    from_cache : bool
        Whether the cache had the result when it was asked for, so that nothing runs.

    Examples
    --------
    >>> run = cp.submit(model, draws=100, tune=100, chains=2, cluster=client)
    >>> idata = run.result(timeout=60)
    >>> run.done()
    True
    >>> len(run.status().rows)
    2
    """

    def __init__(
        self,
        id: str,  # noqa: A002  (what its users call it)
        client: Client | None = None,
        future: Future | None = None,
        *,
        title: str = "",
        cache: Cache | None = None,
        reached: str = "",
        quiet: bool = False,
        result: Any = None,
    ) -> None:
        self.id = id
        self._client = client
        self._future = future
        self._title = title or id
        self._cache = cache
        # the same cache in words, if the driver may have kept the result there
        self._reached = reached
        self._quiet = quiet
        self._result = result
        self.from_cache = future is None
        self._closing = ExitStack()
        self._last: Table | None = None

    def own(self, closing: ExitStack) -> None:
        """Take over what is to be closed with this handle: a client that was opened for it."""
        self._closing = closing
        # also where nobody does; left to itself, it would be closed when Python has half ended
        weakref.finalize(self, _close_unasked, closing)

    def __repr__(self) -> str:
        """Say which run it is, and how it stands."""
        return f"<cloudposterior.SubmittedRun {self.id}: {'; '.join(self.status().lines())}>"

    def done(self) -> bool:
        """Say whether `result` would return, or raise, at once.

        Returns
        -------
        bool
            True once the run has ended, in whatever way.
        """
        future = self._future
        return future is None or bool(future.done())

    def status(self) -> Table:
        """Say how it stands.

        Returns
        -------
        cloudposterior.progress.table.Table
            A row for each chain, times in seconds; ``lines()`` puts it in words.
        """
        client, future = self._client, self._future
        if client is not None and future is not None and client.status == "running":
            plain = client.sync(client.scheduler.cloudposterior_status, submitted=future.key)
            if plain is not None:
                rows = tuple(Row(**row) for row in plain["rows"])
                self._last = Table(**{**plain, "rows": rows})
        if self._last is None:
            self._last = RunTable(self.id, self._title, 0).snapshot()
        return self._last

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result, fetch it, and have the cluster keep it no longer.

        Parameters
        ----------
        timeout : float, optional
            How long to wait, in seconds; None waits as long as it takes.

        Returns
        -------
        xarray.DataTree or arviz.InferenceData
            What `pymc.sample` returns, variables of shape ``(chain, draw, *shape)``; of a run
            that was stopped, with the draws that it had.

        Raises
        ------
        TimeoutError
            If it takes longer. The run goes on, as it does after Ctrl-C.
        ClusterError, ShippingError, ChainError
            As `cloudposterior.sample` raises them.
        """
        if self._result is None:
            try:
                answer = self._answer(timeout)
            except TimeoutError:
                raise
            except Exception:
                # what was drawn stays, for whoever submits the same again; and where only the way
                # here broke, so does the result
                if self._future is not None and self._future.status == "error":
                    self._leave(keeping.RUN)
                raise
            self._keep(answer)
            self._result = answer.result
            self._leave()
            say(answer.said, quiet=self._quiet)
        return self._result

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the result without holding up the event loop, as ``await run``."""
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        # no thread that waits: who gives up waiting would have to wait for it
        while True:
            while not self.done():
                await asyncio.sleep(_LOOK_UP_S)
            # it may have been let go of on the way
            if self._future is None or (await asyncio.to_thread(self._current)).done():
                return await asyncio.to_thread(self.result)

    def _answer(self, timeout: float | None) -> _Answer:
        from distributed.scheduler import KilledWorker

        client, _ = self._here()
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in range(_MOST_TRIES):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                future = self._current()
                if future.exception(timeout=left) is None and not future.cancelled():
                    # past the scheduler, which would hold it all
                    direct = reaches_workers(client)
                    answer: _Answer = opened(client.gather(future, direct=direct))
                    return answer
                future.result()
            except KilledWorker:
                # not its fault: it does little more than wait, on workers that others end
                client.retry([future])
            except TimeoutError:
                raise TimeoutError(
                    f"run {self.id} has not ended within {timeout:g} s; it goes on, and "
                    "result() may be called again"
                ) from None
            except _CANCELLED:
                # looked for once more
                continue
        raise ClusterError(
            f"the workers that drive run {self.id} die again and again: look into their logs"
        )

    def _current(self) -> Future:
        """Give the task of the run.

        Dask has a client let go of all its tasks when its way to the scheduler breaks; the run does
        not need it, and is found again by its name.

        Raises
        ------
        ClusterError
            If it is not there any more.
        """
        client, future = self._here()
        if not future.cancelled():
            return future
        again = keeping.kept(client, self.id, keeping.RUN)
        if again is None:
            raise ClusterError(
                f"run {self.id} is not there any more: it was cancelled, or its scheduler was "
                "restarted or closed"
            )
        self._future = again
        return again

    def _here(self) -> tuple[Client, Future]:
        while self._client is not None and self._client.status == "connecting":
            threading.Event().wait(_LOOK_UP_S)
        if self._client is None or self._future is None or self._client.status != "running":
            raise ClusterError(
                f"run {self.id} was left, or cancelled, or its cluster was closed: "
                "cp.attach(run.id, cluster=...) finds it where it still runs"
            )
        return self._client, self._future

    def _keep(self, answer: _Answer) -> None:
        is_there = bool(answer.kept_in) and answer.kept_in == self._reached
        if self._cache is not None and answer.record is not None and not is_there:
            keep_result(self._cache, answer.result, answer.record, answer.states)

    def stop(self) -> None:
        """Ask its chains to end; the result has the draws made by then.

        Whoever else waits for this run gets no more of it, either.

        Raises
        ------
        ClusterError
            If it is not there any more.
        """
        client, future = self._here()
        client.sync(client.scheduler.cloudposterior_stop, submitted=future.key)

    def cancel(self) -> None:
        """End it, and have the cluster forget what came of it, whoever waits for that.

        Raises
        ------
        ClusterError
            If it is not there any more.
        """
        if self._future is None:
            return
        client, future = self._here()
        # first of all: a name without a task would be found by others
        keeping.let_go(client, self.id)
        _end(client, future)
        self.close()

    def close(self) -> None:
        """Leave the run alone: it goes on, and `cp.attach` finds it."""
        self.status()
        if self._future is not None:
            self._future.release()
        self._future = self._client = None
        self._closing.close()

    def _leave(self, *parts: str) -> None:
        client = self._client
        if client is not None and client.status == "running":
            keeping.let_go(client, self.id, *parts)
        self.close()

    def watched(self, watch: Callable[[], bool]) -> _Answer:
        """Wait for what comes of it, which stays where it is.

        Parameters
        ----------
        watch : callable
            Called meanwhile; says True to stop the run.
        """
        asked = False
        try:
            while not (future := self._current()).done():
                if watch() and not asked:
                    self.stop()
                    asked = True
                _pause(future)
            return self._answer(None)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                f"the run goes on: cp.attach({self.id!r}, cluster=...) finds it, and so does the "
                "same call"
            )
            raise


def wait_for_any(runs: Mapping[str, SubmittedRun]) -> list[str]:
    """Wait a little for runs; give the ids of those that have ended by then.

    Parameters
    ----------
    runs : mapping of str to SubmittedRun
        By id.
    """
    from distributed import wait

    futures = [run._future for run in runs.values() if run._future is not None]
    if futures and len(futures) == len(runs):
        # one that was cancelled is done
        with futures[0].client.as_current(), suppress(TimeoutError, *_CANCELLED):
            wait(futures, timeout=_LOOK_UP_S, return_when="FIRST_COMPLETED")
    return [run_id for run_id, run in runs.items() if run.done()]


def _close_unasked(closing: ExitStack) -> None:
    if threading.current_thread() is threading.main_thread():
        closing.close()
    else:
        # it may be that of Dask's loop, which cannot wait for itself
        threading.Thread(target=closing.close, daemon=True).start()


def _pause(future: Future) -> None:
    try:
        future.exception(timeout=_LOOK_UP_S)
    except (TimeoutError, *_CANCELLED):
        return


def _end(client: Client, future: Future) -> None:
    """End a task that drives a run: one that has begun ends by itself, and has to be asked."""
    client.sync(client.scheduler.cloudposterior_stop, submitted=future.key)
    future.cancel(force=True)


def id_of(model_name: str, token: str) -> str:
    """Name a run, so that whoever asks for the same finds it.

    Parameters
    ----------
    model_name : str
        The name of its model; only for people.
    token : str
        What tells it from others.
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


def find_run_under_way(client: Client, run: str, **options: Any) -> SubmittedRun | None:
    """Find a run on a cluster that may be joined: that has not failed.

    Parameters and results are those of `find_run`.
    """
    found = find_run(client, run, **options)
    return found if found is not None and keeping.key_of(client, run, keeping.RUN) else None


def send_run(
    client: Client, drive: Callable[[bytes], Any], run: str, packed: bytes, **options: Any
) -> SubmittedRun:
    """Send a run to a cluster, or join the one that is there under its name.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    drive : callable
        Drives the run, on a worker.
    run : str
        The name.
    packed : bytes
        The call, as `drive` takes it.
    **options
        As `SubmittedRun` takes them.
    """
    found = find_run_under_way(client, run, **options)
    if found is not None:
        return found
    keeping.let_go(client, run, keeping.RUN)
    unique = f"{run}-{uuid.uuid4().hex}"
    # before the chains of others: it does little, and they wait for it
    future = submit(
        client,
        drive,
        send_bytes(client, packed, f"{unique}-call"),
        key=f"{unique}-driver",
        pure=False,
        priority=1000,
    )
    if keeping.keep(client, run, keeping.RUN, future):
        return SubmittedRun(run, client, future, **options)
    # somebody else was faster
    _end(client, future)
    return send_run(client, drive, run, packed, **options)
