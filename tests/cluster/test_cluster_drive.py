"""Chains as lines of tasks: what is submitted, gathered, stopped, and let go."""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dask.config
import numpy as np
import pytest
from distributed import Client, LocalCluster

from cloudposterior.cluster import reach
from cloudposterior.cluster.drive import Drive
from cloudposterior.errors import ChainError, ClusterError
from cloudposterior.samplers.protocol import Segment, State
from tests.cluster import stubs
from tests.cluster.conftest import until
from tests.cluster.stubs import Counting, Panic, Uneven, run_of

pytestmark = pytest.mark.once

FOUR = [(0,), (1,), (2,), (3,)]


@pytest.fixture(autouse=True)
def short_segments() -> Iterator[None]:
    settings = {"first-segment": "1ms", "segment": "20ms"}
    with dask.config.set({f"cloudposterior.cluster.{k}": v for k, v in settings.items()}):
        yield


class Taken:
    """What came in, chain by chain."""

    def __init__(self) -> None:
        self.segments: dict[int, list[Segment]] = defaultdict(list)

    def __call__(self, segment: Segment, state: State) -> None:
        self.segments[segment.chain].append(segment)

    def draws(self, chain: int) -> list[int]:
        parts = [segment.samples["x"] for segment in self.segments[chain]]
        return np.concatenate(parts).tolist() if parts else []


def drive(client: Client, sampler: Any, *, key: str = "", model: bytes = b"m" * 100) -> Drive:
    return Drive(client, sampler, model, run_of(key or uuid.uuid4().hex), name="stub-sample")


def idle(client: Client) -> bool:
    return not any(client.processing().values())


def known_keys(client: Client) -> list[str]:
    return client.run_on_scheduler(lambda dask_scheduler: [str(k) for k in dask_scheduler.tasks])


def known_kinds(dask_scheduler: Any) -> list[str]:
    return list(dask_scheduler.task_prefixes)


def test_drive_gives_every_draw_once_and_in_order(two_workers: Client) -> None:
    taken = Taken()
    assert drive(two_workers, Counting(total=30, seconds=0.002)).draw(FOUR, taken) == {}
    for chain in range(4):
        assert taken.draws(chain) == [1000 * chain + i for i in range(30)]
        # the first is short, and no other takes the whole chain
        assert len(taken.segments[chain]) > 2


def test_drive_leaves_nothing_on_the_cluster(two_workers: Client) -> None:
    drive(two_workers, Counting(), key="leaves-nothing").draw(FOUR, Taken())
    until(lambda: not [k for k in known_keys(two_workers) if "leaves-nothing" in k])


def test_drive_names_its_tasks_by_model_operation_and_chain(two_workers: Client) -> None:
    seen: set[str] = set()

    def take(segment: Segment, state: State) -> None:
        seen.update(known_keys(two_workers))

    drive(two_workers, Counting(seconds=0.002), key="named").draw(FOUR, take)
    mine = sorted(key for key in seen if "named" in key)
    assert any(key.startswith("stub-sample-chain 2-start-") for key in mine)
    assert any(key.startswith("stub-sample-chain 2-1-") for key in mine)
    prefixes = two_workers.run_on_scheduler(
        lambda dask_scheduler: list(dask_scheduler.task_prefixes)
    )
    assert "stub-sample" in prefixes


def test_drive_sends_a_large_model_in_parts_without_a_warning(two_workers: Client) -> None:
    # warnings are errors here; one graph of 20 MB would be warned about
    model = os.urandom(20 * 2**20)
    sampler = Measuring()
    taken = Taken()
    drive(two_workers, sampler, model=model).draw([(0,)], taken)
    assert taken.draws(0) == [len(model)]


def test_drive_sends_large_arguments_in_parts_without_a_warning(two_workers: Client) -> None:
    run = replace(run_of(uuid.uuid4().hex), arguments=os.urandom(20 * 2**20))
    taken = Taken()
    Drive(two_workers, MeasuringArguments(), b"m", run, name="stub-sample").draw([(0,)], taken)
    assert taken.draws(0) == [20 * 2**20]


def test_worker_of_another_version_draws_nothing(two_workers: Client) -> None:
    """It may have joined after the workers were checked."""
    run = replace(run_of(uuid.uuid4().hex), versions={"numpy": "0.0.1"})
    taken = Taken()
    with pytest.raises(ClusterError, match=r"(?s)tcp://.*: numpy .*, here 0\.0\.1.*pip install"):
        Drive(two_workers, Counting(), b"m", run, name="stub-sample").draw(FOUR, taken)
    assert not taken.segments


def test_state_that_cannot_travel_ends_its_chain_by_name(two_workers: Client) -> None:
    with pytest.raises(ChainError, match="(?s)chain 0 failed on a worker: TypeError.*pickle"):
        drive(two_workers, Unpicklable()).draw([(0,)], Taken())


class Unpicklable(Counting):
    def start(self, model: bytes, run: Any, chains: tuple[int, ...]) -> State:
        return State(chains, 0, 1, held=(number for number in range(3)))


class MeasuringArguments(Counting):
    """One draw, the size of the arguments."""

    def advance(self, model: bytes, run: Any, state: State, budget: Any) -> Any:
        segment = Segment(0, 0, 1, {"x": np.array([len(run.arguments)])}, [])
        return State(state.chains, 1, 1), [segment]


class Measuring(Counting):
    """One draw, the size of the model."""

    def advance(self, model: bytes, run: Any, state: State, budget: Any) -> Any:
        segment = Segment(0, 0, 1, {"x": np.array([len(model)])}, [])
        return State(state.chains, 1, 1), [segment]


def test_drive_stops_the_others_when_a_chain_fails(two_workers: Client) -> None:
    sampler = Counting(total=100_000, seconds=0.01, fails=((1, 3, ValueError),))
    with pytest.raises(
        ChainError, match="chain 1 failed on tcp://.*: ValueError: scripted at draw 3"
    ):
        drive(two_workers, sampler).draw(FOUR, Taken())
    until(lambda: idle(two_workers))
    assert two_workers.submit(sum, [1, 2]).result() == 3


def test_drive_goes_on_with_the_others_where_that_is_wanted(two_workers: Client) -> None:
    taken = Taken()
    failed = drive(two_workers, Counting(fails=((2, 0, ValueError),))).draw(FOUR, taken, go_on=True)
    assert list(failed) == [(2,)]
    assert [len(taken.draws(chain)) for chain in range(4)] == [30, 30, 0, 30]


@pytest.mark.parametrize("error", [Panic, KeyboardInterrupt])
def test_drive_gets_an_error_for_whatever_a_task_raises(
    two_workers: Client, error: type[BaseException]
) -> None:
    with pytest.raises(ChainError, match=f"chain 0 failed on .*{error.__name__}"):
        drive(two_workers, Counting(fails=((0, 5, error),))).draw([(0,)], Taken())


def test_chain_error_carries_what_happened_on_the_worker(two_workers: Client) -> None:
    with pytest.raises(ChainError) as caught:
        drive(two_workers, Counting(fails=((0, 5, ValueError),))).draw([(0,)], Taken())
    assert caught.value.chains == (0,)
    assert caught.value.worker in two_workers.scheduler_info()["workers"]
    assert "stubs.py" in "".join(caught.value.__notes__)


def executing(client: Client) -> list[str]:
    found = client.run(lambda dask_worker: [t.key for t in dask_worker.state.executing])
    return [key for keys in found.values() for key in keys]


def test_drive_takes_in_what_was_drawn_when_it_is_interrupted(two_workers: Client) -> None:
    """Segments of an hour end at once, and their draws arrive."""
    taken, interrupted, key = Taken(), [], uuid.uuid4().hex

    def take(segment: Segment, state: State) -> None:
        taken(segment, state)
        if not interrupted:
            second = {f"stub-sample-chain {chain}-1-{key}" for chain in (0, 1)}
            until(lambda: second <= set(executing(two_workers)))
            interrupted.append(True)
            raise KeyboardInterrupt

    sampler = Counting(total=1_000_000, seconds=0.001)
    with (
        dask.config.set({"cloudposterior.cluster.segment": "1h"}),
        pytest.raises(KeyboardInterrupt),
    ):
        drive(two_workers, sampler, key=key).draw([(0,), (1,)], take)
    # what came after the interrupt, too
    assert len(taken.segments[0]) == 2
    for chain in taken.segments:
        draws = taken.draws(chain)
        assert draws == [1000 * chain + i for i in range(len(draws))]
    until(lambda: idle(two_workers))
    assert two_workers.submit(sum, [1, 2]).result() == 3


def test_drive_that_is_told_to_stop_returns_with_what_was_drawn(two_workers: Client) -> None:
    taken = Taken()
    sampler = Counting(total=1_000_000, seconds=0.001)
    with dask.config.set({"cloudposterior.cluster.segment": "1h"}):
        failed = drive(two_workers, sampler).draw(
            [(0,), (1,)], taken, watch=lambda: len(taken.segments) == 2
        )
    assert failed == {}
    for chain in (0, 1):
        draws = taken.draws(chain)
        assert draws == [1000 * chain + i for i in range(len(draws))]
    until(lambda: idle(two_workers))


def test_drive_stops_when_what_takes_the_draws_fails(two_workers: Client) -> None:
    def take(segment: Segment, state: State) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        drive(two_workers, Counting(total=100_000, seconds=0.01)).draw(FOUR, take)
    until(lambda: idle(two_workers))


def test_two_clients_with_one_run_draw_it_once(two_workers: Client) -> None:
    """The second one joins while the first is under way, and gets all draws, too."""
    key = uuid.uuid4().hex
    mine, theirs = Taken(), Taken()
    with Client(two_workers.scheduler.address, set_as_default=False) as other:

        def take(segment: Segment, state: State) -> None:
            mine(segment, state)
            if not theirs.segments:
                drive(other, sampler, key=key).draw(FOUR, theirs)

        sampler = Counting(total=60, seconds=0.005)
        drive(two_workers, sampler, key=key).draw(FOUR, take)
    for chain in range(4):
        assert mine.draws(chain) == theirs.draws(chain) == [1000 * chain + i for i in range(60)]
    started = two_workers.run(lambda: list(stubs.STARTED))
    assert sorted(c for all_ in started.values() for k, c in all_ if k == key) == FOUR


def test_a_client_that_stops_leaves_the_run_to_one_that_joined(two_workers: Client) -> None:
    key = uuid.uuid4().hex
    theirs = Taken()
    sampler = Counting(total=200, seconds=0.005)
    with Client(two_workers.scheduler.address, set_as_default=False) as other:
        joined: list[bool] = []

        def stop(segment: Segment, state: State) -> None:
            raise KeyboardInterrupt

        def take(segment: Segment, state: State) -> None:
            theirs(segment, state)
            if not joined:
                joined.append(True)
                with pytest.raises(KeyboardInterrupt):
                    drive(two_workers, sampler, key=key).draw(FOUR, stop)

        drive(other, sampler, key=key).draw(FOUR, take)
    for chain in range(4):
        draws = sorted(set(theirs.draws(chain)))
        assert draws == [1000 * chain + i for i in range(200)]


def kill_a_worker(client: Client) -> None:
    worker = next(iter(client.scheduler_info()["workers"]))
    os.kill(client.run(os.getpid, workers=[worker])[worker], 9)


def test_drive_misses_no_draw_when_segments_that_are_drawn_again_end_elsewhere(
    two_workers: Client,
) -> None:
    taken = Taken()

    def take(segment: Segment, state: State) -> None:
        before = len(taken.segments[segment.chain])
        taken(segment, state)
        if segment.chain == 0 and before in (5, 12):
            kill_a_worker(two_workers)

    drive(two_workers, Uneven(total=200, seconds=0.02)).draw(FOUR, take)
    for chain in range(4):
        draws = taken.draws(chain)
        assert sorted(set(draws)) == [1000 * chain + i for i in range(200)]
        # each segment joins on to what came before
        ends = 0
        for segment in taken.segments[chain]:
            assert segment.first <= ends
            ends = max(ends, segment.first + segment.draws)
    two_workers.wait_for_workers(2, timeout=60)


def test_drive_is_the_same_after_the_worker_with_the_model_died(two_workers: Client) -> None:
    taken, killed = Taken(), []

    def take(segment: Segment, state: State) -> None:
        taken(segment, state)
        if not killed:
            killed.append(True)
            kill_a_worker(two_workers)

    drive(two_workers, Counting(total=60, seconds=0.01)).draw(FOUR, take)
    for chain in range(4):
        draws = taken.draws(chain)
        assert sorted(set(draws)) == [1000 * chain + i for i in range(60)]
    two_workers.wait_for_workers(2, timeout=60)


def test_draws_come_through_the_scheduler_where_workers_are_out_of_reach(
    two_workers: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    gather = Client.gather

    def noted(self: Client, futures: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["direct"])
        return gather(self, futures, *args, **kwargs)

    monkeypatch.setattr(Client, "gather", noted)
    monkeypatch.setattr("cloudposterior.cluster.reach._try", unreachable)
    taken = Taken()
    with Client(two_workers.scheduler.address, set_as_default=False) as client:
        drive(client, Counting(total=30, seconds=0.002)).draw(FOUR, taken)
    assert all(taken.draws(chain) == [1000 * chain + i for i in range(30)] for chain in range(4))
    assert set(asked) == {False}


async def unreachable(*_: Any) -> bool:
    return False


def test_worker_is_reached_or_not(two_workers: Client) -> None:
    (worker, *_) = two_workers.scheduler_info()["workers"]
    assert two_workers.sync(reach._try, two_workers, worker)
    # nobody listens there
    assert not two_workers.sync(reach._try, two_workers, "tcp://127.0.0.1:1")


class Killing(Counting):
    """Ends its worker, as one does that takes too much memory."""

    def advance(self, model: bytes, run: Any, state: State, budget: Any) -> Any:
        os._exit(1)


@pytest.mark.slow
def test_chain_that_kills_its_workers_is_given_up_by_name() -> None:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(ChainError, match="chain 0 failed on .*its worker died, 2 times; .*memory"),
    ):
        drive(client, Killing()).draw([(0,)], Taken())
