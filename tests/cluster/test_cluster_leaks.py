"""Many runs through one client: nothing grows but what is bounded."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import psutil
import pytest
from distributed import Client, LocalCluster

import cloudposterior as cp
from tests.cluster import models
from tests.cluster.conftest import until
from tests.cluster.sameness import SHORT

BEFORE, RUNS = 50, 200
SUBMITTED_EVERY = 10
COMES_AND_GOES = {"files": 8}
"""Dask's pool keeps some connections, of which both ends are files of this process; what each run
left, of whichever kind, would be at least fifteen."""
WORKER_GROWTH_BYTES = 32 * 2**20
"""A worker's memory wanders by some MB; two hundred runs that left 1 MB each would show."""


def of_process() -> dict[str, int]:
    """Count what a process holds that it may forget to give back."""
    gc.collect()
    return {"threads": threading.active_count(), "files": psutil.Process(os.getpid()).num_fds()}


def of_scheduler(dask_scheduler: Any) -> dict[str, int]:
    return {
        "tasks": len(dask_scheduler.tasks),
        "plugins": len(dask_scheduler.plugins),
        "clients": len(dask_scheduler.clients),
        "handlers": len(dask_scheduler.handlers),
        "topics": sum(bool(topic.subscribers) for topic in dask_scheduler._broker._topics.values()),
        "datasets": len(dask_scheduler.extensions["publish"].datasets),
    }


def of_worker(dask_worker: Any) -> dict[str, int]:
    return {
        **of_process(),
        "plugins": len(dask_worker.plugins),
        "data": len(dask_worker.data),
        "tasks": len(dask_worker.state.tasks),
    }


def resident(dask_worker: Any) -> int:
    gc.collect()
    return int(psutil.Process(os.getpid()).memory_info().rss)


def held(client: Client) -> dict[str, Any]:
    """Count once nothing is on its way any more."""
    until(lambda: not client.run_on_scheduler(of_scheduler)["tasks"])
    until(lambda: not any(of["tasks"] for of in client.run(of_worker).values()))
    return {
        "client": {**of_process(), "futures": len(client.futures)},
        "scheduler": client.run_on_scheduler(of_scheduler),
        "workers": client.run(of_worker),
    }


def grown(before: Any, after: Any, path: str = "") -> list[str]:
    """Name what is more than it was."""
    if isinstance(before, dict):
        return [
            line for key in after for line in grown(before.get(key, 0), after[key], f"{path}/{key}")
        ]
    # a thread more or less comes and goes with Dask's own pools too
    slack = COMES_AND_GOES.get(path.rpartition("/")[2], 2)
    return [f"{path}: {before} -> {after}"] if after > before + slack else []


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.usefixtures("quick_compiling")
def test_two_hundred_runs_leave_nothing_behind() -> None:
    options = {**SHORT, "draws": 4, "tune": 4, "chains": 2, "quiet": True}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        for number in range(RUNS):
            if number == BEFORE:
                before, memory = held(client), client.run(resident)
            cache: Any = cp.MemoryCache() if number % 2 else False
            # other priors now and then: what is compiled for them is kept, of eight models
            model = models.normal(sigma=1.0 + number % 3)
            seeded = {**options, "random_seed": number}
            if number % SUBMITTED_EVERY == 7:
                cp.submit(model, cluster=client, cache=cache, **seeded).result()
            else:
                cp.sample(model, cluster=client, cache=cache, **seeded)
        after = held(client)
        growth = {a: size - memory[a] for a, size in client.run(resident).items()}
    assert grown(before, after) == []
    assert max(growth.values()) < WORKER_GROWTH_BYTES, growth
