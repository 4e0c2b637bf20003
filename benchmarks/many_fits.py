"""Many fits on two one-thread workers: what they cost beside the draws themselves.

    python benchmarks/many_fits.py [--fits 40] [--draws 1000] [--chains 2]

All models have the same graph, and data of their own in `pymc.Data`. The bound is what plain PyMC
says that it sampled for, with two chains in two processes at once, for each fit; and one compile
for each worker (the first fit of a new cluster less a second one). Prints wall time divided by
that bound.
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


def sampling_s(model: pm.Model, **asked: Any) -> float:
    """Say for how long plain PyMC samples a model, compiling left out, in seconds."""
    with model:
        result = pm.sample(cores=2, progressbar=False, **asked)
    return float(to_tree(result)["posterior"].attrs["sampling_time"])


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
        "compute_convergence_checks": False,
    }
    few = min(5, options.fits)
    plain_s = sum(sampling_s(model, **asked) for model in models(0, few)) / few * options.fits
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
            assert len(fits) == options.fits
            print(
                f"{options.fits} fits, {share}: {wall:.1f} s, sampled by plain PyMC in "
                f"{plain_s:.1f} s, compile {compile_s:.1f} s; {wall / plain_s:.2f} of that, "
                f"{wall / (plain_s + compile_s):.2f} of both",
                flush=True,
            )


if __name__ == "__main__":
    main()
