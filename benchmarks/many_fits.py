"""Many fits on two one-thread workers: what they cost beside the draws themselves.

    python benchmarks/many_fits.py [--fits 40] [--draws 1000] [--chains 2]

All models have the same graph, and data of their own in `pymc.Data`. The bound is the time that all
draws took on the workers, tuning included, divided by two, and one compile for each worker (the
first fit of a new cluster less a second one). Prints wall time divided by that bound.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pymc as pm
from distributed import Client, LocalCluster

import cloudposterior as cp
from cloudposterior.posterior import to_tree


def model_of(number: int) -> pm.Model:
    """Build a regression on groups, with data of its own."""
    rng = np.random.default_rng(number)
    with pm.Model(name="regression") as model:
        group = pm.Data("group", rng.integers(0, 20, size=400))
        x = pm.Data("x", rng.normal(size=400))
        y = pm.Data("y_seen", rng.normal(size=400))
        spread = pm.HalfNormal("spread")
        a = pm.Normal("a", 0.0, spread, shape=20)
        b = pm.Normal("b")
        pm.Normal("y", a[group] + b * x, pm.HalfNormal("s"), observed=y)
    return model


def models(first: int, fits: int) -> Iterator[pm.Model]:
    return (model_of(number) for number in range(first, first + fits))


def drawing_s(result: Any) -> float:
    """Say how long all draws of a result took, in seconds."""
    tree = to_tree(result)
    groups = (tree[name] for name in ("sample_stats", "warmup_sample_stats"))
    return sum(float(group["perf_counter_diff"].sum()) for group in groups)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fits", type=int, default=40)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--chains", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    asked: dict[str, Any] = {
        "draws": options.draws,
        "chains": options.chains,
        "random_seed": 1,
        "nuts_sampler": "pymc",
        "quiet": True,
        "discard_tuned_samples": False,
        "compute_convergence_checks": False,
    }
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        times = []
        for number in (-1, -2):
            began = time.perf_counter()
            cp.sample(model_of(100 - number), cluster=client, cache=False, progress=False, **asked)
            times.append(time.perf_counter() - began)
        compile_s = max(0.0, times[0] - times[1])
        for share in ("warm workers", "again"):
            began = time.perf_counter()
            first = 0 if share == "warm workers" else 1000
            fits = cp.map(models(first, options.fits), cluster=client, cache=False, **asked)
            wall = time.perf_counter() - began
            half = sum(map(drawing_s, fits)) / 2
            print(
                f"{options.fits} fits, {share}: {wall:.1f} s, draws alone {half:.1f} s on each "
                f"worker, compile {compile_s:.1f} s; {wall / half:.2f} of the draws, "
                f"{wall / (half + compile_s):.2f} of the bound of a cold cluster",
                flush=True,
            )


if __name__ == "__main__":
    main()
