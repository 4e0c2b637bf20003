"""From chains to futures and back: submit, gather, stop, go on elsewhere.

A chain is a line of tasks, ``start -> advance -> advance -> ...``. Two of them are always under
way, so that a worker never waits for the client; each that ends hands its draws over and makes
place for the next. Nothing but keys passes through the scheduler.

Draws and states that came in are the client's. When a worker dies, its chains go on elsewhere from
the last state that the client has: Dask alone would draw them again from their start.
"""

from __future__ import annotations

import math
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cloudpickle
from dask.utils import parse_timedelta

from cloudposterior.cluster import tasks
from cloudposterior.cluster.gathering import Gathering, next_batch
from cloudposterior.cluster.line import (
    MOST_DEATHS,
    MOST_DEATHS_COMPILING,
    Line,
    as_chain_error,
    killed,
    lost,
    memory_of,
    words,
)
from cloudposterior.cluster.losses import Losses
from cloudposterior.cluster.sealed import submit
from cloudposterior.cluster.sending import send_bytes
from cloudposterior.cluster.stopping import stop
from cloudposterior.cluster.workers import running_workers
from cloudposterior.config import cluster_setting
from cloudposterior.errors import ClusterWarning, tell
from cloudposterior.events import Event, Phase, TaskBegun, WorkerLost
from cloudposterior.samplers.protocol import Run, Sampler, Segment, State

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Drive"]

_AHEAD = 2
_TELL_S = 10.0
"""How long workers may take to hear that they are to stop."""

_LOOK_UP_S = 0.1

_SEGMENT_AFTER_A_LOSS_S = 1.0
"""Where one worker died another may, and what it drew since its last segment goes with it."""

_Chains = tuple[int, ...]
_Take = Callable[[Segment, State], None]


def _nobody(*_: object) -> None:
    pass


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
    told : callable
        Called with what happens to a chain that its worker cannot tell.
    look : callable
        Called now and then while workers are waited for; what it raises ends that.
    hears : bool
        Whether `hear` will be told of each worker that is lost.
    """

    def __init__(
        self,
        client: Client,
        sampler: Sampler,
        model: bytes,
        run: Run,
        *,
        name: str,
        told: Callable[[Event], None] = _nobody,
        look: Callable[[], None] = _nobody,
        hears: bool = False,
    ) -> None:
        self._client = client
        self._sampler = sampler
        self._name = name
        self._run_key = run.key
        self._told = told
        self._lines: list[Line] = []
        self._of: dict[str, Line] = {}
        self._again: list[Future] = []
        self._losses = Losses()
        # how often Dask gave tasks up since the last draw that came in, and may do so
        self._given_up, self._most_given_up = 0, MOST_DEATHS_COMPILING if hears else 0
        self._look = look
        self._gathering = Gathering(client, look)
        self._completed: Any = None
        first = parse_timedelta(cluster_setting("first-segment"))
        self._first_s = float(first)
        self._segment_s = float(parse_timedelta(cluster_setting("segment")))
        self._model = send_bytes(client, model, f"{name}-model-{run.model}")
        self._arguments = send_bytes(client, run.arguments, f"{name}-arguments-{run.key}")
        self._run = submit(
            client,
            tasks.with_arguments,
            replace(run, arguments=b""),
            self._arguments,
            key=f"{name}-run-{run.key}",
            pure=False,
        )

    @property
    def failed(self) -> dict[_Chains, Exception]:
        """The error of each group of chains that failed so far."""
        return {line.chains: line.error for line in self._lines if line.error is not None}

    def hear(self, event: TaskBegun | WorkerLost) -> None:
        """Take in what is told of tasks and workers; called in any thread."""
        self._losses.hear(event)
        if self._completed is not None and isinstance(event, WorkerLost):
            # Dask draws again from the start until it is told otherwise
            with self._completed.thread_condition:
                self._completed.thread_condition.notify_all()

    def draw(
        self,
        groups: Iterable[_Chains],
        take: _Take,
        *,
        watch: Callable[[], bool] = lambda: False,
        patient: Callable[[], bool] = lambda: False,
        go_on: bool = False,
        states: Mapping[int, State] | None = None,
    ) -> dict[_Chains, Exception]:
        """Draw chains to their end, or until they are stopped.

        Parameters
        ----------
        groups : iterable of tuple of int
            The chains, those that advance together in one tuple.
        take : callable
            Called with each segment and the state at its end, chain by chain in order.
        watch : callable
            Called some ten times a second; once it says True the chains end with the next draw.
        patient : callable
            Asked then: whether all of them are waited for, or only those that hand over what they
            drew within the setting ``cloudposterior.cluster.stop-timeout``.
        go_on : bool
            Whether the other chains go on when one fails.
        states : mapping of int to State, optional
            Where chains go on from that do not begin with the first draw.

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
        try:
            self._begin(groups, states or {})
            if self._drawn_to_the_end(take, watch, go_on):
                self._check_ended()
            else:
                self._stop(take, patient=patient())
        except KeyboardInterrupt:
            self._stop(take)
            raise
        finally:
            # which ends what is being drawn, unless another client wants it
            self._release()
        return self.failed

    def _begin(self, groups: Iterable[_Chains], states: Mapping[int, State]) -> None:
        workers = running_workers(self._client)
        for number, chains in enumerate(groups):
            first = f"{self._name}-{words(chains)}-"
            line = Line(chains, -number, first, state=states.get(chains[0]))
            self._lines.append(line)
            # left to itself, Dask prefers the one that holds the model already
            where = workers[number % len(workers)] if workers else None
            if line.resumable:
                self._go_on_from_state(line)
            else:
                self._start(line, where)
            self._fill_up(line)

    def _start(self, line: Line, worker: str | None) -> None:
        line.begun = line.last = submit(
            self._client,
            tasks.start,
            self._sampler,
            self._model,
            self._run,
            line.chains,
            workers=worker,
            allow_other_workers=worker is not None,
            key=f"{line.prefix}start-{self._run_key}",
            priority=line.priority,
            pure=False,
        )

    def _go_on_from_state(self, line: Line) -> None:
        """Let the next task of a line begin with the state that is here.

        How long a segment gets is a matter of time, so those that are drawn again may end
        elsewhere than they did, and each way to go on has keys of its own.
        """
        self._forget(line)
        line.release()
        line.gathered = ""
        line.bound = min(sorted(self._losses.warm), key=self._busy, default="")
        line.origin = f"-from {line.drawn}"
        key = f"{line.prefix}{line.segments}{line.origin}-state-{self._run_key}"
        line.last = send_bytes(self._client, cloudpickle.dumps(line.state), key)

    def _busy(self, worker: str) -> int:
        return sum(line.bound == worker for line in self._lines)

    def _fill_up(self, line: Line) -> list[Future]:
        return [self._advance(line) for _ in range(_AHEAD - len(line.pending))]

    def _advance(self, line: Line) -> Future:
        key = f"{line.prefix}{line.segments}{line.origin}-{self._run_key}"
        seconds = self._segment_s if line.segments else self._first_s
        if line.deaths:
            # what comes in soon shows that it is not the chain that ends its workers
            seconds = self._first_s / 4 ** len(line.deaths)
        future = submit(
            self._client,
            tasks.advance,
            self._sampler,
            self._model,
            self._run,
            line.last,
            seconds,
            # one that has to compile first may be lost before it has drawn anything
            workers=[line.bound] if line.bound and not line.pending else None,
            # one that Dask has paused takes no tasks
            allow_other_workers=bool(line.bound and not line.pending),
            key=key,
            priority=line.priority,
            pure=False,
        )
        line.segments += 1
        line.last = future
        line.pending.append(future)
        self._of[key] = line
        return future

    def _drawn_to_the_end(self, take: _Take, watch: Callable[[], bool], go_on: bool) -> bool:
        """Take in what is drawn; say whether all of it came in, or `watch` ended it."""
        from distributed import as_completed

        completed = self._completed = as_completed(
            # no name for the list: it would hold the first draws of all chains
            [future for line in self._lines for future in line.pending],
            loop=self._client.loop,
        )
        while not completed.is_empty():
            if watch():
                return False
            moved = self._go_on_elsewhere()
            # looked at once: it may change at any time
            states = [(future, future.status) for future in next_batch(completed, wait=not moved)]
            moved += self._take(states, take)
            # what was lost before it was gathered is made again
            completed.update(self._again)
            self._again.clear()
            for line in moved:
                if line.error is not None and not go_on:
                    raise line.error
                if line.ended:
                    # those that were submitted ahead find a finished chain
                    self._forget(line)
                else:
                    completed.update(self._fill_up(line))
        return True

    def _take(self, states: list[tuple[Future, str]], take: _Take) -> list[Line]:
        """Hand on what futures hold; give the lines that may need a next task, one each time."""
        done = [f for f, status in states if status == "finished" and f.key in self._of]
        moved = []
        for future, status in states:
            if status == "cancelled":
                # let go of, or its scheduler is gone
                moved += self._fail(future, None)
            elif status == "error" and (error := _error(future)) is not None:
                moved += self._fail(future, error)
            elif status != "finished":
                self._again.append(future)
        for future, result in self._gathering.results(done):
            if result is None:
                self._again.append(future)
            elif isinstance(result, Exception):
                moved += self._fail(future, result)
            else:
                state, segments = result
                moved += self._accept(future, state, segments, take)
        return moved

    def _accept(
        self, future: Future, state: State, segments: list[Segment], take: _Take
    ) -> list[Line]:
        line = self._of.pop(future.key, None)
        if line is None or line.error is not None:
            return []
        line.pending.remove(future)
        line.gathered, line.bound = future.key, ""
        self._losses.came_in(future.key)
        if (segments[0].first if segments else state.drawn) > line.drawn:
            # drawn again by Dask, from further back, with other ends
            self._go_back(line)
            return [line]
        if line.came_to(state):
            self._given_up = 0
        for segment in segments:
            take(segment, state)
        return [line]

    def _fail(self, future: Future, error: BaseException | None) -> list[Line]:
        from distributed.scheduler import KilledWorker

        line = self._of.get(future.key)
        if line is None or line.ended:
            return []
        if isinstance(error, KilledWorker) and self._given_up < self._most_given_up:
            self._try_again(line)
            return []
        line.error = as_chain_error(line.chains, error)
        return [line]

    def _try_again(self, line: Line) -> None:
        """Have Dask go on with what it has given up.

        It counts the workers that died while a task, be it the model's, was only waiting there;
        who ends workers is told by `Line.is_blamed`.
        """
        self._given_up += 1
        erred = [future for future in line.pending if future.status == "error"]
        self._client.retry(erred)
        self._again += erred

    def _go_on_elsewhere(self) -> list[Line]:
        """See to the chains whose workers have gone; give those that need tasks."""
        moved = []
        # all at once: none goes on where another loss is known of
        for loss, begun in list(self._losses.each()):
            if not loss.expected:
                self._segment_s = min(self._segment_s, _SEGMENT_AFTER_A_LOSS_S)
            for line in self._lines:
                if not line.ended and (line.is_blamed(loss, begun) or line.is_hit(loss)):
                    self._see_to(line, loss, begun)
                    moved.append(line)
        return moved

    def _see_to(self, line: Line, loss: WorkerLost, begun: set[str]) -> None:
        compiles = bool(self._losses.warm) or any(of.drawn for of in self._lines)
        most = MOST_DEATHS_COMPILING if compiles else MOST_DEATHS
        if len(line.deaths) >= MOST_DEATHS or len(line.unbegun) >= most:
            died = [*line.unbegun, *line.deaths]
            line.error = killed(line.chains, died, memory_of(loss))
        elif not line.is_hit(loss):
            # Dask drew there what nobody wants any more
            return
        elif line.resumable:
            self._go_on_from_state(line)
        elif not {*begun, *loss.lost}.isdisjoint(future.key for future in line.pending):
            # Dask draws it again, from its seed
            for chain in line.chains:
                self._told(Phase("restarting", chain, loss.worker))

    def _go_back(self, line: Line) -> None:
        """Go on from the last draw that came in, where Dask has drawn a chain again."""
        if line.resumable:
            self._go_on_from_state(line)
            return
        self._forget(line)
        line.last = line.begun

    def _forget(self, line: Line) -> None:
        """Let go of the draws to come; a worker that draws them ends with its next draw."""
        keys = [key for key, of in self._of.items() if of is line]
        for key in keys:
            del self._of[key]
        self._losses.forget(keys)
        for future in line.pending:
            future.release()
        line.pending.clear()

    def _check_ended(self) -> None:
        left = [line for line in self._lines if not line.ended]
        if left:
            raise lost(", ".join(words(line.chains) for line in left))

    def _stop(self, take: _Take, *, patient: bool = False) -> None:
        """End the segments that are being drawn, and take in what they drew."""
        # a chain that still compiles has nothing to hand over
        running = [
            future
            for line in self._lines
            if not line.ended and line.has_begun
            for future in line.pending
        ]
        if not running:
            return
        setting = float(parse_timedelta(cluster_setting("stop-timeout")))
        seconds = math.inf if patient else setting
        try:
            self._tell_to_stop(min(seconds, _TELL_S))
            self._wait(running, seconds)
        except (TimeoutError, OSError, CancelledError) as error:
            tell(ClusterWarning, f"not all chains handed over what they drew last: {error!r}")
        self._take([(f, "finished") for f in running if f.status == "finished"], take)

    def _tell_to_stop(self, seconds: float) -> None:
        """Have the segments that are being drawn end with the next draw.

        Those that were submitted ahead, too: one may have begun by now, on any worker.
        """

        async def tell_workers() -> None:
            # a worker that does not answer keeps nobody waiting
            await self._client.run(stop, keys, on_error="ignore")

        keys = [future.key for line in self._lines for future in line.pending]
        if self._client.status == "running":
            self._client.sync(tell_workers, callback_timeout=seconds)

    def _wait(self, running: list[Future], seconds: float) -> None:
        """Wait for what is being drawn, but for what goes with a worker meanwhile."""
        from distributed import as_completed

        deadline = time.monotonic() + seconds
        completed = as_completed(running, loop=self._client.loop)
        while not completed.is_empty():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds:g} s")
            next_batch(completed, wait=True)
            if math.isinf(seconds):
                self._look()
            for loss, _ in self._losses.each():
                for line in self._lines:
                    if line.is_hit(loss):
                        self._forget(line)

    def _release(self) -> None:
        """Let go of everything. What nobody else wants is dropped, running tasks included.

        `Client.cancel` would cancel what depends on a task, too, whoever wants that.
        """
        for line in self._lines:
            line.release()
        for future in (self._model, self._arguments, self._run):
            future.release()
        self._of.clear()


def _error(future: Future) -> BaseException | None:
    """Give what a task failed with; None where Dask has begun it again meanwhile."""
    try:
        error: BaseException | None = future.exception(timeout=_LOOK_UP_S)
    except TimeoutError:
        return None
    return error
