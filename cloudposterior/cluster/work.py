"""A call of a function beside `pymc.sample` on a cluster: in blocks of draws, or whole."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dask.base import tokenize
from xarray import DataTree

from cloudposterior.cache import Cache
from cloudposterior.cluster import tasks
from cloudposterior.cluster.gathering import Gathering, next_batch
from cloudposterior.cluster.interrupts import keep_interrupts
from cloudposterior.cluster.line import lost
from cloudposterior.cluster.sealed import submit
from cloudposterior.cluster.sending import send_bytes
from cloudposterior.cluster.versions import PACKAGES, versions_here
from cloudposterior.cluster.workers import (
    Absence,
    check_workers,
    running_workers,
    wait_for_workers,
)
from cloudposterior.errors import ClusterError
from cloudposterior.operations.call import FunctionCall
from cloudposterior.operations.given import BLOCK_DRAWS, Block, Blocks, bytes_of
from cloudposterior.operations.interrupted import interrupts_noted
from cloudposterior.operations.joined import Joined
from cloudposterior.operations.request import Request
from cloudposterior.operations.work import Computed, compute_blocks
from cloudposterior.progress.feed import events_of
from cloudposterior.progress.view import RunView
from cloudposterior.samplers.protocol import Run
from cloudposterior.samplers.seeds import packed_seed
from cloudposterior.samplers.surroundings import one_thread, say
from cloudposterior.shipping import pack_arguments, pack_model

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["WorkOnCluster"]

_log = logging.getLogger("pymc")

_TASK_S = 2.0
_TASK_BYTES = 64 * 2**20
"""A task takes so many blocks that it takes so long, and gives no more than this."""
_AHEAD = 2
"""Tasks for each thread that are under way."""
_LARGE_BYTES = 32 * 2**20
"""A block with a larger result may be computed sooner than it is moved."""
_MOVED_BYTES_A_SECOND = 300 * 10**6
"""Of results that come from workers on the same machine; from elsewhere it is less."""
_TRIED = 2
"""Blocks that are computed here to learn how long one takes."""


@dataclass
class WorkOnCluster:
    """A call that runs on a cluster.

    Attributes
    ----------
    call : FunctionCall
        The call.
    client : distributed.Client
        Connected.
    view : RunView
        Shows it.
    """

    call: FunctionCall
    client: Client
    view: RunView
    _held: list[Future] = field(default_factory=list)

    def phase(self, name: str, detail: str = "") -> None:
        """Show what is being done beside the computing."""
        self.view.phase(name, detail)

    def states(self) -> DataTree | None:
        """Give none: there are no chains."""
        return None

    def keeps(self) -> bool:
        """Tell that none are."""
        return False

    def forget(self, request: Request, cache: Cache) -> None:
        """Do nothing: no part of a run is kept."""

    def run(self, request: Request | None, cache: Cache | None, *, fresh: bool) -> tuple[Any, Any]:
        """Run the call.

        Parameters
        ----------
        request : Request or None
            Its request, from which the tasks have their keys, so that another client that makes the
            same one joins this run. None where nobody made one.
        cache : Cache or None
            Has room for a result that is larger than memory; it keeps no blocks.
        fresh : bool
            Join no run that is under way.

        Returns
        -------
        result
            What a cache keeps of it, or what the function returns where none can.
        seed
            The seed that repeats it.

        Raises
        ------
        ClusterError
            If the cluster cannot be used, or workers died of it.
        ShippingError
            If the model or an argument cannot be sent.
        Exception
            What the function raises.
        """
        why_not = self.call.why_not()
        if why_not is not None:
            _log.info("%s runs here: %s", self.call.name, why_not)
            return self.call.run()
        packages = (*PACKAGES, *self.call.packages)
        self.view.phase("waiting for workers")
        wait_for_workers(self.client, tell=print, watch=self.view.watch)
        check_workers(self.client, packages)
        keep_interrupts(self.client)
        sent = request.token if request is not None and not fresh else uuid.uuid4().hex
        blocks = self.call.blocks()
        run, seed = self._run(sent, packages, whole=blocks is None)
        try:
            self.view.phase("sending the model")
            packed = pack_model(self.call.model)
            model = self._send(packed, f"model-{run.model}")
            if blocks is None:
                return self._whole(model, run), seed
            joined = self.call.joined(blocks, getattr(cache, "scratch", None))
            return _InBlocks(self, packed, model, run, blocks, joined).computed(), seed
        finally:
            for future in self._held:
                future.release()

    def _run(self, sent: str, packages: tuple[str, ...], *, whole: bool) -> tuple[Run, Any]:
        """Give what all tasks share, and the seed as it is recorded."""
        call = self.call
        arguments, recorded = call.to_run()
        seed = arguments.get("random_seed")
        apart = {"model", "random_seed", *(() if whole else call.large)}
        small = {name: value for name, value in arguments.items() if name not in apart}
        packed = packed_seed(seed) if whole else call.block_seed(seed)
        token, structure = call.model_tokens()
        run = Run(
            key=tokenize(sent, recorded),
            model=token,
            structure=structure,
            arguments=pack_arguments(small, call.model),
            seed=packed,
            chains=0,
            settings=call.settings,
            versions=versions_here(packages),
        )
        return run, recorded

    def _send(self, data: bytes, key: str) -> Future:
        future = send_bytes(self.client, data, f"cloudposterior-{key}-{uuid.uuid4().hex}")
        self._held.append(future)
        return future

    def _whole(self, model: Future, run: Run) -> DataTree:
        self.view.phase("computing")
        with events_of(self.client, run.key, self.view.take):
            future = self._submit(tasks.compute_whole, model, run, key="whole")
            (computed,) = self._waited_for([future])
        self._say(computed)
        samples: DataTree = computed.samples
        return samples

    def _submit(self, function: Any, *args: Any, key: str, worker: str | None = None) -> Future:
        name = self.call.function.attribute
        future = submit(
            self.client,
            function,
            self.call.name,
            *args,
            key=f"{name}-{key}-{args[1].key}",
            workers=worker,
            allow_other_workers=worker is not None,
            pure=False,
        )
        self._held.append(future)
        return future

    def _say(self, computed: Computed) -> None:
        say(computed.said, quiet=self.call.quiet)

    def _waited_for(self, futures: list[Future]) -> list[Computed]:
        """Wait for all of the futures."""
        found: list[Computed] = []
        for computed, _ in self._as_they_come(futures, lambda: None):
            found += computed
        return found

    def _as_they_come(
        self, futures: list[Future], more: Any
    ) -> Iterator[tuple[list[Computed], float]]:
        """Give what tasks gave, as they end, and how long that took to come here, in seconds.

        Each time `more` is asked for another task.
        """
        from distributed import as_completed

        gathering = Gathering(self.client, self._watch)
        absence = Absence(self.client, self.view.phase)
        completed = as_completed(futures, loop=self.client.loop)
        while not completed.is_empty():
            self._watch()
            absence.look()
            batch = next_batch(completed, wait=True)
            if any(future.status == "cancelled" for future in batch):
                raise lost(self.call.name)
            began = time.perf_counter()
            for future, result in gathering.results(batch):
                if result is None:
                    completed.update([future])
                elif isinstance(result, BaseException):
                    raise self._error(future, result)
                else:
                    yield result, time.perf_counter() - began
                    # it is let go of there as soon as it is here
                    future.release()
                    following = more()
                    if following is not None:
                        completed.update([following])
                    began = time.perf_counter()

    def _watch(self) -> None:
        if self.view.watch():
            raise KeyboardInterrupt

    def _error(self, future: Future, error: BaseException) -> BaseException:
        from distributed.scheduler import KilledWorker

        if isinstance(error, KilledWorker):
            return ClusterError(
                f"workers died of {future.key} ({error}): the blocks of {self.call.name} need more "
                "memory than they have, or what the model calls ends the process"
            )
        return error


class _InBlocks:
    """The blocks of a call, a few in each task.

    A block is the same wherever it is computed. Where it takes longer to bring the result of one
    here than to compute it, those that are left are computed here. Where results are large, so that
    this may be so, the first ones are; all of them then take one call, which needs no more memory
    than the result.
    """

    def __init__(
        self,
        work: WorkOnCluster,
        packed: bytes,
        model: Future,
        run: Run,
        blocks: Blocks,
        joined: Joined,
    ) -> None:
        self._work = work
        self._packed = packed
        self._model = model
        self._run = run
        self._blocks = blocks
        self._all = list(blocks)
        self._waiting = deque(self._all)
        self._joined = joined
        self._done = 0
        self._ahead = max(1, sum(work.client.nthreads().values())) * _AHEAD
        # of a task, until it is known how long a block takes
        self._size = 1
        self._data: Any = dict(blocks.data)
        # of a block: to compute it, to compile for it, and to bring it here
        self._block_s = math.inf
        self._compiled_s = 0.0
        self._moving_s = math.inf

    def computed(self) -> DataTree:
        """Compute all of them."""
        work = self._work
        self._show()
        if BLOCK_DRAWS * bytes_of(work.call.computes(), work.call.model) > _LARGE_BYTES:
            for block in self._taken(_TRIED):
                self._take(self._computed_here(block))
            if self._is_cheaper_here and not self._joined.is_large and self._blocks.in_order:
                return self._computed_at_once()
        first = [future for future in self._first() if future is not None]
        for computed, moving_s in work._as_they_come(first, self._next):
            self._moving_s = min(self._moving_s, moving_s / len(computed))
            for one in computed:
                self._take(one)
            self._size = _size(computed)
        while self._waiting:
            self._take(self._computed_here(self._waiting.popleft()))
        return self._joined.tree()

    @property
    def _is_cheaper_here(self) -> bool:
        saved = (len(self._all) - self._done) * (self._moving_s - self._block_s)
        # what is compiled on a worker has to be compiled here, too
        return math.isfinite(saved) and saved > self._compiled_s

    def _computed_at_once(self) -> DataTree:
        work, seed = self._work, self._run.seed
        work.view.phase("computing", "all blocks here, which is faster than to bring them")
        seeds = [] if seed is None else self._blocks.seeds(seed)
        tree: DataTree = self._computed_here(self._blocks.whole, seeds).samples
        return tree

    def _computed_here(self, block: Block, seeds: Sequence[tuple[int, int]] = ()) -> Computed:
        self._work._watch()
        name, part = self._work.call.name, [(block, self._blocks.draws(block))]
        # as on a worker, where BLAS has one thread and so other last bits
        with one_thread(), interrupts_noted() as noted:
            (one,) = compute_blocks(name, self._packed, self._run, self._data, part, seeds)
        if noted:
            raise KeyboardInterrupt
        self._moving_s = min(self._moving_s, one.samples.nbytes / _MOVED_BYTES_A_SECOND)
        self._compiled_s = 0.0
        return replace(one, compiled_s=0.0)

    def _taken(self, many: int) -> list[Block]:
        return [self._waiting.popleft() for _ in range(min(many, len(self._waiting)))]

    def _take(self, one: Computed) -> None:
        assert one.block is not None
        if not self._done:
            # what is said of one block is said of all
            self._work._say(one)
        self._joined.add(one.samples, one.block)
        self._block_s = min(self._block_s, one.elapsed_s)
        self._compiled_s = max(self._compiled_s, one.compiled_s)
        self._done += 1
        self._show()

    def _show(self) -> None:
        self._work.view.phase("computing", f"{self._done} of {len(self._all)} blocks")

    def _first(self) -> Iterator[Future | None]:
        # left to itself, Dask prefers the worker that holds the model already
        workers = running_workers(self._work.client)
        for number in range(self._ahead):
            yield self._next(workers[number % len(workers)] if workers else None)

    def _next(self, worker: str | None = None) -> Future | None:
        # less and less, so that all workers end at about the same time
        size = min(self._size, math.ceil(len(self._waiting) / self._ahead))
        blocks = [] if self._is_cheaper_here else self._taken(size)
        if not blocks:
            return None
        return self._work._submit(
            tasks.compute_blocks,
            self._model,
            self._run,
            self._data,
            [(block, self._blocks.draws(block)) for block in blocks],
            key=f"{_word(blocks[0])}+{len(blocks)}",
            worker=worker,
        )


def _size(computed: list[Computed]) -> int:
    """Say how many blocks a task should take, from what the last one took."""
    fastest = min(one.elapsed_s for one in computed)
    largest = max(one.samples.nbytes for one in computed)
    return max(1, min(int(_TASK_S / max(fastest, 1e-3)), int(_TASK_BYTES / max(largest, 1))))


def _word(block: Block) -> str:
    return ".".join(map(str, block.number))
