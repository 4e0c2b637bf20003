"""The tasks of a chain: which are under way, what came in of them, and how often a worker died."""

from __future__ import annotations

from asyncio import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dask.utils import format_bytes

from cloudposterior.errors import ChainError, CloudPosteriorError, ClusterError
from cloudposterior.events import WorkerLost
from cloudposterior.samplers.protocol import State

if TYPE_CHECKING:
    from distributed import Future

__all__ = [
    "MOST_DEATHS",
    "MOST_DEATHS_COMPILING",
    "Line",
    "as_chain_error",
    "killed",
    "lost",
    "memory_of",
    "words",
]

MOST_DEATHS = 3
"""A chain that ends its worker as often, without a draw in between, is given up."""

MOST_DEATHS_COMPILING = 10
"""The same while its worker compiles a model that others could compile."""


@dataclass(eq=False)
class Line:
    """The tasks of a chain, or of chains that advance together.

    Attributes
    ----------
    chains : tuple of int
        The chains.
    priority : int
        Of its tasks: the first chains first, as PyMC draws them.
    prefix : str
        What the keys of its tasks begin with.
    begun : Future or None
        The task that sets the chain up; None where the line goes on from a state.
    last : Future or None
        What the next task goes on from; None where nothing is under way.
    segments : int
        How many tasks were submitted.
    origin : str
        Part of the keys, where the line did not begin with the first draw.
    pending : list of Future
        Those that are under way, in order.
    bound : str
        The worker that is to run the first of them, any where it is empty.
    gathered : str
        The key of the latest that came in; its result is where the next one needs it.
    state : State or None
        Where the chain stands by what came in.
    deaths : list of str
        The workers that died while they drew it, since then.
    unbegun : list of str
        The workers that died while they compiled for it, since then.
    error : Exception or None
        What it failed with.
    """

    chains: tuple[int, ...]
    priority: int
    prefix: str
    begun: Future | None = None
    last: Future | None = None
    segments: int = 0
    origin: str = ""
    pending: list[Future] = field(default_factory=list)
    bound: str = ""
    gathered: str = ""
    state: State | None = None
    deaths: list[str] = field(default_factory=list)
    unbegun: list[str] = field(default_factory=list)
    error: Exception | None = None

    @property
    def drawn(self) -> int:
        """How many draws came in, tuning included."""
        return 0 if self.state is None else self.state.drawn

    @property
    def resumable(self) -> bool:
        """Whether there is a state to go on from."""
        return self.state is not None and self.state.held is not None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.error is not None or (self.state is not None and self.state.finished)

    @property
    def has_begun(self) -> bool:
        """Whether it has got to its draws, and may have some to hand over."""
        return self.state is not None or (
            self.begun is not None and self.begun.status == "finished"
        )

    @property
    def keys(self) -> set[str]:
        """The keys of what is under way, and that its next draws come from."""
        keys = {future.key for future in self.pending}
        # nobody asks how a chain began that can go on
        if self.begun is not None and not self.resumable:
            keys.add(self.begun.key)
        return keys

    def is_hit(self, loss: WorkerLost) -> bool:
        """Tell whether the next draws were, or need, what went with a worker."""
        lost = {*self.keys, self.gathered} & set(loss.lost)
        return bool(lost or self.keys & set(loss.drawing) or self.bound == loss.worker)

    def is_blamed(self, loss: WorkerLost, begun: set[str]) -> bool:
        """Note that a worker may have died of the chain; say whether it may.

        Those that it drew are blamed, also for what Dask began again by itself. Where it had not
        got so far, it died while it compiled, which is the same for all chains: no matter, if
        others could.
        """
        drew = any(key.startswith(self.prefix) for key in begun)
        compiled = not begun and not self.keys.isdisjoint(loss.drawing)
        if loss.expected or not (drew or compiled):
            return False
        (self.deaths if drew else self.unbegun).append(loss.worker)
        return True

    def came_to(self, state: State) -> bool:
        """Note where the chain stands; say whether that is further, for who draws does not kill."""
        further = state.drawn > self.drawn
        if further:
            self.deaths.clear()
            self.unbegun.clear()
        if state.drawn >= self.drawn:
            self.state = state
        return further

    def release(self) -> None:
        """Let go of what is under way."""
        for future in (*self.pending, self.begun, self.last):
            if future is not None:
                future.release()
        self.pending.clear()
        self.begun = self.last = None


def words(chains: tuple[int, ...]) -> str:
    """Name chains, as in the keys of tasks."""
    return f"chain {chains[0]}" if len(chains) == 1 else f"chains {chains[0]} to {chains[-1]}"


def lost(what: str) -> ClusterError:
    """Say that a scheduler has gone, and what that means."""
    return ClusterError(
        f"the cluster lost {what}: its scheduler was restarted or closed. What was drawn is kept; "
        "run again"
    )


def as_chain_error(chains: tuple[int, ...], error: BaseException | None) -> Exception:
    """Say in an error of ours what ended a chain."""
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    if isinstance(error, CloudPosteriorError):
        return error
    if error is None or isinstance(error, FutureCancelledError | CancelledError):
        return lost(words(chains))
    if isinstance(error, KilledWorker):
        where = getattr(error.last_worker, "address", "a worker")
        return killed(chains, [str(where)] * (error.allowed_failures + 1))
    # such as what cannot travel: no task of ours raises it
    wrapped = ChainError(chains, "a worker", f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def killed(chains: tuple[int, ...], workers: list[str], memory: str = "") -> ChainError:
    """Say that a chain ends its workers.

    Parameters
    ----------
    chains : tuple of int
        The chain.
    workers : list of str
        The workers that died, the last one at the end.
    memory : str
        What is known of the memory of the last one.
    """
    seen = f" (the last one: {memory})" if memory else ""
    return ChainError(
        chains,
        workers[-1],
        f"its worker died, {len(workers)} times; most often for want of memory{seen}: "
        "give workers more (cp.cluster_options tells how much), and look into their logs",
    )


def memory_of(loss: WorkerLost) -> str:
    """Say what memory a worker was last seen to use, and might use; empty if nobody saw it."""
    if not loss.memory_bytes:
        return ""
    limit = f" of {format_bytes(loss.limit_bytes)}" if loss.limit_bytes else ", without a limit"
    return f"{format_bytes(loss.memory_bytes)}{limit}"
