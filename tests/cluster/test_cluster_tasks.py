"""What tasks do on a worker beside drawing: threads, errors, and being stopped."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytest
from distributed import Client
from threadpoolctl import threadpool_info

import cloudposterior as cp
from cloudposterior.cluster import stopping, tasks
from cloudposterior.cluster.drive import Drive
from cloudposterior.errors import ChainError
from cloudposterior.samplers.protocol import Segment, State
from tests.cluster import models
from tests.cluster.conftest import PATIENCE_S, started
from tests.cluster.sameness import SHORT
from tests.cluster.stubs import Counting, Panic, run_of

pytestmark = pytest.mark.once


def pools() -> list[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return [int(pool["num_threads"]) for pool in threadpool_info()]


class Threads(Counting):
    """One draw: the most threads that any library may use."""

    def advance(self, model: bytes, run: Any, state: State, budget: Any) -> Any:
        segment = Segment(0, 0, 1, {"x": np.array([max(pools(), default=1)])}, [])
        return replace(state, drawn=state.total), [segment]


def test_task_is_held_to_one_thread(two_workers: Client) -> None:
    taken: list[Segment] = []
    drive = Drive(two_workers, Threads(), b"", run_of("threads"), name="stub-sample")
    drive.draw([(0,)], lambda segment, state: taken.append(segment))
    assert taken[0].samples["x"].tolist() == [1]


def test_segment_that_was_told_to_stop_beforehand_draws_nothing() -> None:
    state = State((0,), 0, 30)
    stopping.stop([""])  # the key of what runs in no task
    try:
        assert tasks.advance(Counting(), b"", run_of("stopped"), state, 1.0) == (state, [])
    finally:
        stopping._stopped.clear()


def test_finished_chain_draws_nothing() -> None:
    state = State((0,), 30, 30)
    assert tasks.advance(Counting(), b"", run_of("finished"), (state, []), 1.0) == (state, [])


def test_whatever_a_sampler_raises_is_an_exception() -> None:
    sampler = Counting(fails=((3, 0, Panic),))
    with pytest.raises(ChainError, match="chain 3 failed on this process: Panic: scripted"):
        tasks.advance(sampler, b"", run_of("panic"), State((3,), 0, 30), 1.0)


def test_chain_error_travels_with_its_notes() -> None:
    import pickle

    error = ChainError((1, 2), "tcp://10.0.0.1:1234", "ValueError: no")
    error.add_note("where it happened")
    arrived = pickle.loads(pickle.dumps(error))
    assert str(arrived) == str(error) == "chains 1, 2 failed on tcp://10.0.0.1:1234: ValueError: no"
    assert (arrived.chains, arrived.worker) == ((1, 2), "tcp://10.0.0.1:1234")
    assert arrived.__notes__ == ["where it happened"]


def test_seed_is_that_of_whoever_asked_first(two_workers: Client) -> None:
    with Client(two_workers.scheduler.address, set_as_default=False) as other:
        first = two_workers.submit(tasks.same, 1, key="seed-of-a-test", pure=False)
        # two clients' messages come in any order
        assert first.result() == 1
        second = other.submit(tasks.same, 2, key="seed-of-a-test", pure=False)
        assert first.result() == second.result() == 1


def test_scheduler_takes_no_task_apart(tmp_path: Path) -> None:
    # in it, so that it travels without this file and what that imports
    def brought_in() -> list[str]:
        return [name for name in ("pymc", "pytensor", "arviz", "xarray") if name in sys.modules]

    with started(tmp_path) as commands:
        address = commands.scheduler()
        commands.worker(address)
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=PATIENCE_S)
            with cp.cloud(models.normal(), cluster=client, cache=False, progress=False) as model:
                idata = pm.sample(**SHORT)
                pm.compute_log_likelihood(idata, progressbar=False)
                cp.submit(model, cluster=client, cache=False, **SHORT).result()
            assert client.run_on_scheduler(brought_in) == []
            assert "pymc" in next(iter(client.run(brought_in).values()))
