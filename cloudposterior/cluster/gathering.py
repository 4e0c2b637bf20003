"""What tasks drew, from the workers to the client: as much at once as fits."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from cloudposterior.cluster.reach import reaches_workers
from cloudposterior.cluster.sealed import opened

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Gathering", "next_batch"]


class _Piece(Protocol):
    """Part of a result, as a segment is one."""

    @property
    def samples(self) -> Any: ...


_GATHERED_BYTES = 32 * 2**20
"""What is gathered at once; it lies beside the arrays that it goes into."""
_SMALLEST_BYTES = 2**20
"""A smaller result counts as one of this size."""

_LOOK_UP_S = 0.1


class Gathering:
    """Gathers the results of tasks that have ended.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    look : callable
        Called now and then while somebody is waited for; what it raises ends that.
    """

    def __init__(self, client: Client, look: Callable[[], None]) -> None:
        self._client = client
        self._look = look
        self._direct = reaches_workers(client)
        # of the results so far, in bytes; none came in yet
        self._largest = 0

    def results(self, done: list[Future]) -> Iterator[tuple[Future, Any]]:
        """Give what futures hold, many with one call: a call for each is a way there and back.

        Parameters
        ----------
        done : list of Future
            Those that have ended.

        Yields
        ------
        tuple of Future and object
            In the place of a result that cannot be had any more is the error that says why; None
            is in the place of one that was lost on the way, and that Dask may make again.
        """
        while done:
            # the first alone, since nobody knows how large it is
            many = max(1, _GATHERED_BYTES // self._largest) if self._largest else 1
            now, done = done[:many], done[many:]
            results = self._gather(now)
            for place, future in enumerate(now):
                result, results[place] = opened(results[place]), None
                self._measure(result)
                yield future, result

    def _gather(self, futures: list[Future]) -> list[Any]:
        """Gather, without waiting for what has to be made again: that may be a whole chain."""
        from distributed.comm import CommClosedError

        client = self._client
        asked = asyncio.run_coroutine_threadsafe(
            client.gather(futures, direct=self._direct, asynchronous=True),
            client.loop.asyncio_loop,
        )
        try:
            while not (asked.done() or any(map(_is_lost, futures))):
                concurrent.futures.wait([asked], _LOOK_UP_S)
                self._look()
        finally:
            # another run of this client, which waits for the same answer, asks once more
            asked.cancel()
        error = None if asked.cancelled() else asked.exception()
        if not asked.cancelled() and error is None:
            results: list[Any] = asked.result()
            return results
        if len(futures) > 1:
            # one by one, to learn whose it is
            return [self._gather([future])[0] for future in futures]
        # the way to the scheduler broke: it comes back, or the client learns that it is gone
        return [None if isinstance(error, CommClosedError) else error]

    def _measure(self, result: Any) -> None:
        if result is None or isinstance(result, Exception):
            return
        # segments come with the state at their end
        pieces = result[1] if isinstance(result, tuple) else result
        size = sum(_bytes_of(piece) for piece in pieces)
        self._largest = max(self._largest, size, _SMALLEST_BYTES)


def next_batch(completed: Any, *, wait: bool) -> list[Future]:
    """Give the futures that have ended by now; where there are none, wait a little.

    Parameters
    ----------
    completed : distributed.as_completed
        The futures.
    wait : bool
        Whether to wait at all.
    """
    batch: list[Future] = completed.next_batch(block=False)
    if not batch and wait:
        with completed.thread_condition:
            if not completed.has_ready():
                completed.thread_condition.wait(_LOOK_UP_S)
    return batch


def _is_lost(future: Future) -> bool:
    return future.status in ("lost", "pending")


def _bytes_of(piece: _Piece) -> int:
    samples = piece.samples
    if isinstance(samples, dict):
        return sum(value.nbytes for value in samples.values())
    return int(getattr(samples, "nbytes", 0))
