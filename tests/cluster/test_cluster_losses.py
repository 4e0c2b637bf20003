"""Workers that are lost, as scripts say: their chains go on from the last segment that came in."""

from __future__ import annotations

import logging
import os
import signal
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.config
import pytest
from distributed import Client, LocalCluster

from cloudposterior.cluster import losses
from cloudposterior.cluster.drive import Drive
from cloudposterior.cluster.gathering import Gathering
from cloudposterior.cluster.losses import tell_losses
from cloudposterior.errors import ChainError, ClusterWarning
from cloudposterior.events import TOPIC, Event, TaskBegun, WorkerLost, to_message
from cloudposterior.progress.feed import events_of
from cloudposterior.progress.table import RunTable

from .conftest import PATIENCE_S, Commands, until
from .faults import (
    PATHS,
    Fault,
    Notes,
    Pool,
    Scripted,
    expected,
    extra_draws,
    marks,
    meanwhile,
    pids,
    pool_of_workers,
)
from .stubs import run_of

pytestmark = pytest.mark.once

FOUR = [(0,), (1,), (2,), (3,)]
TOTAL = 60


@contextmanager
def cluster_of(workers: int, **options: Any) -> Iterator[Client]:
    """A cluster whose workers die, which Dask logs at length."""
    with (
        LocalCluster(
            n_workers=workers,
            **{
                "threads_per_worker": 1,
                "dashboard_address": ":0",
                "silence_logs": logging.CRITICAL,
                **options,
            },
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with pool_of_workers(tmp_path_factory.mktemp("pool")) as pool:
        yield pool


@pytest.fixture
def three(pool: Pool) -> Client:
    """A client of three workers, whoever died before."""
    return pool.fill(3)


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path)


class Driven:
    """A run of a stub, with what was told of it."""

    def __init__(self, client: Client, sampler: Scripted, *, key: str = "") -> None:
        self.client = client
        self.run = run_of(key or uuid.uuid4().hex)
        self.table = RunTable("", "stub", 4)
        self.told: list[Event] = []
        self.shown: list[Any] = []
        self.drive = Drive(
            client,
            sampler,
            b"m" * 100,
            self.run,
            name="stub-sample",
            told=self.take,
            hears=tell_losses(client),
        )

    def take(self, event: Event) -> None:
        self.told.append(event)
        if isinstance(event, TaskBegun | WorkerLost):
            self.drive.hear(event)
        else:
            self.table.update(event)
            self.shown.append(self.table.snapshot())

    def draw(self, take: Any, groups: Any = FOUR, **options: Any) -> Any:
        with events_of(self.client, self.run.key, self.take):
            return self.drive.draw(groups, take, **options)

    def key_of(self, chain: int, number: int) -> str:
        """The key of a task, unless a loss has changed it."""
        return f"stub-sample-chain {chain}-{number}-{self.run.key}"

    @property
    def losses(self) -> list[WorkerLost]:
        return [event for event in self.told if isinstance(event, WorkerLost)]


def scripted(notes: Notes, *faults: Fault, **options: Any) -> Scripted:
    settings = {"total": TOTAL, "seconds": 0.01, **options}
    return Scripted(directory=str(notes.directory), faults=faults, **settings)


def assert_complete(driven: Driven, notes: Notes, total: int = TOTAL) -> None:
    """Check that each draw came in once, and that next to none was drawn after it had come in.

    Dask begins a lost chain with its first segment, and ends that once nobody wants it any more.
    """
    for chain in range(4):
        assert notes.draws(chain) == expected(chain, total)
    assert len(notes.drawn_again) <= len(driven.losses)


def known_keys(client: Client) -> list[str]:
    return client.run_on_scheduler(lambda dask_scheduler: [str(k) for k in dask_scheduler.tasks])


def test_worker_that_dies_in_the_third_segment_of_chain_2_costs_that_segment(
    three: Client, notes: Notes
) -> None:
    driven = Driven(three, scripted(notes, Fault(2, 2)))
    driven.draw(notes)
    assert_complete(driven, notes)
    (loss,) = driven.losses
    assert marks(notes, "kill") == ["kill-2-2-0"]
    # what came in was not drawn again; what Dask begins before it is told otherwise is little
    assert extra_draws(notes) <= 2 * 10
    # the next draws come in soon, and with them the sign that the chain does not kill
    assert notes.lengths_ms(2, 2)[0] == 3000
    assert notes.lengths_ms(2, 2)[-1] == 125
    assert notes.lengths_ms(2, 5)[-1] == 1000
    assert loss.memory_bytes > 2**20
    until(lambda: not [key for key in known_keys(three) if driven.run.key in key])


def test_segments_that_came_in_are_not_begun_again(pool: Pool, notes: Notes) -> None:
    """Wherever the worker dies, and however often."""
    faults = [Fault(chain, segment) for chain, segment in ((0, 1), (3, 4), (0, 5))]
    driven = Driven(pool.fill(4), scripted(notes, *faults))
    driven.draw(notes)
    assert_complete(driven, notes)
    assert len(driven.losses) == 3
    # half a segment each, where nothing of other chains goes with it
    assert extra_draws(notes) < 3 * 3 * 10


def test_worker_that_dies_before_anything_came_in_begins_again(three: Client, notes: Notes) -> None:
    driven = Driven(three, scripted(notes, Fault(1, 0)))
    driven.draw(notes)
    assert_complete(driven, notes)
    assert [event.chain for event in driven.told if is_restart(event)] == [1]


def is_restart(event: Event) -> bool:
    return getattr(event, "name", "") == "restarting"


def test_worker_that_retires_hands_its_chains_on(notes: Notes) -> None:
    with cluster_of(2) as client:
        driven = Driven(client, scripted(notes, Fault(2, 2, "wait"), total=100))

        def retire() -> None:
            until(lambda: notes.has("wait-2-2-0"))
            client.retire_workers([worker_of(client, driven.key_of(2, 2))])

        with meanwhile(retire):
            driven.draw(notes)
    assert_complete(driven, notes, 100)
    (loss, *_) = driven.losses
    assert loss.expected
    # who leaves is not to blame
    assert driven.drive._segment_s > 1
    assert not any(line.deaths for line in driven.drive._lines)


def worker_of(client: Client, key: str) -> str:
    """The worker that runs a task."""
    processing = client.processing()
    return next(worker for worker, keys in processing.items() if key in keys)


def test_workers_that_their_nannies_restart_hand_their_chains_on(notes: Notes) -> None:
    with cluster_of(2) as client:
        driven = Driven(client, scripted(notes, Fault(0, 2, "wait")))

        def restart() -> None:
            until(lambda: notes.has("wait-0-2-0"))
            client.restart_workers(list(pids(client)), timeout=PATIENCE_S)
            notes.let("wait")

        with meanwhile(restart):
            driven.draw(notes)
    assert_complete(driven, notes)
    assert len(driven.losses) == 2


def test_all_workers_die_and_others_come(pool: Pool, notes: Notes) -> None:
    client = pool.fill(3)
    driven = Driven(client, scripted(notes, Fault(0, 2, "wait"), Fault(1, 2, "wait")))

    def kill() -> None:
        until(lambda: notes.has("wait-0-2-0") and notes.has("wait-1-2-0"))
        for pid in pids(client).values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not client.scheduler_info()["workers"])
        notes.let("wait")
        pool.fill(2)

    with meanwhile(kill):
        driven.draw(notes)
    assert_complete(driven, notes)
    assert len(driven.losses) == 3
    # nothing that came in was drawn again, though nothing was left on the cluster
    assert extra_draws(notes) <= 4 * 10


def test_two_workers_die_at_once(three: Client, notes: Notes) -> None:
    driven = Driven(three, scripted(notes, Fault(0, 2, "wait"), Fault(1, 2, "wait")))

    def kill() -> None:
        until(lambda: notes.has("wait-0-2-0") and notes.has("wait-1-2-0"))
        processes = pids(three)
        for chain in (0, 1):
            worker = worker_of(three, driven.key_of(chain, 2))
            os.kill(processes[worker], signal.SIGKILL)
        notes.let("wait")

    with meanwhile(kill):
        driven.draw(notes)
    assert_complete(driven, notes)
    assert len(driven.losses) == 2


def test_workers_that_have_model_and_run_die(pool: Pool, notes: Notes) -> None:
    client = pool.fill(3)
    driven = Driven(client, scripted(notes, Fault(0, 2, "wait")))

    def kill() -> None:
        until(lambda: notes.has("wait-0-2-0"))
        processes, known = pids(client), client.who_has()
        keys = (f"model-{driven.run.model}", f"run-{driven.run.key}")
        holders = {worker for key in keys for worker in known[f"stub-sample-{key}"]}
        for worker in holders:
            os.kill(processes[worker], signal.SIGKILL)
        until(lambda: holders.isdisjoint(client.scheduler_info()["workers"]))
        notes.let("wait")
        pool.fill(2)

    with meanwhile(kill):
        driven.draw(notes, [(0,)])
    assert notes.draws(0) == expected(0, TOTAL)
    assert driven.losses


def test_segment_that_is_lost_before_it_was_gathered_is_drawn_again_alone(
    three: Client, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(three, scripted(notes))
    results = Gathering.results
    killed: list[str] = []
    wanted = driven.key_of(1, 2)

    def kill_first(self: Any, done: list[Any]) -> Any:
        for future in done:
            if future.key == wanted and not killed:
                killed.extend(three.who_has([future])[wanted])
                os.kill(pids(three)[killed[0]], signal.SIGKILL)
        return results(self, done)

    monkeypatch.setattr(Gathering, "results", kill_first)
    driven.draw(notes)
    assert killed
    for chain in range(4):
        assert notes.draws(chain) == expected(chain, TOTAL)
    assert notes.drawn_again == []
    assert all(notes.drawn[1, draw] == 2 for draw in range(20, 30))


def test_worker_that_dies_while_it_hands_draws_over_ends_no_run(
    three: Client, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gather that waits for what has to be made again would wait for all of the chain."""
    driven = Driven(three, scripted(notes))
    gather, processes = Client.gather, pids(three)
    wanted = driven.key_of(1, 2)
    killed: list[str] = []

    def kill_first(self: Client, futures: Any, *args: Any, **kwargs: Any) -> Any:
        async def gather_late() -> Any:
            if not killed and wanted in [future.key for future in futures]:
                killed.extend((await self.scheduler.who_has(keys=[wanted]))[wanted])
                # the client has not heard of it yet
                os.kill(processes[killed[0]], signal.SIGKILL)
            return await gather(self, futures, *args, **kwargs)

        return gather_late()

    monkeypatch.setattr(Client, "gather", kill_first)
    driven.draw(notes)
    assert killed
    assert_complete(driven, notes)


def test_worker_that_dies_while_the_run_is_stopped_keeps_nobody_waiting(
    three: Client, notes: Notes
) -> None:
    """What the others drew comes in, without the time that a stop may take."""
    driven = Driven(three, scripted(notes, Fault(0, 2, "wait"), total=10_000))
    stop = driven.drive._tell_to_stop
    segments = [driven.key_of(chain, 2) for chain in range(3)]

    def stop_and_kill(seconds: float) -> None:
        os.kill(pids(three)[worker_of(three, segments[0])], signal.SIGKILL)
        stop(seconds)

    driven.drive._tell_to_stop = stop_and_kill  # type: ignore[method-assign]
    with dask.config.set({"cloudposterior.cluster.stop-timeout": f"{PATIENCE_S}s"}):
        driven.draw(notes, watch=lambda: notes.has("wait-0-2-0"))
    for chain in range(4):
        drawn = notes.draws(chain)
        assert drawn == expected(chain, len(drawn))
    assert len(notes.draws(0)) == 20


def test_second_client_of_a_run_goes_on_too(three: Client, notes: Notes) -> None:
    theirs = Notes(notes.directory / "theirs")
    theirs.directory.mkdir()
    sampler = scripted(notes, Fault(2, 2))
    mine = Driven(three, sampler)
    with Client(three.scheduler.address, set_as_default=False) as other:
        their = Driven(other, sampler, key=mine.run.key)

        with meanwhile(lambda: their.draw(theirs)):
            mine.draw(notes)
    for chain in range(4):
        assert notes.draws(chain) == expected(chain, TOTAL)
        merged = sorted(set(theirs.draws(chain)))
        assert merged == expected(chain, TOTAL)
    assert mine.losses and their.losses


def test_scheduler_that_tells_no_losses_is_told_of_once_and_draws_the_same(
    three: Client, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Client, plugin: Any, *args: Any, **kwargs: Any) -> None:
        raise ModuleNotFoundError("No module named 'cloudposterior'")

    assert tell_losses(three)
    three.unregister_scheduler_plugin("cloudposterior-losses")
    losses._told.pop(three, None)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Client, "register_plugin", refuse)
            with pytest.warns(ClusterWarning, match="cannot tell which chains a lost worker had"):
                assert not tell_losses(three)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert not tell_losses(three)
        driven = Driven(three, scripted(notes, Fault(2, 2)))
        driven.draw(notes)
    finally:
        losses._told.pop(three, None)
    assert not driven.losses
    for chain in range(4):
        assert sorted(set(notes.draws(chain))) == expected(chain, TOTAL)


def test_worker_that_drew_and_has_nothing_of_the_run_any_more_is_told_of(three: Client) -> None:
    """A chain may be about to go on there, and would wait for ever."""
    assert tell_losses(three)
    run, told = uuid.uuid4().hex, []
    processes = pids(three)
    worker = next(iter(processes))
    with events_of(three, run, told.append):
        begun = TaskBegun(f"stub-sample-chain 0-0-{run}", worker)
        three.log_event(TOPIC, to_message(run, begun))
        until(lambda: told == [begun])
        os.kill(processes[worker], signal.SIGKILL)
        until(lambda: len(told) == 2)
    assert (told[1].worker, told[1].drawing, told[1].lost) == (worker, (), ())


def test_scheduler_that_was_started_anew_is_asked_again(
    three: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the address of the one before, with the client that connected again by itself."""
    assert tell_losses(three)
    three.unregister_scheduler_plugin("cloudposterior-losses")
    monkeypatch.setattr(losses, "scheduler_of", lambda client: "another")
    assert tell_losses(three)
    assert three.run_on_scheduler(
        lambda dask_scheduler: "cloudposterior-losses" in dask_scheduler.plugins
    )


def test_worker_that_is_cut_off_spoils_nothing_when_it_is_back(
    commands: Commands, notes: Notes
) -> None:
    address = commands.scheduler(DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="2s", **PATHS)
    workers = [commands.worker(address, **PATHS) for _ in range(2)]
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=PATIENCE_S)
        driven = Driven(client, scripted(notes, Fault(1, 2, "suspend"), total=100))

        def bring_back() -> None:
            until(lambda: driven.losses)
            for worker in workers:
                os.kill(worker.pid, signal.SIGCONT)

        with meanwhile(bring_back):
            driven.draw(notes)
    assert_complete(driven, notes, 100)


def test_worker_that_takes_too_much_memory_is_named_with_it(tmp_path: Path, notes: Notes) -> None:
    with cluster_of(1, memory_limit="600MiB") as client:
        driven = Driven(client, scripted(notes, Fault(0, 2, "allocate", times=3)))
        with pytest.raises(
            ChainError,
            match=r"chain 0 failed on tcp://127.0.0.1:\d+: its worker died, 3 times; most often "
            r"for want of memory \(the last one: [\d.]+ MiB of 600.00 MiB\)",
        ) as told:
            driven.draw(notes, [(0,)])
    assert told.value.worker == driven.losses[-1].worker
    assert len(marks(notes, "allocate")) == 3 == len(driven.losses)
    assert notes.draws(0) == expected(0, 20)


def test_chain_that_kills_its_workers_is_given_up_and_no_other(pool: Pool, notes: Notes) -> None:
    driven = Driven(pool.fill(4), scripted(notes, Fault(2, 2, times=10)))
    failed = driven.draw(notes, go_on=True)
    ((chains, error),) = failed.items()
    assert chains == (2,)
    assert f"chain 2 failed on {driven.losses[-1].worker}: its worker died, 3 times" in str(error)
    assert "MiB of " in str(error) or "GiB" in str(error)
    assert len(marks(notes, "kill")) == 3
    for chain in (0, 1, 3):
        assert notes.draws(chain) == expected(chain, TOTAL)
    assert notes.draws(2) == expected(2, 20)


def test_task_that_waited_where_workers_died_is_not_given_up(notes: Notes) -> None:
    """Dask would give it up, by a count of all that were there."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        cluster_of(2) as client,
    ):
        driven = Driven(client, scripted(notes, Fault(0, 0), Fault(2, 2), Fault(1, 3)))
        driven.draw(notes)
    assert_complete(driven, notes)
    assert len(driven.losses) == 3


def test_chain_without_a_state_begins_again_and_the_table_says_so(
    three: Client, notes: Notes
) -> None:
    faults = [replace(Fault(1, 0), times=2)]
    driven = Driven(three, scripted(notes, *faults, stateless=True))
    driven.draw(notes)
    for chain in range(4):
        assert notes.draws(chain) == expected(chain, TOTAL)
    row = driven.shown[-1].rows[1]
    assert (row.again, row.state) == (2, "finished (begun 2 times again)")
    for table in driven.shown:
        for row in table.rows:
            assert row.drawn <= TOTAL and row.divergences <= max(0, row.drawn - 1)


def test_nothing_is_left_of_a_run_after_losses(three: Client, notes: Notes) -> None:
    driven = Driven(three, scripted(notes, Fault(0, 1), Fault(1, 3), total=200))
    driven.draw(notes)
    assert not driven.drive._of
    assert not driven.drive._losses._drawing
    until(lambda: not [key for key in known_keys(three) if driven.run.key in key])
