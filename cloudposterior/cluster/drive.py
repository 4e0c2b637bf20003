"""From chains to futures and back: submit, gather, stop.

A chain is a line of tasks, ``start -> advance -> advance -> ...``. Two of them are always under
way, so that a worker never waits for the client; each that ends hands its draws over and makes
place for the next. Nothing but keys passes through the scheduler.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import dask.config
from dask.utils import parse_timedelta

from cloudposterior.cluster import tasks
from cloudposterior.cluster.reach import reaches_workers
from cloudposterior.cluster.stopping import stop
from cloudposterior.errors import (
    ChainError,
    CloudPosteriorError,
    ClusterError,
    ClusterWarning,
    tell,
)
from cloudposterior.samplers.protocol import Run, Sampler, Segment, State

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Drive"]

_PART_BYTES = 8 * 2**20
"""A graph of more is warned about by Dask, and a scheduler takes many small messages better."""

_AHEAD = 2

_GATHERED_BYTES = 32 * 2**20
"""What is gathered at once; it lies beside the arrays that it goes into."""
_SMALLEST_BYTES = 2**20
"""A smaller result counts as one of this size."""

_LOOK_UP_S = 0.1


@dataclass(eq=False)
class _Line:
    """The tasks of a chain, or of chains that advance together."""

    chains: tuple[int, ...]
    # the first chains first, as PyMC draws them
    priority: int
    begun: Future
    # what the next task goes on from
    last: Future | State
    segments: int = 0
    # part of the keys, where a line did not begin with the first draw
    origin: str = ""
    pending: list[Future] = field(default_factory=list)
    state: State | None = None
    error: Exception | None = None

    @property
    def drawn(self) -> int:
        return 0 if self.state is None else self.state.drawn

    @property
    def ended(self) -> bool:
        return self.error is not None or (self.state is not None and self.state.finished)


class Drive:
    """Draws the chains of one run on a cluster.

    Parameters
    ----------
    client : distributed.Client
        Connected, with a worker.
    sampler : Sampler
        Who draws.
    model : bytes
        The model.
    run : Run
        What the chains share.
    name : str
        What the tasks are called on the dashboard, e.g. ``"radon-sample"``.
    """

    def __init__(
        self, client: Client, sampler: Sampler, model: bytes, run: Run, *, name: str
    ) -> None:
        self._client = client
        self._sampler = sampler
        self._name = name
        self._run_key = run.key
        self._lines: list[_Line] = []
        # of the results so far, in bytes; none came in yet
        self._largest = 0
        self._of: dict[str, _Line] = {}
        self._direct = reaches_workers(client)
        first = parse_timedelta(dask.config.get("cloudposterior.cluster.first-segment"))
        self._first_s = float(first)
        self._segment_s = float(parse_timedelta(dask.config.get("cloudposterior.cluster.segment")))
        self._model = self._send(model, f"{name}-model-{run.model}")
        self._arguments = self._send(run.arguments, f"{name}-arguments-{run.key}")
        self._run = client.submit(
            tasks.with_arguments,
            replace(run, arguments=b""),
            self._arguments,
            key=f"{name}-run-{run.key}",
            pure=False,
        )

    def _send(self, data: bytes, key: str) -> Future:
        # a task each, not data that is scattered: what a lost worker held is made again
        parts = [
            self._client.submit(tasks.same, data[i : i + _PART_BYTES], key=f"{key}-{i}", pure=False)
            for i in range(0, len(data), _PART_BYTES)
        ]
        return self._client.submit(tasks.join_parts, *parts, key=key, pure=False)

    @property
    def failed(self) -> dict[tuple[int, ...], Exception]:
        """The error of each group of chains that failed so far."""
        return {line.chains: line.error for line in self._lines if line.error is not None}

    def draw(
        self,
        groups: Iterable[tuple[int, ...]],
        take: Callable[[Segment, State], None],
        *,
        watch: Callable[[], bool] = lambda: False,
        go_on: bool = False,
    ) -> dict[tuple[int, ...], Exception]:
        """Draw chains to their end, or until they are stopped.

        Parameters
        ----------
        groups : iterable of tuple of int
            The chains, those that advance together in one tuple.
        take : callable
            Called with each segment and the state at its end, chain by chain in order.
        watch : callable
            Called some ten times a second while there is nothing to take in; once it says True
            the chains end with the next draw.
        go_on : bool
            Whether the other chains go on when one fails.

        Returns
        -------
        dict
            The error of each group that failed.

        Raises
        ------
        Exception
            What a chain failed with, unless `go_on`; and whatever `take` raises. The chains are
            stopped then. An interrupt also takes in what was drawn before it is raised.
        """
        from distributed import as_completed

        try:
            workers = _running(self._client)
            for number, chains in enumerate(groups):
                # left to itself, Dask prefers the one that holds the model already
                where = workers[number % len(workers)] if workers else None
                self._begin(chains, -number, where)
            completed = as_completed(
                # no name for the list: it would hold the first draws of all chains
                [future for line in self._lines for future in line.pending],
                loop=self._client.loop,
            )
            for batch in _batches(completed, watch):
                # looked at once: it may change at any time
                states = [(future, future.status) for future in batch]
                # what was lost before it was gathered is made again
                completed.update([f for f, status in states if status in ("lost", "pending")])
                for line in self._take(states, take):
                    if line.error is not None and not go_on:
                        raise line.error
                    if line.ended:
                        # those that were submitted ahead find a finished chain
                        self._forget(line)
                    else:
                        completed.update(self._fill_up(line))
            if completed.is_empty():
                self._check_ended()
            else:
                self._stop(take)
        except KeyboardInterrupt:
            self._stop(take)
            raise
        except BaseException as error:
            try:
                self._tell_to_stop()
            except (OSError, TimeoutError, CancelledError) as stopping:
                error.add_note(f"the chains could not be told to stop: {stopping!r}")
            raise
        finally:
            self._release()
        return self.failed

    def _begin(self, chains: tuple[int, ...], priority: int, worker: str | None) -> None:
        key = f"{self._name}-{_words(chains)}-start-{self._run_key}"
        begun = self._client.submit(
            tasks.start,
            self._sampler,
            self._model,
            self._run,
            chains,
            workers=worker,
            allow_other_workers=worker is not None,
            key=key,
            priority=priority,
            pure=False,
        )
        line = _Line(chains, priority, begun, begun)
        self._lines.append(line)
        self._fill_up(line)

    def _fill_up(self, line: _Line) -> list[Future]:
        return [self._advance(line) for _ in range(_AHEAD - len(line.pending))]

    def _advance(self, line: _Line) -> Future:
        key = f"{self._name}-{_words(line.chains)}-{line.segments}{line.origin}-{self._run_key}"
        seconds = self._segment_s if line.segments else self._first_s
        future = self._client.submit(
            tasks.advance,
            self._sampler,
            self._model,
            self._run,
            line.last,
            seconds,
            key=key,
            priority=line.priority,
            pure=False,
        )
        line.segments += 1
        line.last = future
        line.pending.append(future)
        self._of[future.key] = line
        return future

    def _take(
        self, states: list[tuple[Future, str]], take: Callable[[Segment, State], None]
    ) -> list[_Line]:
        """Hand on what futures hold; give the lines that may need a next task, one each time."""
        done = [f for f, status in states if status == "finished" and f.key in self._of]
        moved = []
        for future, status in states:
            if status in ("error", "cancelled"):
                moved += self._fail(future, _error(future))
        for future, result in self._gathered(done):
            if isinstance(result, Exception):
                moved += self._fail(future, result)
                continue
            line = self._of.pop(future.key, None)
            if line is None or line.error is not None:
                continue
            state, segments = result
            line.pending.remove(future)
            moved.append(line)
            if (segments[0].first if segments else state.drawn) > line.drawn:
                self._go_back(line)
                continue
            if state.drawn >= line.drawn:
                line.state = state
            for segment in segments:
                take(segment, state)
        return moved

    def _fail(self, future: Future, error: BaseException | None) -> list[_Line]:
        line = self._of.pop(future.key, None)
        if line is None or line.ended:
            return []
        line.error = _as_chain_error(line.chains, error)
        return [line]

    def _gathered(self, done: list[Future]) -> Iterator[tuple[Future, Any]]:
        """Gather results, as many at once as fit; a call for each would be a way there and back.

        In the place of a result that cannot be had any more is the error that says why.
        """
        while done:
            # the first alone, since nobody knows how large it is
            many = max(1, _GATHERED_BYTES // self._largest) if self._largest else 1
            now, done = done[:many], done[many:]
            try:
                results = self._client.gather(now, direct=self._direct)
            except Exception:  # noqa: BLE001  (asked again, one by one, to learn whose it is)
                results = [self._gathered_alone(future) for future in now]
            for place, future in enumerate(now):
                result, results[place] = results[place], None
                self._measure(result)
                yield future, result

    def _gathered_alone(self, future: Future) -> Any:
        try:
            return self._client.gather(future, direct=self._direct)
        except Exception as error:  # noqa: BLE001  (it ends its chain, which says it)
            return error

    def _measure(self, result: Any) -> None:
        if isinstance(result, Exception):
            return
        size = sum(_bytes_of(segment) for segment in result[1])
        self._largest = max(self._largest, size, _SMALLEST_BYTES)

    def _go_back(self, line: _Line) -> None:
        """Go on from the last draw that came in.

        After the loss of a worker Dask draws a chain again, from its start. How long a segment
        gets is a matter of time, so those that are drawn again may end elsewhere than the ones
        that came in, and there may be draws between the two that nobody sends.
        """
        self._forget(line)
        line.last = line.begun if line.state is None else line.state
        line.origin = f"-from {line.drawn}"

    def _forget(self, line: _Line) -> None:
        for future in line.pending:
            self._of.pop(future.key, None)
            future.release()
        line.pending.clear()

    def _check_ended(self) -> None:
        left = [line for line in self._lines if not line.ended]
        if left:
            raise _lost(", ".join(_words(line.chains) for line in left))

    def _stop(self, take: Callable[[Segment, State], None]) -> None:
        """End the segments that are being drawn, and take in what they drew."""
        from distributed import wait

        # a chain that still compiles has nothing to hand over
        running = [
            future
            for line in self._lines
            if not line.ended and line.begun.status == "finished"
            for future in line.pending
        ]
        if not running:
            return
        seconds = parse_timedelta(dask.config.get("cloudposterior.cluster.stop-timeout"))
        try:
            self._tell_to_stop()
            # it asks for the current client, which ours is not
            with self._client.as_current():
                wait(running, timeout=float(seconds))
        except (TimeoutError, OSError, CancelledError) as error:
            tell(ClusterWarning, f"not all chains handed over what they drew last: {error!r}")
        self._take([(f, "finished") for f in running if f.status == "finished"], take)

    def _tell_to_stop(self) -> None:
        """Have the segments that are being drawn end with the next draw.

        Those that were submitted ahead, too: one may have begun by now, on any worker.
        """
        keys = [future.key for line in self._lines for future in line.pending]
        if self._client.status == "running":
            self._client.run(stop, keys, on_error="ignore")

    def _release(self) -> None:
        """Let go of everything. What nobody else wants is dropped, running tasks included.

        `Client.cancel` would cancel what depends on a task, too, whoever wants that.
        """
        for line in self._lines:
            for future in (line.begun, *line.pending):
                future.release()
        for future in (self._model, self._arguments, self._run):
            future.release()
        self._of.clear()


def _running(client: Client) -> list[str]:
    workers = client.scheduler_info(n_workers=-1).get("workers", {})
    return sorted(address for address, of in workers.items() if of["status"] == "running")


def _bytes_of(segment: Segment) -> int:
    samples = segment.samples
    if isinstance(samples, dict):
        return sum(value.nbytes for value in samples.values())
    return int(getattr(samples, "nbytes", 0))


def _batches(completed: Any, watch: Callable[[], bool]) -> Iterator[list[Future]]:
    """Give futures as they end; stop when they all have, or `watch` says so."""
    while not completed.is_empty():
        if watch():
            return
        batch = completed.next_batch(block=False)
        if batch:
            yield batch
            continue
        with completed.thread_condition:
            if not completed.has_ready():
                completed.thread_condition.wait(_LOOK_UP_S)


def _words(chains: tuple[int, ...]) -> str:
    return f"chain {chains[0]}" if len(chains) == 1 else f"chains {chains[0]} to {chains[-1]}"


def _lost(what: str) -> ClusterError:
    return ClusterError(
        f"the cluster lost {what}: its scheduler was restarted or closed. What was drawn is kept; "
        "run again"
    )


def _error(future: Future) -> BaseException | None:
    error: BaseException | None = future.exception() if future.status == "error" else None
    return error


def _as_chain_error(chains: tuple[int, ...], error: BaseException | None) -> Exception:
    """Say in an error of ours what ended a chain."""
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    if isinstance(error, CloudPosteriorError):
        return error
    if error is None or isinstance(error, FutureCancelledError | CancelledError):
        return _lost(_words(chains))
    if isinstance(error, KilledWorker):
        where = getattr(error.last_worker, "address", "a worker")
        return ChainError(
            chains,
            str(where),
            f"its worker died, {error.allowed_failures + 1} times; most often for want of memory: "
            "give workers more (cp.cluster_options tells how much), and look into their logs",
        )
    # such as what cannot travel: no task of ours raises it
    wrapped = ChainError(chains, "a worker", f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
