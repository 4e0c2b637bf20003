"""Models that call a function of the user's, one builder for each place where they may."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.compile.ops import wrap_py

from tests.battery.likelihoods import normal


def with_logp(logp: Callable[..., Any]) -> pm.Model:
    """A model whose likelihood is the function."""
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.CustomDist("y", mu, logp=logp, observed=np.array([0.5, 1.5]))
    return model


def with_random(random: Callable[..., Any]) -> pm.Model:
    """A model whose free variable is drawn by the function."""
    with pm.Model() as model:
        pm.CustomDist("x", 0.5, logp=normal.logp, random=random)
    return model


def with_logcdf(logcdf: Callable[..., Any]) -> pm.Model:
    """A model whose censored likelihood reads the function."""
    with pm.Model() as model:
        latent = pm.CustomDist.dist(pm.Normal("mu"), logp=normal.logp, logcdf=logcdf)
        pm.Censored("y", latent, lower=None, upper=1.0, observed=np.array([0.5, 1.0]))
    return model


def with_support_point(support_point: Callable[..., Any]) -> pm.Model:
    """A model whose free variable starts where the function says."""
    with pm.Model() as model:
        pm.CustomDist("x", 0.5, logp=normal.logp, support_point=support_point)
    return model


def with_dist(dist: Callable[..., Any]) -> pm.Model:
    """A model whose free variable has the graph that the function makes."""
    with pm.Model() as model:
        pm.CustomDist("x", 0.5, dist=dist)
    return model


def with_simulator(simulator: Callable[..., Any]) -> pm.Model:
    """A model whose likelihood compares data with what the function simulates."""
    with pm.Model() as model:
        mu = pm.Normal("mu")
        # PyMC 6.4 itself makes this random variable in a way that PyTensor warns of.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pm.Simulator("y", simulator, mu, epsilon=1.0, observed=np.array([0.5, 1.5]))
    return model


def with_potential(function: Callable[..., Any]) -> pm.Model:
    """A model with a potential computed by Python code at every evaluation."""
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Potential("p", wrap_py(itypes=[pt.dscalar], otypes=[pt.dscalar])(function)(x))
    return model
