"""Gaussian processes: their kind, kernels, means, inputs and noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm

from tests.battery.pairs import Pair, changed, vary

X = np.linspace(0.0, 1.0, 40)[:, None]
Y = np.sin(6.0 * X[:, 0])


def kernel(name: str, lengthscale: float, dims: int = 1) -> pm.gp.cov.Covariance:
    """A stationary kernel by its name."""
    return getattr(pm.gp.cov, name)(dims, ls=lengthscale)


def marginal(
    x: Any = X,
    y: Any = Y,
    cov: str = "ExpQuad",
    lengthscale: float = 0.3,
    mean: Any = None,
    noise: float = 0.1,
    added: float | None = None,
) -> pm.Model:
    """A process observed with noise, integrated out."""
    with pm.Model() as model:
        scale = pm.HalfNormal("scale")
        cov_func = scale**2 * kernel(cov, lengthscale)
        if added is not None:
            cov_func = cov_func + pm.gp.cov.WhiteNoise(added)
        gp = pm.gp.Marginal(mean_func=mean or pm.gp.mean.Zero(), cov_func=cov_func)
        gp.marginal_likelihood("y", X=x, y=y, sigma=noise)
    return model


def latent(
    x: Any = X, cov: str = "Matern32", lengthscale: float = 0.3, reparameterize: bool = True
) -> pm.Model:
    """A latent process under a Poisson likelihood."""
    with pm.Model() as model:
        gp = pm.gp.Latent(cov_func=kernel(cov, lengthscale))
        f = gp.prior("f", X=x, reparameterize=reparameterize)
        pm.Poisson("y", pm.math.exp(f), observed=np.arange(40) % 3)
    return model


def hilbert(
    x: Any = X,
    m: int = 8,
    c: float = 1.5,
    lengthscale: float = 0.3,
    parametrization: str = "noncentered",
) -> pm.Model:
    """The Hilbert-space approximation."""
    with pm.Model() as model:
        cov_func = kernel("Matern52", lengthscale)
        gp = pm.gp.HSGP(m=[m], c=c, parametrization=parametrization, cov_func=cov_func)
        f = gp.prior("f", X=x)
        pm.Normal("y", f, 1.0, observed=Y)
    return model


def predicting(at: Any = X[:5] + 1.0, name: str = "f_new") -> pm.Model:
    """A latent process with its conditional at new points."""
    with pm.Model() as model:
        gp = pm.gp.Latent(cov_func=kernel("ExpQuad", 0.3))
        gp.prior("f", X=X)
        gp.conditional(name, at)
    return model


def periodic(period: float = 0.5, active: int = 0) -> pm.Model:
    """A kernel over one of two input columns."""
    with pm.Model() as model:
        cov_func = pm.gp.cov.Periodic(2, period=period, ls=0.3, active_dims=[active])
        pm.gp.Latent(cov_func=cov_func).prior("f", X=np.hstack([X, X[::-1]]))
    return model


def inducing(points: Any = X[::8], approximation: str = "VFE") -> pm.Model:
    """A sparse approximation at inducing points."""
    with pm.Model() as model:
        gp = pm.gp.MarginalApprox(cov_func=kernel("ExpQuad", 0.3), approx=approximation)
        gp.marginal_likelihood("y", X=X, Xu=points, y=Y, sigma=0.1)
    return model


PAIRS: tuple[Pair, ...] = (
    *vary(
        "marginal process",
        marginal,
        {
            "input in the middle": dict(x=changed(X, (20, 0), X[20, 0] + 1e-9)),
            "observation in the middle": dict(y=changed(Y, 20, Y[20] + 1e-9)),
            "kernel": dict(cov="Matern52"),
            "length scale": dict(lengthscale=0.31),
            "constant mean": dict(mean=pm.gp.mean.Constant(1.0)),
            "noise": dict(noise=0.2),
            "another kernel added": dict(added=0.01),
        },
    ),
    Pair(
        "marginal process: constant of the mean",
        lambda: marginal(mean=pm.gp.mean.Constant(1.0)),
        lambda: marginal(mean=pm.gp.mean.Constant(1.5)),
        "different",
    ),
    *vary("marginal process", marginal, {"built again": {}}, "same"),
    *vary(
        "latent process",
        latent,
        {
            "input in the middle": dict(x=changed(X, (20, 0), 0.5)),
            "kernel": dict(cov="Exponential"),
            "length scale": dict(lengthscale=0.4),
            "parameterisation": dict(reparameterize=False),
        },
    ),
    *vary("latent process", latent, {"built again": {}}, "same"),
    *vary(
        "hilbert process",
        hilbert,
        {
            "input in the middle": dict(x=changed(X, (20, 0), 0.5)),
            "basis size": dict(m=9),
            "boundary": dict(c=1.6),
            "length scale": dict(lengthscale=0.4),
            "parameterisation": dict(parametrization="centered"),
        },
    ),
    *vary("hilbert process", hilbert, {"built again": {}}, "same"),
    *vary(
        "conditional process",
        predicting,
        {
            "new point": dict(at=changed(X[:5] + 1.0, (2, 0), 3.0)),
            "name": dict(name="f_later"),
        },
    ),
    *vary("periodic process", periodic, {"period": dict(period=0.6), "column": dict(active=1)}),
    *vary(
        "sparse process",
        inducing,
        {"inducing points": dict(points=X[1::8]), "approximation": dict(approximation="FITC")},
    ),
)
