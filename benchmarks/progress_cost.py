"""Measure what it costs to show how runs stand.

How much slower radon is sampled with everything switched on than with nothing, in turns, on two
worker processes of this machine, and with Dask's profiles of its workers than without; how long the
scheduler's event loop is held up while 200 chains report at once, four times a second each; and
what the scheduler holds of a run after many and after few draws.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import dask
import pymc as pm
from cluster_time import RUN, local_cluster
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin
from rows import Row, best, middle, run_script

import cloudposterior as cp
from cloudposterior.cluster.share import Shared
from cloudposterior.demo import radon_model
from cloudposterior.events import TOPIC, ChainReport, to_message

SLOWER_BAR, LAG_LIMIT_S, HELD_BAR = 1.02, 0.050, 1.1
SIZES = {
    "repeats": (5, 1),
    "draws": (4000, 30),
    "chains": (200, 20),
    "seconds": (10.0, 1.0),
    # so many that diagnostics are made of both
    "few": (20_000, 20),
    "many": (100_000, 200),
}


def in_turns(sample: Callable[[int, bool], float], repeats: int) -> tuple[float, float]:
    """Give how long something takes with what costs, and without."""
    sample(0, True), sample(0, False)
    pairs = []
    for number in range(repeats):
        order = (True, False) if number % 2 else (False, True)
        took = {with_it: sample(1 + number, with_it) for with_it in order}
        pairs.append((took[True], took[False]))
    return middle(pairs)


def run_of(draws: int) -> dict[str, Any]:
    return {
        **RUN,
        "draws": draws,
        "tune": min(1000, draws),
        "nuts_sampler": "pymc",
        "compute_convergence_checks": False,
    }


def shown(repeats: int, draws: int) -> tuple[float, float]:
    """Give how long radon takes with everything on, and with nothing."""
    model, run = radon_model(), run_of(draws)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2)

        def sample(seed: int, progress: bool) -> float:
            with cp.cloud(model, cluster=client, cache=False, progress=progress):
                return best(
                    lambda: pm.sample(random_seed=seed, **{**run, "progressbar": progress}), 1
                )

        return in_turns(sample, repeats)


def profiled(repeats: int, draws: int) -> tuple[float, float]:
    """Give how long radon takes on workers that Dask profiles, as it does, and on others."""
    model, run = radon_model(), run_of(draws)
    with contextlib.ExitStack() as stack:
        clients = {}
        for enabled in (True, False):
            with dask.config.set({"distributed.worker.profile.enabled": enabled}):
                clients[enabled] = stack.enter_context(local_cluster(2))

        def sample(seed: int, enabled: bool) -> float:
            with cp.cloud(model, cluster=clients[enabled], cache=False, progress=False):
                return best(lambda: pm.sample(random_seed=seed, **run), 1)

        return in_turns(sample, repeats)


class Lag(SchedulerPlugin):
    """Notes by how much the event loop is late."""

    name = "lag"

    async def start(self, scheduler: Any) -> None:
        """Begin to look at the clock."""
        self.late: list[float] = []
        self.task = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            self.late.append(time.perf_counter() - began - 0.01)


def lag(chains: int, seconds: float) -> float:
    """Give the highest lateness of the loop, in seconds, while so many chains report."""
    with local_cluster(1) as client:
        client.register_plugin(Lag())
        shared = Shared(client, "run", "many", max(1, chains))
        assert shared is not None
        # one worker speaks for all, as fast as they would
        client.submit(report_for, chains, seconds, pure=False).result()
        late = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["lag"].late)
    return float(max(late))


def report_for(chains: int, seconds: float) -> None:
    from distributed import get_worker

    worker = get_worker()
    for tick in range(int(4 * seconds)):
        began = time.perf_counter()
        for chain in range(chains):
            event = ChainReport(chain, worker.address, tick, 100, 10**6, 0, 0.5, 7.0, 1.0)
            worker.log_event(TOPIC, to_message("run", event))
        time.sleep(max(0.0, 0.25 - (time.perf_counter() - began)))


def held(draws: int) -> int:
    """Give the size of what the scheduler holds of a run of so many draws, in bytes."""
    with pm.Model(name="held") as model:
        pm.Normal("x", shape=20)
    run = {"draws": draws, "tune": 200, "chains": 2, "nuts_sampler": "pymc", "progressbar": False}
    with local_cluster(2) as client, cp.cloud(model, cluster=client, cache=False):
        pm.sample(random_seed=1, compute_convergence_checks=False, **run)
        return int(client.run_on_scheduler(_size_of_board))


def _size_of_board(dask_scheduler: Any) -> int:
    runs = list(dask_scheduler.plugins["cloudposterior"].board)
    return sum(
        len(pickle.dumps((run.started, run.table._chains, run.table.diagnosis))) for run in runs
    )


def measure(asked: argparse.Namespace) -> Iterator[Row]:
    size = asked.repeats, asked.draws
    yield Row("radon, everything shown", *shown(*size), "nothing shown", bar=SLOWER_BAR)
    yield Row("radon, workers profiled by Dask", *profiled(*size), "not profiled")
    late, idle = lag(asked.chains, asked.seconds), lag(0, asked.seconds)
    what = f"the scheduler's loop is late, {asked.chains} chains report"
    yield Row(what, late, idle, "none report", limit=LAG_LIMIT_S)
    many, few = held(asked.many) / 1e3, held(asked.few) / 1e3
    what = f"held by the scheduler of {asked.many:,} draws"
    yield Row(what, many, few, f"of {asked.few:,} draws", unit="kB", bar=HELD_BAR)


if __name__ == "__main__":
    run_script(__doc__, measure, SIZES)
