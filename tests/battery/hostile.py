"""Pairs that a hostile reader came up with: what objects hide, and what moves by itself."""

from __future__ import annotations

from typing import Any

import cloudpickle
import numpy as np
import pymc as pm
import scipy.sparse
import xarray as xr

from tests.battery.custom import with_logp
from tests.battery.pairs import Pair, contrast, namespace, refuse

BODY = "\ndef logp(value, mu):\n    return -{} * (value - mu) ** 2\n"


def reading(source: str, expression: str) -> pm.Model:
    """A model whose likelihood reads an expression from a namespace made of source text."""
    return with_logp(namespace(source + BODY.format(expression)).logp)


def holding(value: Any, expression: str) -> pm.Model:
    """A model whose likelihood reads an expression of an object."""
    space = namespace(BODY.format(expression))
    vars(space)["held"] = value
    return with_logp(space.logp)


class Permissive(dict):
    """Answers to every attribute, as attribute dictionaries do."""

    __getattr__ = dict.get


def nameless(constant: float) -> type:
    """A class made by exec in a namespace without a name."""
    space: dict[str, Any] = {}
    exec(f"class Held:\n    k = {constant}", space)
    return space["Held"]


def keyed(value: float) -> scipy.sparse.dok_matrix:
    """A sparse matrix that is a dictionary."""
    made = scipy.sparse.dok_matrix((2, 2))
    made[0, 1] = value
    return made


def used(array: xr.DataArray) -> xr.DataArray:
    """An array of xarray after its accessors and indexes have left something behind."""
    _ = array.sel(x=1) * array, array.rolling(x=2)
    return array


def labelled(value: float) -> xr.DataArray:
    """A small array of xarray."""
    return xr.DataArray(np.array([1.0, value]), coords={"x": [0, 1]}, dims="x")


def seen_by_pickle() -> pm.Model:
    """A model after a copy of it was made in this process."""
    model = reading("", "1.0")
    cloudpickle.loads(cloudpickle.dumps(model))
    return model


def covariance() -> pm.Model:
    """A covariance whose transform holds a graph of constants."""
    with pm.Model() as model:
        scale = pm.Exponential.dist(1.0, shape=3)
        pm.LKJCholeskyCov("chol", n=3, eta=2.0, sd_dist=scale, compute_corr=False)
    return model


def covariance_used() -> pm.Model:
    """The same after its gradient was taken."""
    model = covariance()
    model.dlogp()
    return model


PAIRS: tuple[Pair, ...] = (
    *contrast(
        "held",
        lambda value: holding(Permissive(k=value), "held.k"),
        {"permissive object": (1.0, 2.0)},
    ),
    *contrast("held", lambda k: holding(nameless(k), "held.k"), {"nameless class": (1.0, 2.0)}),
    *contrast("held", lambda k: holding(keyed(k), "held[0, 1]"), {"sparse mapping": (1.0, 2.0)}),
    *contrast("held", lambda k: holding(labelled(k), "held.values"), {"xarray": (1.0, 2.0)}),
    Pair(
        "held: xarray after use",
        lambda: holding(labelled(2.0), "held.values"),
        lambda: holding(used(labelled(2.0)), "held.values"),
        "same",
    ),
    Pair("copied: a copy was made meanwhile", lambda: reading("", "1.0"), seen_by_pickle, "same"),
    Pair("after gradient: covariance", covariance, covariance_used, "same", costly=True),
    *refuse(
        "hidden reading",
        lambda case: reading(*case),
        {
            "function by its name": ("from numpy import loadtxt\n", "loadtxt('file')"),
            "environment by its name": ("from os import getenv\n", "float(getenv('K'))"),
            "open by another name": ("from builtins import open as o\n", "float(o('k').read())"),
            "path": ("from pathlib import Path\n", "float(Path('k').open().read())"),
            "globals by another name": ("g = globals\nk = 1.0\n", "g()['k']"),
            "globals of a function": ("k = 1.0\n", "logp.__globals__['k']"),
        },
    ),
)
