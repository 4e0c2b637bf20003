"""Time the token of a model beside PyTensor's printed graph, which is no key but does less.

With a million observations, beside joblib's hash of their array alone; models it cannot hash.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import joblib
import numpy as np
import pymc as pm
from dask.base import tokenize
from pytensor.printing import debugprint
from rows import Row, best, run_script

import cloudposterior  # noqa: F401  (registers the tokens)
from cloudposterior.demo import radon_model

SIZES = {"observations": (1_000_000, 1_000), "variables": (500, 5), "nodes": (20_000, 50)}


def many_observations(size: int, coords: dict[str, object] | None = None) -> pm.Model:
    observed = np.random.default_rng(0).normal(size=size)
    with pm.Model(coords=coords) as model:
        pm.Normal("y", pm.Normal("mu"), 1, observed=observed, dims=list(coords) if coords else None)
    return model


def many_variables(size: int) -> pm.Model:
    with pm.Model() as model:
        for i in range(size):
            x = pm.Normal(f"x{i}", 0, 1 + i)
            d = pm.Deterministic(f"d{i}", x**2 + 1)
            pm.Potential(f"p{i}", -0.1 * d)
            pm.Normal(f"y{i}", x, 1, observed=float(i))
    return model


def deep(size: int) -> pm.Model:
    with pm.Model() as model:
        value = pm.Normal("x")
        for i in range(size):
            value = value + 1.0 * i
        pm.Potential("p", value)
    return model


def cases(asked: argparse.Namespace) -> Iterator[tuple[str, pm.Model, float | None]]:
    n, variables = asked.observations, asked.variables
    yield "radon", radon_model(), 0.020
    yield f"{n:,} observations", many_observations(n), 0.060
    yield f"{n:,} observations with coords", many_observations(n, {"obs": np.arange(n)}), None
    yield f"{variables:,} variables, {3 * variables:,} more", many_variables(variables), 0.500
    yield f"{2 * asked.nodes:,} nodes in a chain", deep(asked.nodes), None


def printed(model: pm.Model) -> str:
    return debugprint(list(model.named_vars.values()), file="str")


def measure(asked: argparse.Namespace) -> Iterator[Row]:
    for name, model, limit in cases(asked):
        what = f"token, {name}"
        token = best(lambda m=model: tokenize(m))
        if name.endswith("chain"):
            yield Row(what, token)  # too deep to print
            continue
        text = best(lambda m=model: printed(m), 1)
        yield Row(what, token, text, "the printed graph", limit=limit)
        if name.endswith("observations"):
            observed = np.random.default_rng(0).normal(size=asked.observations)
            alone = best(lambda a=observed: joblib.hash(a))
            yield Row(what, token, alone, "`joblib.hash` of the array alone")


if __name__ == "__main__":
    run_script(__doc__, measure, SIZES)
