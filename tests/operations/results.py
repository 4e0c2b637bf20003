"""Models and posteriors to compute from, made without sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from xarray import DataTree

from cloudposterior.posterior import from_tree, to_tree

PYMC_5 = pm.__version__.startswith("5")


def line(shift: float = 0.0) -> pm.Model:
    """A regression with data, names for its dimensions, and a deterministic."""
    with pm.Model(coords={"place": list("abcdef")}, name="line") as model:
        x = pm.Data("x", np.linspace(0.0, 1.0, 6), dims="place")
        a = pm.Normal("a", shift)
        b = pm.Normal("b")
        s = pm.HalfNormal("s")
        mu = pm.Deterministic("mu", a + b * x, dims="place")
        pm.Normal("y", mu, s, observed=np.arange(6.0) / 5, dims="place")
    return model


def posterior_of(model: pm.Model, *, chains: int = 2, draws: int = 230, seed: int = 3) -> Any:
    """A posterior of `line` as PyMC gives it, with draws from anywhere."""
    rng = np.random.default_rng(seed)
    coords = {"chain": np.arange(chains), "draw": np.arange(draws)}
    values = {
        "line::a": rng.normal(size=(chains, draws)),
        "line::b": rng.normal(size=(chains, draws)),
        "line::s": rng.uniform(0.5, 2.0, size=(chains, draws)),
    }
    posterior = xr.Dataset({k: (("chain", "draw"), v) for k, v in values.items()}, coords)
    data = xr.Dataset(
        {"line::x": ("place", model["line::x"].get_value())}, {"place": list("abcdef")}
    )
    observed = xr.Dataset({"line::y": ("place", np.arange(6.0) / 5)}, {"place": list("abcdef")})
    groups = {"posterior": posterior, "constant_data": data, "observed_data": observed}
    tree: DataTree = DataTree.from_dict(groups)
    return from_tree(tree)


def posterior_group(result: Any) -> Any:
    """What `pymc.compute_deterministics` takes on both stacks."""
    return to_tree(result)["posterior"].to_dataset()


def same(one: Any, other: Any) -> bool:
    """Tell whether two results are equal in every value, whatever kind they are."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray | np.generic):
        return np.array_equal(one, other)
    if isinstance(one, xr.Dataset):
        return bool(one.equals(other)) and list(one.data_vars) == list(other.data_vars)
    trees = [to_tree(each) for each in (one, other)]
    groups = [sorted(tree.children) for tree in trees]
    return groups[0] == groups[1] and all(
        trees[0][g].to_dataset().equals(trees[1][g].to_dataset())
        for g in groups[0]
        # times
        if g != "sample_stats"
    )
