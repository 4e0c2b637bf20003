"""Measure how fast a result of 500 MB arrives, and what memory the client needs for it.

Twice: with segments that are made in no time, which the driver copies into arrays; and with a
cheap model whose `Deterministic` is large, from `pymc.sample` to its result, beside plain
`pymc.sample`. Each case runs in a process of its own. ``peak`` is the most memory of the client
over what it had after its imports and with the model built; the processes that draw do not count.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import psutil
import pymc as pm
from cluster_time import local_cluster
from rows import Row, in_new_process, run_script
from sleeping import Sleeping, draw_segments

import cloudposterior as cp
from cloudposterior.cluster.drive import Drive
from cloudposterior.samplers.protocol import Budget, Run, Segment, State

MB = 1e6
CHAINS, SEGMENTS, DRAWS = 4, 2, 1000
SIZES = {"segment": (64 * 2**20, 2**16), "size": (15_625, 20)}
BYTES_PER_S_BAR, PEAK_BAR = 100e6, 1.5


@dataclass(frozen=True)
class Filling:
    """A sampler whose segments are as large as they get.

    Attributes
    ----------
    segment : int
        The size of a segment, in bytes.
    """

    segment: int

    def start(self, model: bytes, run: Run, chains: tuple[int, ...]) -> State:
        """Give the state before the first segment."""
        return State(chains, 0, SEGMENTS, bytes(9_000))

    def prepare(self, model: bytes, run: Run) -> None:
        """Compile nothing."""

    def advance(
        self, model: bytes, run: Run, state: State, budget: Budget
    ) -> tuple[State, list[Segment]]:
        """Make a segment."""
        numbers = np.random.default_rng(state.drawn).random((1, self.segment // 8))
        segment = Segment(state.chains[0], state.drawn, 1, {"x": numbers}, [])
        return replace(state, drawn=state.drawn + 1), [segment]


def resident() -> float:
    return float(psutil.Process().memory_info().rss)


def peak() -> float:
    # in kB, of this process alone
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def segments_only(asked: argparse.Namespace) -> dict[str, float]:
    """Take segments into arrays."""
    with local_cluster(2) as client:
        draw_segments(client, Sleeping(2), 4)  # each worker has imported what it needs
        before = resident()
        key = f"{os.getpid()}-filling"
        run = Run(key, key, key, b"", 0, CHAINS, {})
        arrays = np.empty((CHAINS, SEGMENTS, asked.segment // 8))

        def take(segment: Segment, state: State) -> None:
            arrays[segment.chain, segment.first] = segment.samples["x"][0]

        began = time.perf_counter()
        drive = Drive(client, Filling(asked.segment), b"", run, name="stub")
        drive.draw([(chain,) for chain in range(CHAINS)], take)
        wall = time.perf_counter() - began
    return {"bytes": arrays.nbytes, "wall": wall, "tail": wall, "peak": peak() - before}


def large_model(size: int) -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x", shape=5)
        pm.Deterministic("large", pm.math.sum(x) * np.linspace(0.0, 1.0, size))
    return model


def sampled(asked: argparse.Namespace, *, place: str, checks: bool) -> dict[str, float]:
    """Sample a model, on a cluster or not."""
    model = large_model(asked.size)
    call = {
        "draws": DRAWS,
        "tune": 200,
        "chains": CHAINS,
        "random_seed": 1,
        "nuts_sampler": "pymc",
        "progressbar": False,
        "compute_convergence_checks": checks,
    }
    if place == "plain":
        before = resident()
        began = time.perf_counter()
        with model:
            result = pm.sample(cores=2, **call)
        return described(result, began, before)
    with local_cluster(2) as client:
        with cp.cloud(model, cluster=client, cache=False):
            # compiled, so that what is left is drawing and carrying
            pm.sample(**{**call, "draws": 10})
            before = resident()
            began = time.perf_counter()
            result = pm.sample(**call)
        return described(result, began, before)


def described(result: Any, began: float, before: float) -> dict[str, float]:
    ended = time.perf_counter()
    stats = result["sample_stats"]
    last = float((stats["perf_counter_start"] + stats["perf_counter_diff"]).max())
    size = sum(
        variable.nbytes
        for group in ("posterior", "sample_stats")
        for variable in result[group].data_vars.values()
    )
    return {"bytes": size, "wall": ended - began, "tail": ended - last, "peak": peak() - before}


def measure(asked: argparse.Namespace) -> Iterator[Row]:
    kinds = ("", ", with convergence checks")[: 1 if asked.quick else 2]
    sides = ["segments", *(f"{side}{more}" for more in kinds for side in ("cluster", "plain"))]
    with tempfile.TemporaryDirectory() as directory:
        cases = {side: in_new_process(__file__, side, asked, directory=directory) for side in sides}
    segments = cases["segments"]
    yield Row(
        f"segments of {size_of(segments)} into arrays",
        segments["wall"],
        limit=segments["bytes"] / BYTES_PER_S_BAR,
    )
    for more in kinds:
        ours, plain = cases[f"cluster{more}"], cases[f"plain{more}"]
        what, against = f"a result of {size_of(ours)}{more}", "plain `pm.sample`"
        limit = ours["bytes"] / BYTES_PER_S_BAR
        yield Row(what, ours["wall"], plain["wall"], against)
        yield Row(
            f"{what}, from its last draw on", ours["tail"], plain["tail"], against, limit=limit
        )
        peak, size = ours["peak"] / MB, ours["bytes"] / MB
        yield Row(f"{what}, peak of the client", peak, size, "the result", unit="MB", bar=PEAK_BAR)
        yield Row(f"{what}, peak of the client", peak, plain["peak"] / MB, against, unit="MB")


def size_of(case: dict[str, float]) -> str:
    return f"{case['bytes'] / MB:.0f} MB"


SIDES = {
    "segments": segments_only,
    "cluster": partial(sampled, place="cluster", checks=False),
    "plain": partial(sampled, place="plain", checks=False),
    "cluster, with convergence checks": partial(sampled, place="cluster", checks=True),
    "plain, with convergence checks": partial(sampled, place="plain", checks=True),
}

if __name__ == "__main__":
    run_script(__doc__, measure, SIZES, SIDES)
