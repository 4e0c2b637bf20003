"""Log-likelihood and predictions on two one-thread workers, beside plain PyMC in the same run.

    python benchmarks/operations_cost.py [--observations 100000] [--draws 1000] [--repeats 2]

Prints for each kind of work how many times as fast as plain PyMC it was: once where computing
dominates (a process over 400 points, a scan of 3000 steps), and once where moving the result does
(a cheap likelihood of many observations).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import xarray as xr
from distributed import Client, LocalCluster
from pytensor.scan import scan

import cloudposterior as cp
from cloudposterior.posterior import from_tree


def process(points: int = 400) -> pm.Model:
    x = np.linspace(0, 1, points)[:, None]
    with pm.Model(name="process") as model:
        scale = pm.HalfNormal("scale")
        of = pm.gp.Marginal(cov_func=pm.gp.cov.ExpQuad(1, ls=scale + 0.1))
        of.marginal_likelihood("y", X=x, y=np.sin(6 * x[:, 0]), sigma=0.1)
    return model


def steps(length: int = 3000) -> pm.Model:
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


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--observations", type=int, default=100_000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    kinds: dict[str, tuple[pm.Model, Callable[[Any], Any]]] = {
        "log-likelihood of a process": (process(), likelihood),
        "predictions of a process": (process(), predictions),
        "log-likelihood of a scan": (steps(), likelihood),
        "cheap log-likelihood": (cheap(options.observations), likelihood),
        "cheap predictions": (cheap(options.observations), predictions),
    }
    with (
        pytensor.config.change_flags(numba__fastmath=False),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        for name, (model, work) in kinds.items():
            idata = posterior(model, options.draws)
            for repeat in range(options.repeats):
                with model:
                    plain = seconds(lambda work=work, idata=idata: work(idata))
                with cp.cloud(model, cluster=client, cache=False, progress=False):
                    ours = seconds(lambda work=work, idata=idata: work(idata))
                print(
                    f"{name}, run {repeat + 1}: plain {plain:.1f} s, two workers {ours:.1f} s, "
                    f"{plain / ours:.2f} times as fast",
                    flush=True,
                )


if __name__ == "__main__":
    main()
