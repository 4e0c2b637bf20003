"""What runs on a worker: one function for each kind of task."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import cloudpickle

from cloudposterior.cluster.stopping import is_stopped
from cloudposterior.cluster.versions import check_versions
from cloudposterior.errors import ChainError, ClusterError, ShippingError
from cloudposterior.events import TOPIC, ChainReport, Event, Phase, TaskBegun, to_message
from cloudposterior.operations import work
from cloudposterior.operations.given import Block, Groups
from cloudposterior.operations.work import Computed
from cloudposterior.samplers.freed import freed_kept
from cloudposterior.samplers.protocol import (
    REPORT_EVERY_S,
    Budget,
    Run,
    Sampler,
    Segment,
    State,
    Tally,
)
from cloudposterior.samplers.surroundings import one_thread

__all__ = [
    "advance",
    "compute_blocks",
    "compute_whole",
    "join_parts",
    "same",
    "start",
    "with_arguments",
]


def same(value: Any) -> Any:
    """Put a value on the cluster, in the graph: whatever is lost, it is made again."""
    return value


def join_parts(*parts: bytes) -> bytes:
    """Put a model together that came in parts."""
    return b"".join(parts)


def with_arguments(run: Run, arguments: bytes) -> Run:
    """Put the arguments into a run that came without them."""
    return replace(run, arguments=arguments)


@contextmanager
def _as_a_task() -> Iterator[None]:
    """Compute in the one thread of a task, and keep memory from one draw to the next."""
    with one_thread(), freed_kept():
        yield


def start(sampler: Sampler, model: bytes, run: Run, chains: tuple[int, ...]) -> State:
    """Make a chain ready for its first draw."""
    tell = _teller(run.key)
    for chain in chains:
        tell(Phase("compiling", chain, _current_worker()))
    with _as_chain_error(chains), _as_a_task():
        check_versions(run.versions, _current_worker())
        return sampler.start(model, run, chains)


def advance(
    sampler: Sampler,
    model: bytes,
    run: Run,
    before: State | tuple[State, list[Segment]] | bytes,
    seconds: float,
) -> tuple[State, list[Segment]]:
    """Draw a segment.

    Parameters
    ----------
    sampler : Sampler
        Who draws.
    model : bytes
        The model.
    run : Run
        What the chains share.
    before : State, tuple of State and list of Segment, or bytes
        What the task before gave; or the state to go on from, as the client has pickled it.
    seconds : float
        How long the segment should take.
    """
    state = _state_of(before)
    if state.finished:
        return state, []
    stopped = _stopper()
    if stopped():
        return state, []
    tell = _teller(run.key)
    with _as_chain_error(state.chains), _as_a_task():
        check_versions(run.versions, _current_worker())
        sampler.prepare(model, run)
        tell(TaskBegun(_current_key(), _current_worker()))
        budget = Budget(seconds, stopped, _reporter(tell), _phases(tell))
        after, segments = sampler.advance(model, run, state, budget)
    if after.finished:
        for chain in after.chains:
            tell(Phase("finished", chain, _current_worker()))
    return after, segments


def compute_blocks(
    name: str, model: bytes, run: Run, data: Groups, blocks: Sequence[tuple[Block, Groups]]
) -> list[Computed]:
    """Compute blocks of draws; see `operations.work`."""
    with _as_error_of(name), _as_a_task():
        check_versions(run.versions, _current_worker())
        return work.compute_blocks(name, model, run, data, blocks)


def compute_whole(name: str, model: bytes, run: Run) -> list[Computed]:
    """Compute all of a call; see `operations.work`."""
    tell, worker = _teller(run.key), _current_worker()
    stopped, due = _stopper(), [0.0]

    def watch(words: str) -> None:
        if stopped():
            raise KeyboardInterrupt
        if time.monotonic() >= due[0]:
            due[0] = time.monotonic() + REPORT_EVERY_S
            tell(Phase("computing", None, worker, words))

    with _as_error_of(name), _as_a_task():
        check_versions(run.versions, worker)
        return work.compute_whole(name, model, run, watch)


@contextmanager
def _as_error_of(name: str) -> Iterator[None]:
    """Say where something went wrong; an error of any kind travels as it is.

    A future whose task raises a `BaseException` that is no `Exception` never ends.
    """
    try:
        yield
    except Exception as error:
        error.add_note(f"{name} on {_current_worker()}")
        raise
    except BaseException as error:  # noqa: BLE001  (it would take the worker with it)
        raise ClusterError(f"{name} was ended on {_current_worker()}: {error!r}") from None


def _state_of(before: State | tuple[State, list[Segment]] | bytes) -> State:
    if isinstance(before, bytes):
        state: State = cloudpickle.loads(before)
        return state
    return before[0] if isinstance(before, tuple) else before


def _teller(run: str) -> Callable[[Event], None]:
    """Give what tells whoever listens; a report that gets lost costs nothing but a look."""
    from distributed import get_worker

    try:
        # found here: a sampler may report from a thread of its own, which is no worker's
        worker = get_worker()
    except ValueError:  # there is none
        return lambda event: None
    return lambda event: worker.log_event(TOPIC, to_message(run, event))


def _reporter(tell: Callable[[Event], None]) -> Callable[[int, int, int, int, Tally], None]:
    worker = _current_worker()

    def report(chain: int, drawn: int, tune: int, total: int, tally: Tally) -> None:
        tell(ChainReport(chain, worker, drawn, tune, total, **vars(tally)))

    return report


def _phases(tell: Callable[[Event], None]) -> Callable[[int, str], None]:
    worker = _current_worker()
    return lambda chain, name: tell(Phase(name, chain, worker))


def _stopper() -> Callable[[], bool]:
    """Give what says whether the task that runs here was told to stop, or is wanted no more."""
    from distributed import get_worker

    key = _current_key()
    try:
        task = get_worker().state.tasks.get(key)
    except ValueError:  # there is no worker
        return partial(is_stopped, key)
    # a worker cannot end a thread, and notes that nobody will ask for what it gives
    return lambda: is_stopped(key) or getattr(task, "state", "") == "cancelled"


def _current_key() -> str:
    from distributed.worker import thread_state

    return str(getattr(thread_state, "key", ""))


def _current_worker() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return "this process"


@contextmanager
def _as_chain_error(chains: tuple[int, ...]) -> Iterator[None]:
    """Turn whatever a chain raises into an error that names it, and that can travel.

    A future whose task raises a `BaseException` that is no `Exception` never ends.
    """
    try:
        yield
    except (ClusterError, ShippingError) as error:
        # not the chain's fault, and said in full
        error.add_note(f"{_current_worker()}, {'chain' if len(chains) == 1 else 'chains'} {chains}")
        raise
    except BaseException as error:  # noqa: BLE001  (nutpie's PanicException is one, too)
        text = f"{type(error).__name__}: {error}"
        failed = ChainError(chains, _current_worker(), text)
        failed.add_note("".join(traceback.format_exception(error)))
        raise failed from None
