"""Log-likelihood, predictions and SMC on two one-thread workers, beside plain PyMC.

Once where computing dominates (a process over 400 points, a scan of 3000 steps), and once where
moving the result does (a cheap likelihood of many observations). The second run finds what the
first one compiled.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import xarray as xr
from distributed import Client, LocalCluster
from pytensor.scan import scan
from rows import Row, run_script, timed

import cloudposterior as cp
from cloudposterior.posterior import from_tree

SIZES = {
    "points": (400, 10),
    "length": (3000, 20),
    "observations": (100_000, 100),
    "draws": (1000, 10),
    "repeats": (2, 1),
}


def process(points: int) -> pm.Model:
    x = np.linspace(0, 1, points)[:, None]
    with pm.Model(name="process") as model:
        scale = pm.HalfNormal("scale")
        of = pm.gp.Marginal(cov_func=pm.gp.cov.ExpQuad(1, ls=scale + 0.1))
        of.marginal_likelihood("y", X=x, y=np.sin(6 * x[:, 0]), sigma=0.1)
    return model


def steps(length: int) -> pm.Model:
    with pm.Model(name="steps") as model:
        scale = pm.HalfNormal("scale")
        path = scan(
            lambda before, noise, scale: pt.tanh(before * scale + noise),
            sequences=[pt.as_tensor(np.random.default_rng(1).normal(size=length))],
            outputs_info=[pt.as_tensor(np.float64(0.0))],
            non_sequences=[scale],
            return_updates=False,
        )
        pm.Normal("y", path, 1.0, observed=np.zeros(length))
    return model


def cheap(observations: int) -> pm.Model:
    with pm.Model(name="cheap") as model:
        scale = pm.HalfNormal("scale")
        pm.Normal("y", 0.0, scale, observed=np.zeros(observations))
    return model


def posterior(model: pm.Model, draws: int) -> Any:
    values = np.random.default_rng(2).uniform(0.5, 1.5, size=(4, draws))
    name = f"{model.name}::scale"
    dataset = xr.Dataset({name: (("chain", "draw"), values)})
    return from_tree(xr.DataTree.from_dict({"posterior": dataset}))


def likelihood(idata: Any) -> Any:
    return pm.compute_log_likelihood(idata, extend_inferencedata=False, progressbar=False)


def predictions(idata: Any) -> Any:
    return pm.sample_posterior_predictive(idata, random_seed=1, progressbar=False)


def prior(_: Any) -> Any:
    return pm.sample_prior_predictive(1000, random_seed=1)


def smc(_: Any) -> Any:
    return pm.sample_smc(500, chains=4, cores=2, random_seed=1, progressbar=False)


def kinds(asked: argparse.Namespace) -> dict[str, tuple[pm.Model, Callable[[Any], Any]]]:
    many = cheap(asked.observations)
    return {
        "log-likelihood of a process": (process(asked.points), likelihood),
        "predictions of a process": (process(asked.points), predictions),
        "prior predictions of a process": (process(asked.points), prior),
        "log-likelihood of a scan": (steps(asked.length), likelihood),
        "SMC of a scan": (steps(asked.length // 10), smc),
        "cheap log-likelihood": (many, likelihood),
        "cheap predictions": (many, predictions),
    }


def measure(asked: argparse.Namespace) -> Iterator[Row]:
    with (
        pytensor.config.change_flags(numba__fastmath=False),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        for name, (model, work) in kinds(asked).items():
            idata = posterior(model, asked.draws)
            for repeat in range(asked.repeats):
                with model:
                    plain, _ = timed(lambda work=work, idata=idata: work(idata))
                with cp.cloud(model, cluster=client, cache=False, progress=False):
                    ours, _ = timed(lambda work=work, idata=idata: work(idata))
                yield Row(f"{name}, run {repeat + 1}", ours, plain, "plain PyMC")


if __name__ == "__main__":
    run_script(__doc__, measure, SIZES)
