"""Measure how busy the scheduler keeps a hundred workers whose chains only sleep.

The driver, Dask's scheduler and all workers share one process, and Python's lock with it; on a real
cluster each has its own. ``busy`` is the time slept over the time that the workers were there for;
``in the middle`` is the same between a quarter and three quarters of the run, without the first
tasks and the last chains.
"""

from __future__ import annotations

import argparse
import os
import time

import dask
import numpy as np
import pymc as pm
from distributed import Client, LocalCluster
from sleeping import Sleeping, draw_segments, segments_of

BAR = 0.85

# each worker looks at its own threads a hundred times a second, which is nothing for a process of
# its own, and a quarter of a core for a hundred of them in one
_NO_PROFILES = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "5s",
}


def busy(spans: np.ndarray, since: float, until: float, workers: int) -> float:
    """Give the share of workers' time between two moments that falls into spans."""
    inside = np.clip(spans, since, until)
    return float((inside[:, 1] - inside[:, 0]).sum() / (workers * (until - since)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=1000)
    parser.add_argument("--segments", type=int, default=20)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.5, 1.0, 3.0])
    asked = parser.parse_args()
    print(
        f"PyMC {pm.__version__}, {asked.chains} chains of {asked.segments} segments on "
        f"{asked.workers} workers in one process (bar: {BAR:.0%} busy)"
    )
    print(
        f"{'segment':>10}{'ideal':>10}{'wall':>10}{'busy':>8}{'in the middle':>15}"
        f"{'CPU a task':>12}{'cores used':>12}{'load':>6}"
    )
    with (
        dask.config.set(_NO_PROFILES),
        LocalCluster(
            n_workers=asked.workers,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            memory_limit=0,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(asked.workers)
        for seconds in asked.seconds:
            print(row(client, asked, seconds), flush=True)


def row(client: Client, asked: argparse.Namespace, seconds: float) -> str:
    cpu, began = time.process_time(), time.perf_counter()
    with segments_of(seconds):
        segments = draw_segments(client, Sleeping(asked.segments), asked.chains)
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    wall = ended - began
    spans = np.array([[s.stats[0][name][0] for name in ("began", "ended")] for s in segments])
    assert len(spans) == asked.chains * asked.segments
    ideal = len(spans) * seconds / asked.workers
    whole = busy(spans, began, ended, asked.workers)
    middle = busy(spans, began + wall / 4, ended - wall / 4, asked.workers)
    return (
        f"{seconds:8.1f} s{ideal:8.1f} s{wall:8.1f} s{whole:8.1%}{middle:15.1%}"
        f"{cpu / len(spans) * 1e3:9.1f} ms{cpu / wall:12.2f}{os.getloadavg()[0]:6.1f}"
    )


if __name__ == "__main__":
    main()
