"""Measure what it costs to show how runs stand.

Three figures: how much slower radon is sampled with everything switched on than with nothing, in
turns, on two worker processes of this machine; how long the scheduler's event loop is held up
while 200 chains report at once, four times a second each; and what the scheduler holds of a run
after many and after few draws.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pickle
import time
from statistics import median
from typing import Any

import numpy as np
import pymc as pm
from cluster_time import RUN, local_cluster
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

import cloudposterior as cp
from cloudposterior.cluster.share import Shared
from cloudposterior.demo import radon_model
from cloudposterior.events import TOPIC, ChainReport, to_message

SLOWER_BAR, LAG_BAR_MS = 0.02, 50


def slowed(repeats: int, draws: int) -> float:
    """Give by how much radon is slower with everything on; negative where it is faster."""
    model = radon_model()
    run = {**RUN, "draws": draws, "nuts_sampler": "pymc", "compute_convergence_checks": False}
    ratios = []
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2)

        def sample(seed: int, progress: bool) -> float:
            began = time.perf_counter()
            with cp.cloud(model, cluster=client, cache=False, progress=progress):
                pm.sample(random_seed=seed, **{**run, "progressbar": progress})
            return time.perf_counter() - began

        sample(0, True)
        for number in range(repeats):
            order = (True, False) if number % 2 else (False, True)
            took = {progress: sample(1 + number, progress) for progress in order}
            ratios.append(took[True] / took[False])
            print(f"  on {took[True]:.2f} s, off {took[False]:.2f} s", flush=True)
    return median(ratios) - 1


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


def lag(chains: int, seconds: float) -> tuple[float, float]:
    """Give the median and the highest lateness of the loop, in seconds, while chains report."""
    with local_cluster(1) as client:
        client.register_plugin(Lag())
        shared = Shared(client, "run", "many", chains)
        assert shared is not None
        # one worker speaks for all, as fast as they would
        client.submit(report_for, chains, seconds, pure=False).result()
        late = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["lag"].late)
    return median(late), max(late)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--draws", type=int, default=4000)
    asked = parser.parse_args()
    print(f"PyMC {pm.__version__}, numpy {np.__version__}, load {os.getloadavg()[0]:.1f}")
    share = slowed(asked.repeats, asked.draws)
    print(f"everything on, against nothing: {share:+.1%} (bar: {SLOWER_BAR:.0%})")
    middle, highest = lag(200, 10)
    print(
        f"event loop late while 200 chains report: {middle * 1e3:.1f} ms in the middle, "
        f"{highest * 1e3:.1f} ms at most (bar: {LAG_BAR_MS} ms)"
    )
    few, many = held(1_000), held(20_000)
    print(
        f"held by the scheduler: {few / 1e3:.0f} kB of 1,000 draws, {many / 1e3:.0f} kB of 20,000"
    )


if __name__ == "__main__":
    main()
