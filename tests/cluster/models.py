"""The smallest models that ask PyMC for each of its samplers, and what users write themselves."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.step_methods.compound import BlockedStep
from pytensor.compile.ops import wrap_py

Y = np.array([0.1, -0.4, 0.3, 1.2, 0.8])
COUNTS = np.array([5, 4, 6, 1, 0, 1, 2, 0])


def normal(name: str = "small", *, sigma: float = 1.0) -> pm.Model:
    """Two variables for NUTS, one of them transformed, and a deterministic."""
    with pm.Model(name=name, coords={"part": ["a", "b"]}) as model:
        mu = pm.Normal("mu", 0.0, sigma, dims="part")
        spread = pm.HalfNormal("spread", 1.0)
        pm.Deterministic("twice", 2 * mu, dims="part")
        pm.Normal("y", mu.sum(), spread, observed=Y)
    return model


def regression(shift: float = 0.0, *, sigma: float = 1.0) -> pm.Model:
    """A slope over `pm.Data`."""
    with pm.Model() as model:
        x = pm.Data("x", np.arange(5.0) + shift)
        slope = pm.Normal("slope", 0.0, sigma)
        pm.Normal("y", slope * x, 1.0, observed=Y)
    return model


def changepoint() -> pm.Model:
    """Coal mining: NUTS for the rates, Metropolis for the year."""
    with pm.Model() as model:
        year = pm.DiscreteUniform("year", 0, len(COUNTS) - 1)
        early, late = pm.Exponential("early", 1.0), pm.Exponential("late", 1.0)
        rate = pm.math.switch(year >= np.arange(len(COUNTS)), early, late)
        pm.Poisson("disasters", rate, observed=COUNTS)
    return model


def mixture() -> pm.Model:
    """NUTS, Gibbs for the categories, and Gibbs for a binary variable."""
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", np.ones(3))
        means = pm.Normal("means", [-1.0, 0.0, 1.0], 1.0)
        component = pm.Categorical("component", weights, shape=len(Y))
        wide = pm.Bernoulli("wide", 0.3)
        pm.Normal("y", means[component], 1.0 + wide, observed=Y)
    return model


def _logp(value: Any, mu: Any) -> Any:
    return -((value - mu) ** 2)


def _random(mu: Any, rng: Any = None, size: Any = None) -> Any:
    return rng.normal(mu, np.sqrt(0.5), size=size)


def custom() -> pm.Model:
    """A distribution of the user's, as a latent variable and as the likelihood."""
    with pm.Model() as model:
        mu = pm.CustomDist("mu", 0.0, logp=_logp, random=_random)
        pm.CustomDist("y", mu, logp=_logp, random=_random, observed=Y)
    return model


@wrap_py(itypes=[pt.dscalar], otypes=[pt.dscalar])
def _opaque(x: Any) -> Any:
    return np.asarray(np.sin(x) + x)


def opaque() -> pm.Model:
    """A function of the user's that has no gradient: PyMC assigns Slice beside NUTS."""
    with pm.Model() as model:
        x = pm.Normal("x")
        z = pm.Normal("z")
        pm.Normal("y", _opaque(x) + z, 1.0, observed=Y)
    return model


class Walk(BlockedStep):
    """A step method of the user's, with what it learns in attributes that no state names."""

    name = "walk"
    stats_dtypes_shapes: ClassVar[Any] = {"tune": (bool, []), "width": (np.float64, [])}

    def __init__(self, variables: Any, model: Any = None, rng: Any = None, **_: Any) -> None:
        model = pm.modelcontext(model)
        self.vars = list(variables)
        self._logp = model.compile_logp()
        self.rng = np.random.default_rng(rng)
        self.tune = True
        self.widths = [1.0]

    def set_rng(self, rng: Any) -> None:
        self.rng = rng

    def setup_chain(self, rng: Any, tune: int, draws: int) -> None:
        self.rng = rng

    def step(self, point: Any) -> Any:
        width = self.widths[-1]
        new = {k: v + width * self.rng.normal(size=np.shape(v)) for k, v in point.items()}
        taken = np.log(self.rng.uniform()) < self._logp(new) - self._logp(point)
        if self.tune:
            self.widths.append(width * (1.1 if taken else 0.9))
        return (new if taken else point), [{"tune": self.tune, "width": width}]


class Warier(pm.Metropolis):
    """A step method derived from PyMC's, with more than its state."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.visited: list[float] = []
        super().__init__(*args, **kwargs)

    def astep(self, q0: Any) -> Any:
        self.visited.append(float(np.sum(q0.data)))
        # what it saw changes what it does
        self.scaling = self.scaling * (1.0 + 0.01 * np.tanh(np.mean(self.visited)))
        return super().astep(q0)
