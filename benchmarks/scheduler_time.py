"""Measure how busy the scheduler keeps a hundred workers whose chains only sleep.

The driver, Dask's scheduler and all workers share one process, and Python's lock with it; on a real
cluster each has its own. ``busy`` is the time slept over the time that the workers were there for;
``in the middle`` is the same between a quarter and three quarters of the run, without the first
tasks and the last chains.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import dask
import numpy as np
from distributed import Client, LocalCluster
from rows import Row, run_script
from sleeping import Sleeping, draw_segments, segments_of

BAR = 0.85
SIZES = {
    "chains": (1000, 8),
    "segments": (20, 2),
    "workers": (100, 4),
    "seconds": ([0.5, 1.0], [0.05]),
}

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


def measure(asked: argparse.Namespace) -> Iterator[Row]:
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
            yield from rows(client, asked, seconds)


def rows(client: Client, asked: argparse.Namespace, seconds: float) -> Iterator[Row]:
    cpu, began = time.process_time(), time.perf_counter()
    with segments_of(seconds):
        segments = draw_segments(client, Sleeping(asked.segments), asked.chains)
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    wall = ended - began
    spans = np.array([[s.stats[0][name][0] for name in ("began", "ended")] for s in segments])
    assert len(spans) == asked.chains * asked.segments
    what = f"{asked.workers} workers, segments of {seconds:g} s"
    slept = wall * busy(spans, began, ended, asked.workers)
    bar = 1 / BAR if seconds >= 1 else None
    yield Row(what, wall, slept, "what each worker slept", bar=bar)
    inner = wall / 2
    slept = inner * busy(spans, began + wall / 4, ended - wall / 4, asked.workers)
    yield Row(f"{what}, in the middle of the run", inner, slept, "what each worker slept")
    yield Row(f"{what}, CPU of a task", cpu / len(spans), seconds, "the segment")


if __name__ == "__main__":
    run_script(__doc__, measure, SIZES)
