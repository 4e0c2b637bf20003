"""Many fits on two one-thread workers, beside a loop of plain PyMC and the draws themselves.

All models have the same graph, and data of their own in `pymc.Data`. A loop over the first few of
them stands for one over all: its wall time, and what PyMC says that it sampled for, with two
chains in two processes at once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pymc as pm
from distributed import Client, LocalCluster
from rows import Row, run_script, timed

import cloudposterior as cp
from cloudposterior.posterior import to_tree

SIZES = {"fits": (40, 3), "draws": (1000, 20), "chains": (2, 2)}


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


def seconds(work: Callable[[], Any]) -> float:
    return timed(work)[0]


def measure(asked: argparse.Namespace) -> Iterator[Row]:
    call: dict[str, Any] = {
        "draws": asked.draws,
        "chains": asked.chains,
        "random_seed": 1,
        "nuts_sampler": "pymc",
        "quiet": True,
        "compute_convergence_checks": False,
    }
    fits, few = asked.fits, min(5, asked.fits)
    plain = [timed(lambda m=model: sampling_s(m, **call)) for model in models(0, few)]
    loop_s, sampled_s = (sum(times) / few * fits for times in zip(*plain, strict=True))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
        tempfile.TemporaryDirectory() as directory,
    ):

        def fit_all(first: int) -> Any:
            found = cp.map(
                models(first, fits), cluster=client, cache=directory, progress=False, **call
            )
            assert len(found) == fits

        # each worker compiles once
        cp.sample(model_of(101), cluster=client, cache=False, progress=False, **call)
        wall = seconds(lambda: fit_all(0))
        what = f"{fits} fits by `cp.map`, warm workers"
        yield Row(what, wall, loop_s, f"a loop of plain `pm.sample`, {fits}/{few} of {few} fits")
        yield Row(what, wall, sampled_s, "the sampling in it alone")
        yield Row(f"{what}, other data", seconds(lambda: fit_all(1000)), loop_s, "the same loop")
        yield Row(
            f"{fits} fits by `cp.map`, again, from disk",
            seconds(lambda: fit_all(0)),
            wall,
            "fitting",
        )


if __name__ == "__main__":
    run_script(__doc__, measure, SIZES)
