"""Measure how fast a result of 500 MB arrives, and what memory the client needs for it.

Twice: with segments that are made in no time, which the driver copies into arrays; and with a
cheap model whose `Deterministic` is large, from `pymc.sample` to its result, beside plain
`pymc.sample`. Each case runs in a process of its own. ``peak`` is the most memory of the client
over what it had after its imports and with the model built; the processes that draw do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
import pymc as pm
from cluster_time import in_new_process, local_cluster
from sleeping import Sleeping, draw_segments

import cloudposterior as cp
from cloudposterior.cluster.drive import Drive
from cloudposterior.samplers.protocol import Budget, Run, Segment, State

MB = 1e6
SEGMENT = 64 * 2**20
CHAINS, SEGMENTS = 4, 2
DRAWS, SIZE = 1000, 15_625
RATE_BAR, PEAK_BAR = 100, 1.5


@dataclass(frozen=True)
class Filling:
    """A sampler whose segments are as large as they get."""

    def start(self, model: bytes, run: Run, chains: tuple[int, ...]) -> State:
        """Give the state before the first segment."""
        return State(chains, 0, SEGMENTS, bytes(9_000))

    def prepare(self, model: bytes, run: Run) -> None:
        """Compile nothing."""

    def advance(
        self, model: bytes, run: Run, state: State, budget: Budget
    ) -> tuple[State, list[Segment]]:
        """Make a segment."""
        numbers = np.random.default_rng(state.drawn).random((1, SEGMENT // 8))
        segment = Segment(state.chains[0], state.drawn, 1, {"x": numbers}, [])
        return replace(state, drawn=state.drawn + 1), [segment]


def resident() -> float:
    return float(psutil.Process().memory_info().rss)


def peak() -> float:
    # in kB, of this process alone
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def segments_only() -> dict[str, float]:
    """Take segments into arrays."""
    with local_cluster(2) as client:
        draw_segments(client, Sleeping(2), 4)  # each worker has imported what it needs
        before = resident()
        key = f"{os.getpid()}-filling"
        run = Run(key, key, key, b"", 0, CHAINS, {})
        arrays = np.empty((CHAINS, SEGMENTS, SEGMENT // 8))

        def take(segment: Segment, state: State) -> None:
            arrays[segment.chain, segment.first] = segment.samples["x"][0]

        began = time.perf_counter()
        Drive(client, Filling(), b"", run, name="stub").draw([(c,) for c in range(CHAINS)], take)
        wall = time.perf_counter() - began
    return {"bytes": arrays.nbytes, "wall": wall, "tail": wall, "peak": peak() - before}


def large_model() -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x", shape=5)
        pm.Deterministic("large", pm.math.sum(x) * np.linspace(0.0, 1.0, SIZE))
    return model


def sampled(place: str, checks: bool) -> dict[str, float]:
    """Sample a model, on a cluster or not."""
    model = large_model()
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=["segments", "plain", "cluster"], help=argparse.SUPPRESS)
    parser.add_argument("--checks", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        case = segments_only() if asked.case == "segments" else sampled(asked.case, asked.checks)
        print("\n" + json.dumps(case))
        return
    print(
        f"PyMC {pm.__version__}, load {os.getloadavg()[0]:.1f} "
        f"(bars: {RATE_BAR} MB/s or more, peak under {PEAK_BAR} times the result)"
    )
    print(
        f"{'':28}{'result':>10}{'wall':>9}{'rate':>11}"
        f"{'after last draw':>18}{'rate':>11}{'peak':>11}{'ratio':>6}"
    )
    with tempfile.TemporaryDirectory() as directory:
        for name, words in {
            "segments into arrays": ["segments"],
            "a model on a cluster": ["cluster"],
            "  with convergence checks": ["cluster", "--checks"],
            "plain pymc.sample": ["plain"],
            "  with convergence checks ": ["plain", "--checks"],
        }.items():
            case = in_new_process(__file__, "--case", *words, directory=directory)
            print(row(name, case), flush=True)


def row(name: str, case: dict[str, float]) -> str:
    size, wall, tail = case["bytes"] / MB, case["wall"], case["tail"]
    return (
        f"{name:28}{size:7.0f} MB{wall:7.2f} s{size / wall:6.0f} MB/s"
        f"{tail:16.2f} s{size / tail:6.0f} MB/s"
        f"{case['peak'] / MB:8.0f} MB{case['peak'] / case['bytes']:6.2f}"
    )


if __name__ == "__main__":
    main()
