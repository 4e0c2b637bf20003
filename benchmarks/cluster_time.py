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
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from statistics import median
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
from distributed import Client, LocalCluster
from sleeping import Sleeping, draw_segments, segments_of

import cloudposterior as cp
from cloudposterior.demo import radon_model

RUN = {"draws": 1000, "tune": 1000, "chains": 4, "progressbar": False}
FIRST_BAR, SECOND_BAR, DRAW_BAR_S, SEGMENT_BAR_MS = 1.15, 0.6, 0.3, 20
SEGMENT_S = 0.05


def in_new_process(script: str, *words: str, directory: str) -> dict[str, Any]:
    """Run a script that prints JSON in its last line.

    Parameters
    ----------
    script : str
        Its path.
    *words : str
        Its arguments.
    directory : str
        For what PyTensor compiles.
    """
    flags = f"base_compiledir={directory},numba__fastmath=False"
    told = subprocess.run(
        [sys.executable, "-W", "ignore", script, *words],
        env={**os.environ, "PYTENSOR_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        raise RuntimeError(told.stderr)
    answer: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return answer


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Time a call, in seconds, and give what it gives."""
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


@contextmanager
def local_cluster(workers: int):
    """Start worker processes of one thread, and wait until they are there."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers)
        yield client


def plain(sampler: str, only_first: bool) -> dict[str, float]:
    model = radon_model()

    def sample(seed: int, **more: Any) -> Any:
        with model:
            return pm.sample(random_seed=seed, nuts_sampler=sampler, cores=2, **RUN, **more)

    return times(sample, sampler, only_first)


def on_cluster(sampler: str, only_first: bool) -> dict[str, float]:
    model = radon_model()
    with local_cluster(2) as client:

        def sample(seed: int, **more: Any) -> Any:
            with cp.cloud(model, cluster=client, cache=False):
                return pm.sample(random_seed=seed, nuts_sampler=sampler, **RUN, **more)

        return times(sample, sampler, only_first)


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


def seams() -> dict[str, float]:
    """Time what lies between two segments of one chain on one worker, in seconds.

    For a sampler that sleeps, with and without draws to carry, and for the radon model, whose
    draws say when they began and ended: of the gaps between them, those between segments are long.
    """
    model = radon_model()
    found = {}
    with local_cluster(1) as client, segments_of(SEGMENT_S):
        for name, size in {"nothing to carry": 0, "1 MB to carry": 10**6}.items():
            segments = draw_segments(client, Sleeping(60, size), 1)
            stats = [segment.stats[0] for segment in segments[10:]]
            gaps = [b["began"][0] - a["ended"][0] for a, b in itertools.pairwise(stats)]
            found[f"{name}, median"], found[f"{name}, mean"] = median(gaps), float(np.mean(gaps))
        with cp.cloud(model, cluster=client, cache=False):
            run = {**RUN, "chains": 1, "discard_tuned_samples": False, "nuts_sampler": "pymc"}
            sampled = pm.sample(random_seed=1, compute_convergence_checks=False, **run)
        long = radon_gaps(sampled)
        found["radon, median"], found["radon, mean"] = median(long), float(np.mean(long))
        found["radon, how many"] = len(long)
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


def one_side(asked: argparse.Namespace) -> dict[str, float]:
    if asked.side == "seams":
        return seams()
    side = plain if asked.side == "plain" else on_cluster
    return side(asked.sampler, asked.only_first)


def measure(sampler: str, repeats: int) -> dict[str, list[dict[str, float]]]:
    """Run both sides in turns."""
    measured: dict[str, list[dict[str, float]]] = {}
    for number in range(repeats):
        with tempfile.TemporaryDirectory() as top:
            for disk, more in {"cold": [], "warm disk": ["--only-first"]}.items():
                for side in ("plain", "cluster")[:: 1 if number % 2 else -1]:
                    words = ["--side", side, "--sampler", sampler, *more]
                    took = in_new_process(__file__, *words, directory=os.path.join(top, side))
                    measured.setdefault(f"{side}, {disk}", []).append(took)
                    print(
                        f"  {side}, {disk}: "
                        + ", ".join(f"{name} {t:.2f} s" for name, t in took.items())
                        + f" (load {os.getloadavg()[0]:.1f})",
                        flush=True,
                    )
    return measured


def show(measured: dict[str, list[dict[str, float]]], *, bars: bool) -> None:
    print(f"{'':24}{'plain':>10}{'cluster':>10}{'ratio':>8}{'bar':>8}")
    for name, disk, figure, bar in (
        ("first run, cold", "cold", "first", FIRST_BAR),
        ("first run, warm disk", "warm disk", "first", FIRST_BAR),
        ("second run, other seed", "cold", "second", SECOND_BAR),
    ):
        theirs, ours = (
            [one[figure] for one in measured[f"{side}, {disk}"]] for side in ("plain", "cluster")
        )
        ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
        shown = f"{bar:8.2f}" if bars else ""
        print(f"{name:24}{median(theirs):8.2f} s{median(ours):8.2f} s{ratio:8.2f}{shown}")
    if not bars:
        return
    for name, figure, shown in (
        ("third run, first draw", "draw", f"{DRAW_BAR_S:6.1f} s"),
        ("  on the client", "arrived", ""),
    ):
        theirs, ours = (
            median(one[figure] for one in measured[f"{side}, cold"])
            for side in ("plain", "cluster")
        )
        print(f"{name:24}{theirs:8.2f} s{ours:8.2f} s{ours / theirs:8.2f}{shown}")


def show_seams(found: dict[str, float]) -> None:
    print(f"\nbetween two segments of {SEGMENT_S * 1e3:.0f} ms (bar: {SEGMENT_BAR_MS} ms)")
    for name in ("nothing to carry", "1 MB to carry", "radon"):
        print(
            f"  {name:22}{found[f'{name}, median'] * 1e3:8.1f} ms, "
            f"mean {found[f'{name}, mean'] * 1e3:.1f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sampler", default="pymc", choices=["pymc", "nutpie"])
    parser.add_argument("--side", choices=["plain", "cluster", "seams"], help=argparse.SUPPRESS)
    parser.add_argument("--only-first", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        print("\n" + json.dumps(one_side(asked)))
        return
    print(
        f"PyMC {pm.__version__}, ArviZ {az.__version__}, {asked.sampler}, radon, 4 chains of "
        f"1000 + 1000, load {os.getloadavg()[0]:.1f}"
    )
    measured = measure(asked.sampler, asked.repeats)
    # the bars are of PyMC's own sampler, which compiles on every call
    show(measured, bars=asked.sampler == "pymc")
    with tempfile.TemporaryDirectory() as directory:
        show_seams(in_new_process(__file__, "--side", "seams", directory=directory))


if __name__ == "__main__":
    main()
