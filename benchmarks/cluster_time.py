"""Time radon on a local cluster beside plain `pymc.sample`.

Two worker processes of one thread stand against ``cores=2``, 4 chains of 1000 + 1000 draws. Each
side runs in a process of its own that has imported everything and built the model (the workers of
the cluster have imported nothing), and with a directory of its own for what PyTensor compiles:
empty for ``cold``, as ``cold`` left it for ``warm disk``. The sides take turns, and of each figure
the median is shown, with the ratio of those that were measured side by side.

Both compile without Numba's fast math, as workers do.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
from dask.utils import parse_timedelta
from distributed import Client, LocalCluster
from rows import Row, in_new_process, middle, middle_of, run_script, timed
from sleeping import Sleeping, draw_segments, segments_of

import cloudposterior as cp
from cloudposterior.config import cluster_setting
from cloudposterior.demo import radon_model

RUN = {"draws": 1000, "tune": 1000, "chains": 4, "progressbar": False}
SIZES = {
    "repeats": (3, 1),
    "draws": (1000, 50),
    "segments": (60, 15),
    "sampler": ("pymc", "pymc"),
}
FIRST_BAR, SECOND_BAR, DRAW_LIMIT_S, SEGMENT_LIMIT_S = 1.15, 0.6, 0.3, 0.020
SEGMENT_S = 0.05
RUNS = ("first run, cold", "first run, warm disk", "second run, other seed")


@contextmanager
def local_cluster(workers: int):
    """Start worker processes of one thread, and wait until they are there."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers)
        yield client


def plain(asked: argparse.Namespace, *, only_first: bool) -> dict[str, float]:
    model = radon_model()

    def sample(seed: int, **more: Any) -> Any:
        with model:
            return pm.sample(random_seed=seed, cores=2, **run_of(asked), **more)

    return times(sample, asked.sampler, only_first)


def on_cluster(asked: argparse.Namespace, *, only_first: bool) -> dict[str, float]:
    model = radon_model()
    with local_cluster(2) as client:

        def sample(seed: int, **more: Any) -> Any:
            with cp.cloud(model, cluster=client, cache=False):
                return pm.sample(random_seed=seed, **run_of(asked), **more)

        return times(sample, asked.sampler, only_first)


def run_of(asked: argparse.Namespace) -> dict[str, Any]:
    return {**RUN, "draws": asked.draws, "tune": asked.draws, "nuts_sampler": asked.sampler}


def times(sample: Callable[..., Any], sampler: str, only_first: bool) -> dict[str, float]:
    """Time the runs of one side, in seconds."""
    took = {"first": timed(lambda: sample(1))[0]}
    if only_first:
        return took
    took["second"] = timed(lambda: sample(2))[0]
    if sampler == "pymc":
        took["draw"], took["arrived"] = until_first_draw(sample)
    return took


def until_first_draw(sample: Callable[..., Any]) -> tuple[float, float]:
    """Time until a first draw is made, and until a callback on the client has seen one.

    The clock of `time.perf_counter` is the machine's; a draw says when it began and what it took.
    """
    made, seen = [], []

    def look(trace: Any, draw: Any) -> None:
        seen.append(time.perf_counter())
        (stats,) = draw.stats
        made.append(float(stats["perf_counter_start"] + stats["perf_counter_diff"]))

    began = time.perf_counter()
    sample(3, callback=look)
    return min(made) - began, seen[0] - began


def seams(asked: argparse.Namespace) -> dict[str, float]:
    """Time what lies between two segments of one chain on one worker, in seconds.

    For a sampler that sleeps, with and without draws to carry, and for the radon model, whose
    draws say when they began and ended: of the gaps between them, those between segments are long.
    """
    model = radon_model()
    found = {}
    with local_cluster(1) as client, segments_of(SEGMENT_S):
        for name, size in {"nothing to carry": 0, "1 MB to carry": 10**6}.items():
            segments = draw_segments(client, Sleeping(asked.segments, size), 1)
            stats = [segment.stats[0] for segment in segments[10:]]
            gaps = [b["began"][0] - a["ended"][0] for a, b in itertools.pairwise(stats)]
            found[name] = middle_of(gaps)
        with cp.cloud(model, cluster=client, cache=False):
            run = {**run_of(asked), "chains": 1, "discard_tuned_samples": False}
            sampled = pm.sample(random_seed=1, compute_convergence_checks=False, **run)
        found["radon"] = middle_of(radon_gaps(sampled))
    return found


def radon_gaps(sampled: Any) -> list[float]:
    groups = [sampled["warmup_sample_stats"], sampled["sample_stats"]]
    starts, lasted = (
        np.concatenate([group[f"perf_counter_{name}"].values[0] for group in groups])
        for name in ("start", "diff")
    )
    gaps = starts[1:] - (starts + lasted)[:-1]
    # a draw takes milliseconds, and what is between two of a segment microseconds
    ends = np.flatnonzero(gaps > 1.5e-3)[2:]
    return [float(gap) for gap in gaps[ends]]


def in_turns(asked: argparse.Namespace) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Run both sides in turns, in processes of their own."""
    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(asked.repeats):
        with tempfile.TemporaryDirectory() as top:
            for disk in ("cold", "warm disk"):
                for side in ("plain", "cluster")[:: 1 if number % 2 else -1]:
                    name = side if disk == "cold" else f"{side}, first run"
                    directory = os.path.join(top, side)
                    took = in_new_process(__file__, name, asked, directory=directory)
                    measured.setdefault((side, disk), []).append(took)
    return measured


def measure(asked: argparse.Namespace) -> Iterator[Row]:
    measured = in_turns(asked)

    def pair(disk: str, figure: str) -> tuple[float, float]:
        ours, theirs = (
            [took[figure] for took in measured[side, disk]] for side in ("cluster", "plain")
        )
        return middle(zip(ours, theirs, strict=True))

    against = "plain `pm.sample(cores=2)`"
    # the bars are of PyMC's own sampler, which compiles on every call
    first, second = (FIRST_BAR, SECOND_BAR) if asked.sampler == "pymc" else (None, None)
    yield Row(RUNS[0], *pair("cold", "first"), against, bar=first)
    yield Row(RUNS[1], *pair("warm disk", "first"), against, bar=first)
    yield Row(RUNS[2], *pair("cold", "second"), against, bar=second)
    if asked.sampler != "pymc":
        return
    draw, arrived = pair("cold", "draw"), pair("cold", "arrived")
    yield Row("first draw on a warm worker", *draw, against, limit=DRAW_LIMIT_S)
    yield Row("first draw seen by the client", *arrived, against)
    with tempfile.TemporaryDirectory() as directory:
        gaps = in_new_process(__file__, "seams", asked, directory=directory)
    segment_s = parse_timedelta(cluster_setting("segment"))
    for name, gap in gaps.items():
        limit = SEGMENT_LIMIT_S if name == "radon" else None
        yield Row(f"between two segments, {name}", gap, segment_s, "a segment", limit=limit)


SIDES = {
    "plain": partial(plain, only_first=False),
    "plain, first run": partial(plain, only_first=True),
    "cluster": partial(on_cluster, only_first=False),
    "cluster, first run": partial(on_cluster, only_first=True),
    "seams": seams,
}

if __name__ == "__main__":
    run_script(__doc__, measure, SIZES, SIDES)
