"""``cloudposterior demo``: the radon model, fitted twice."""

from __future__ import annotations

import time
from importlib import resources

import arviz as az
import numpy as np
import pandas as pd
import pymc as pm

from cloudposterior.api import cloud, explain

__all__ = ["radon", "radon_model", "run_demo"]

_SHOWN = ("mu_a", "sigma_a", "b", "sigma")


def radon() -> pd.DataFrame:
    """Load the radon data.

    Returns
    -------
    pandas.DataFrame
        919 houses: ``county``, ``county_code``, ``floor``, ``log_radon``, ``Uppm``. The source is
        named in ``cloudposterior/data/README.md``.
    """
    with resources.files("cloudposterior").joinpath("data/radon.csv").open() as file:
        return pd.read_csv(file)


def radon_model() -> pm.Model:
    """Build the radon model with intercepts that vary by county.

    Returns
    -------
    pymc.Model
        Named ``radon``, so that its variables are ``radon::mu_a``, ``radon::sigma_a``,
        ``radon::z_a`` (85 values), ``radon::b`` and ``radon::sigma``.
    """
    data = radon()
    counties = data.groupby("county_code")["county"].first()
    coords = {"county": counties.to_list(), "house": np.arange(len(data))}
    with pm.Model(coords=coords, name="radon") as model:
        floor = pm.Data("floor", data["floor"].to_numpy(), dims="house")
        county = pm.Data("county_idx", data["county_code"].to_numpy(), dims="house")
        mu_a = pm.Normal("mu_a", 0.0, 10.0)
        sigma_a = pm.HalfNormal("sigma_a", 2.0)
        z_a = pm.Normal("z_a", dims="county")
        a = pm.Deterministic("a", mu_a + sigma_a * z_a, dims="county")
        b = pm.Normal("b", 0.0, 10.0)
        sigma = pm.HalfNormal("sigma", 5.0)
        observed = data["log_radon"].to_numpy()
        pm.Normal("log_radon", a[county] + b * floor, sigma, observed=observed, dims="house")
    return model


def run_demo() -> None:
    """Fit the radon model twice with the disk cache, and print what came of it."""
    model = radon_model()
    times_s = []
    for _ in range(2):
        started = time.perf_counter()
        with cloud(model, cache="disk"):
            idata = pm.sample(draws=1000, tune=1000, chains=4, random_seed=2006)
        times_s.append(time.perf_counter() - started)
    names = [f"{model.name}::{name}" for name in _SHOWN]
    print(az.summary(idata, var_names=names).to_string())
    print(f"\nfirst fit {times_s[0]:.2f} s, second {times_s[1]:.2f} s")
    entry = explain(model, draws=1000, tune=1000, chains=4, random_seed=2006).entry
    if entry is not None and entry.path is not None:
        print(f"kept in {entry.path} ({entry.size_bytes / 1e6:.1f} MB)")
