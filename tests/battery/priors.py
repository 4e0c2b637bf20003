"""Priors: distributions, their constants, shapes, transforms and initial values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions import transforms

from tests.battery.pairs import Pair, contrast, vary

# One parameter of each distribution is changed from the first to the second value.
PARAMETERS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "Normal": (dict(mu=0.0, sigma=1.0), "sigma", 2.0),
    "HalfNormal": (dict(sigma=1.0), "sigma", 1.5),
    "StudentT": (dict(nu=4.0, mu=0.0, sigma=1.0), "nu", 5.0),
    "HalfStudentT": (dict(nu=4.0, sigma=1.0), "nu", 3.0),
    "Cauchy": (dict(alpha=0.0, beta=1.0), "alpha", 1e-9),
    "HalfCauchy": (dict(beta=1.0), "beta", 2.5),
    "Laplace": (dict(mu=0.0, b=1.0), "b", 2.0),
    "AsymmetricLaplace": (dict(kappa=2.0, mu=0.0, b=1.0), "kappa", 3.0),
    "SkewNormal": (dict(mu=0.0, sigma=1.0, alpha=2.0), "alpha", -2.0),
    "Gamma": (dict(alpha=2.0, beta=1.0), "beta", 3.0),
    "InverseGamma": (dict(alpha=2.0, beta=1.0), "alpha", 3.0),
    "Beta": (dict(alpha=2.0, beta=3.0), "beta", 4.0),
    "Exponential": (dict(lam=1.0), "lam", 2.0),
    "LogNormal": (dict(mu=0.0, sigma=1.0), "mu", 0.25),
    "Weibull": (dict(alpha=2.0, beta=1.0), "alpha", 2.5),
    "Uniform": (dict(lower=0.0, upper=1.0), "upper", 2.0),
    "TruncatedNormal": (dict(mu=0.0, sigma=1.0, lower=-1.0, upper=1.0), "lower", -2.0),
    "VonMises": (dict(mu=0.0, kappa=1.0), "kappa", 2.0),
    "Triangular": (dict(lower=0.0, c=0.5, upper=1.0), "c", 0.75),
    "Kumaraswamy": (dict(a=2.0, b=3.0), "a", 2.5),
    "Wald": (dict(mu=1.0, lam=1.0), "lam", 2.0),
    "Gumbel": (dict(mu=0.0, beta=1.0), "beta", 2.0),
    "Logistic": (dict(mu=0.0, s=1.0), "s", 2.0),
    "LogitNormal": (dict(mu=0.0, sigma=1.0), "sigma", 2.0),
    "ExGaussian": (dict(mu=0.0, sigma=1.0, nu=1.0), "nu", 2.0),
    "Pareto": (dict(alpha=2.0, m=1.0), "m", 2.0),
    "Bernoulli": (dict(p=0.5), "p", 0.25),
    "Binomial": (dict(n=5, p=0.5), "n", 6),
    "BetaBinomial": (dict(n=5, alpha=1.0, beta=2.0), "alpha", 2.0),
    "Poisson": (dict(mu=2.0), "mu", 3.0),
    "NegativeBinomial": (dict(mu=2.0, alpha=1.0), "alpha", 2.0),
    "Geometric": (dict(p=0.5), "p", 0.25),
    "DiscreteUniform": (dict(lower=0, upper=5), "upper", 6),
    "Categorical": (dict(p=np.array([0.2, 0.3, 0.5])), "p", np.array([0.3, 0.2, 0.5])),
    "OrderedLogistic": (
        dict(eta=0.0, cutpoints=np.array([-1.0, 1.0]), compute_p=False),
        "cutpoints",
        np.array([-1.0, 1.5]),
    ),
    "ZeroInflatedPoisson": (dict(psi=0.5, mu=2.0), "psi", 0.75),
    "ZeroInflatedBinomial": (dict(psi=0.5, n=5, p=0.5), "psi", 0.75),
    "HurdleGamma": (dict(psi=0.5, alpha=2.0, beta=1.0, default_transform=None), "psi", 0.75),
    "Dirichlet": (dict(a=np.ones(3)), "a", np.array([1.0, 2.0, 1.0])),
    "MvNormal": (
        dict(mu=np.zeros(2), cov=np.array([[1.0, 0.2], [0.2, 2.0]])),
        "cov",
        np.array([[2.0, 0.2], [0.2, 1.0]]),
    ),
    "Multinomial": (dict(n=5, p=np.array([0.5, 0.25, 0.25])), "n", 6),
    "ZeroSumNormal": (dict(sigma=1.0, shape=4), "sigma", 2.0),
    "LKJCorr": (dict(n=3, eta=1.0), "eta", 2.0),
}


def prior(distribution: str = "Normal", **parameters: Any) -> pm.Model:
    """One variable with the given distribution, parameters and options."""
    with pm.Model() as model:
        getattr(pm, distribution)("x", **parameters)
    return model


def keyworded(arguments: dict[str, Any]) -> pm.Model:
    """Take the arguments of ``prior`` as one mapping, so that both sides can be given."""
    return prior(**arguments)


def parameter_pairs() -> tuple[Pair, ...]:
    """One pair for each distribution, in which one parameter differs."""
    cases = {
        f"{name} of {distribution}": (
            dict(distribution=distribution, **parameters),
            dict(distribution=distribution, **{**parameters, name: other}),
        )
        for distribution, (parameters, name, other) in PARAMETERS.items()
    }
    return contrast("prior", keyworded, cases)


def lkj(eta: float = 2.0, scale: float = 1.0, n: int = 3) -> pm.Model:
    """A Cholesky factor of a covariance matrix."""
    with pm.Model() as model:
        pm.LKJCholeskyCov(
            "chol", n=n, eta=eta, sd_dist=pm.Exponential.dist(scale), compute_corr=True
        )
    return model


def mixture(weight: float = 0.4, second: float = 2.0, order: int = 1) -> pm.Model:
    """A mixture of two components, in either order."""
    components = [pm.Normal.dist(-1.0, 1.0), pm.Normal.dist(second, 1.0)][::order]
    with pm.Model() as model:
        pm.Mixture("x", w=np.array([weight, 1.0 - weight]), comp_dists=components)
    return model


def cut(
    kind: str = "Truncated", lower: float | None = -1.0, upper: float = 1.0, mu: float = 0.0
) -> pm.Model:
    """A normal variable with its tails cut or piled up."""
    with pm.Model() as model:
        getattr(pm, kind)("x", pm.Normal.dist(mu, 1.0), lower=lower, upper=upper)
    return model


def random_walk(scale: float = 0.1, start: float = 10.0, steps: int = 5) -> pm.Model:
    """A Gaussian random walk from a normal start."""
    with pm.Model() as model:
        initial = pm.Normal.dist(0.0, start)
        pm.GaussianRandomWalk("x", sigma=scale, init_dist=initial, steps=steps)
    return model


def autoregression(
    rho: tuple[float, ...] = (0.5, 0.2), constant: bool = False, steps: int = 6, start: float = 1.0
) -> pm.Model:
    """An autoregressive process, whose inner graph is a scan."""
    with pm.Model() as model:
        initial = pm.Normal.dist(0.0, start, shape=len(rho) - constant)
        pm.AR("x", rho=rho, sigma=1.0, constant=constant, steps=steps, init_dist=initial)
    return model


def garch(omega: float = 0.5, initial: float = 1.0) -> pm.Model:
    """A GARCH(1, 1) process."""
    with pm.Model() as model:
        pm.GARCH11("x", omega=omega, alpha_1=0.2, beta_1=0.3, initial_vol=initial, steps=4)
    return model


def euler_maruyama(step: float = 0.1, pull: float = 0.5) -> pm.Model:
    """A stochastic differential equation, whose drift is a user's function."""

    def drift_and_noise(x: pt.TensorVariable, rate: float) -> tuple[Any, Any]:
        return -rate * x, 1.0

    with pm.Model() as model:
        pm.EulerMaruyama(
            "x", dt=step, sde_fn=drift_and_noise, sde_pars=[pull], steps=3,
            init_dist=pm.Normal.dist(0.0, 1.0),
        )  # fmt: skip
    return model


def likelihood(total_size: Any = None, observed: float = 1.0) -> pm.Model:
    """An observed variable whose log-likelihood may be scaled."""
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=np.full(4, observed), total_size=total_size)
    return model


UNIT = transforms.Interval(0.0, 1.0)
HALF = transforms.Interval(None, 1.0)

PAIRS: tuple[Pair, ...] = (
    *parameter_pairs(),
    *contrast(
        "prior",
        keyworded,
        {
            "distribution": (dict(distribution="Normal"), dict(distribution="Laplace", mu=0, b=1)),
            "half distribution": (
                dict(distribution="HalfNormal", sigma=1.0),
                dict(distribution="HalfCauchy", beta=1.0),
            ),
            "shape": (dict(shape=3), dict(shape=4)),
            "shape of one": (dict(), dict(shape=1)),
            "axes": (dict(shape=(2, 3)), dict(shape=(3, 2))),
            "default transform and none": (
                dict(distribution="HalfNormal"),
                dict(distribution="HalfNormal", default_transform=None),
            ),
            "another transform": (
                dict(distribution="HalfNormal"),
                dict(distribution="HalfNormal", default_transform=transforms.Interval(0.0, None)),
            ),
            "ordered": (
                dict(shape=3, initval=np.arange(3.0)),
                dict(shape=3, initval=np.arange(3.0), transform=transforms.ordered),
            ),
            "interval bounds": (
                dict(transform=UNIT, initval=0.5),
                dict(transform=transforms.Interval(0.0, 2.0), initval=0.5),
            ),
            "interval open below": (
                dict(transform=UNIT, initval=0.5),
                dict(transform=HALF, initval=0.5),
            ),
            "order in a chain of transforms": (
                dict(transform=transforms.Chain([transforms.log, UNIT]), initval=1.5),
                dict(transform=transforms.Chain([UNIT, transforms.log]), initval=1.5),
            ),
            "initial value": (dict(initval=0.5), dict(initval=0.75)),
            "initial value given and not": (dict(), dict(initval=0.5)),
            "initial array": (
                dict(shape=3, initval=np.array([0.0, 1.0, 2.0])),
                dict(shape=3, initval=np.array([0.0, 1.5, 2.0])),
            ),
            "initial array reversed": (
                dict(shape=3, initval=np.array([0.0, 1.0, 2.0])),
                dict(shape=3, initval=np.array([2.0, 1.0, 0.0])),
            ),
            "initial strategy": (dict(initval="support_point"), dict(initval="prior")),
            "initial strategy and number": (dict(initval="prior"), dict(initval=0.0)),
            "rate and scale": (
                dict(distribution="Exponential", lam=2.0),
                dict(distribution="Exponential", scale=2.0),
            ),
            "zero-sum axes": (
                dict(distribution="ZeroSumNormal", shape=(3, 3)),
                dict(distribution="ZeroSumNormal", shape=(3, 3), n_zerosum_axes=2),
            ),
            "parameter in the middle of an array": (
                dict(mu=np.arange(3000.0), shape=3000),
                dict(mu=np.where(np.arange(3000) == 1500, 0.0, np.arange(3000.0)), shape=3000),
            ),
        },
    ),
    *contrast(
        "prior",
        keyworded,
        {
            "initial strategy alike": (dict(initval="prior"), dict(initval="prior")),
            "initial array alike": (
                dict(shape=2, initval=np.array([0.0, 1.0])),
                dict(shape=2, initval=np.array([0.0, 1.0])),
            ),
            "interval built again": (
                dict(transform=transforms.Interval(0.0, 1.0), initval=0.5),
                dict(transform=UNIT, initval=0.5),
            ),
        },
        "same",
    ),
    *vary("lkj", lkj, {"eta": dict(eta=3.0), "scales": dict(scale=2.0), "size": dict(n=4)}),
    *vary("lkj", lkj, {"built again": {}}, "same"),
    *vary(
        "mixture",
        mixture,
        {
            "weight": dict(weight=0.5),
            "component": dict(second=2.5),
            "order of components": dict(order=-1),
        },
    ),
    *vary("mixture", mixture, {"built again": {}}, "same"),
    *vary(
        "cut",
        cut,
        {
            "censored": dict(kind="Censored"),
            "upper bound": dict(upper=2.0),
            "no lower bound": dict(lower=None),
            "centre": dict(mu=0.5),
        },
    ),
    *vary(
        "random walk",
        random_walk,
        {"scale": dict(scale=0.2), "start": dict(start=5.0), "steps": dict(steps=6)},
    ),
    *vary(
        "autoregression",
        autoregression,
        {
            "coefficient": dict(rho=(0.5, 0.3)),
            "coefficients swapped": dict(rho=(0.2, 0.5)),
            "constant term": dict(constant=True),
            "steps": dict(steps=7),
            "start": dict(start=2.0),
        },
    ),
    *vary("autoregression", autoregression, {"built again": {}}, "same"),
    *vary("garch", garch, {"omega": dict(omega=0.6), "initial": dict(initial=2.0)}),
    *vary("euler-maruyama", euler_maruyama, {"step": dict(step=0.2), "pull": dict(pull=0.6)}),
    *vary("euler-maruyama", euler_maruyama, {"built again": {}}, "same"),
    *vary(
        "likelihood",
        likelihood,
        {"total size": dict(total_size=100), "observed": dict(observed=1.0 + 1e-9)},
    ),
    Pair(
        "likelihood: another total size",
        lambda: likelihood(total_size=100),
        lambda: likelihood(total_size=101),
        "different",
    ),
)
