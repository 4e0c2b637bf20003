"""The models of eleven posteriordb entries in PyMC, each a function of its data.

They follow the Stan programs of posteriordb (Magnusson et al., 2024, arXiv:2407.04967), improper
flat priors included, so that a posterior can be held against the reference draws there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.scan.basic import scan

Data = Mapping[str, Any]


def autoregression(data: Data) -> pm.Model:
    """``arK``: an autoregression of order five, given its first five values."""
    y, order = np.asarray(data["y"]), data["K"]
    lagged = np.column_stack([y[order - lag : -lag] for lag in range(1, order + 1)])
    with pm.Model(name="arK", coords={"lag": np.arange(1, order + 1)}) as model:
        alpha = pm.Normal("alpha", 0.0, 10.0)
        beta = pm.Normal("beta", 0.0, 10.0, dims="lag")
        sigma = pm.HalfCauchy("sigma", 2.5)
        pm.Normal("y", alpha + lagged @ beta, sigma, observed=y[order:])
    return model


def log_earnings(data: Data) -> pm.Model:
    """``earnings-logearn_height``: logarithm of earnings by height."""
    with pm.Model(name="logearn_height") as model:
        intercept, slope = pm.Flat("intercept"), pm.Flat("slope")
        sigma = pm.HalfFlat("sigma")
        mu = intercept + slope * np.asarray(data["height"], dtype="float64")
        pm.Normal("log_earn", mu, sigma, observed=np.log(data["earn"]))
    return model


def eight_schools(data: Data) -> pm.Model:
    """``eight_schools_noncentered``: effects of coaching in eight schools, not centred."""
    with pm.Model(name="eight_schools", coords={"school": np.arange(data["J"])}) as model:
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfCauchy("tau", 5.0)
        offset = pm.Normal("theta_trans", dims="school")
        theta = pm.Deterministic("theta", mu + tau * offset, dims="school")
        pm.Normal("y", theta, data["sigma"], observed=data["y"], dims="school")
    return model


def garch(data: Data) -> pm.Model:
    """``garch11``: a series whose variance follows its last shock and its last variance."""
    y = np.asarray(data["y"])

    def next_variance(shock: Any, variance: Any, alpha0: Any, alpha1: Any, beta1: Any) -> Any:
        return alpha0 + alpha1 * shock**2 + beta1 * variance

    with pm.Model(name="garch11") as model:
        mu = pm.Flat("mu")
        alpha0 = pm.HalfFlat("alpha0")
        alpha1 = pm.Uniform("alpha1", 0.0, 1.0)
        beta1 = pm.Uniform("beta1", 0.0, 1.0 - alpha1)
        # Stan's prior is flat over the triangle, and the uniform above is flat over each row.
        pm.Potential("triangle", pt.log1p(-alpha1))
        first = pt.as_tensor_variable(np.float64(data["sigma1"] ** 2))
        later = scan(
            next_variance,
            sequences=[y[:-1] - mu],
            outputs_info=[first],
            non_sequences=[alpha0, alpha1, beta1],
            strict=True,
            return_updates=False,
        )
        variance = pt.concatenate([first[None], later])
        pm.Normal("y", mu, pt.sqrt(variance), observed=y)
    return model


def poisson_process(data: Data) -> pm.Model:
    """``gp_pois_regr``: counts under the exponential of a Gaussian process."""
    x, k = np.asarray(data["x"], dtype="float64"), np.asarray(data["k"])
    with pm.Model(name="gp_pois_regr") as model:
        rho = pm.Gamma("rho", 25.0, 4.0)
        alpha = pm.HalfNormal("alpha", 2.0)
        rotated = pm.Normal("f_tilde", shape=len(x))
        distance = (x[:, None] - x[None, :]) ** 2
        covariance = alpha**2 * pt.exp(-distance / (2.0 * rho**2)) + 1e-10 * np.eye(len(x))
        f = pm.Deterministic("f", pt.linalg.cholesky(covariance) @ rotated)
        pm.Poisson("k", pt.exp(f), observed=k)
    return model


def lotka_volterra(data: Data, steps_per_year: int = 10) -> pm.Model:
    """``hudson_lynx_hare``: predators and prey, by Runge-Kutta steps of fixed length."""
    step = 1.0 / steps_per_year
    years = data["N"]

    def growth(z: Any, alpha: Any, beta: Any, gamma: Any, delta: Any) -> Any:
        hare, lynx = z[0], z[1]
        return pt.stack([(alpha - beta * lynx) * hare, (delta * hare - gamma) * lynx])

    def advance(z: Any, *theta: Any) -> Any:
        k1 = growth(z, *theta)
        k2 = growth(z + 0.5 * step * k1, *theta)
        k3 = growth(z + 0.5 * step * k2, *theta)
        k4 = growth(z + step * k3, *theta)
        return z + step / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)

    coords = {"species": ["hare", "lynx"], "year": data["ts"]}
    with pm.Model(name="hudson_lynx_hare", coords=coords) as model:
        # Cycles of half the length fit badly but hold a chain fast. Chains start beyond them, and
        # stay there with `init="adapt_diag"`, which adds no jitter.
        theta = [
            pm.TruncatedNormal("alpha", 1.0, 0.5, lower=0.0, initval=0.5),
            pm.TruncatedNormal("beta", 0.05, 0.05, lower=0.0, initval=0.03),
            pm.TruncatedNormal("gamma", 1.0, 0.5, lower=0.0, initval=0.8),
            pm.TruncatedNormal("delta", 0.05, 0.05, lower=0.0, initval=0.03),
        ]
        sigma = pm.LogNormal("sigma", -1.0, 1.0, dims="species")
        start = pm.LogNormal("z_init", np.log(10.0), 1.0, dims="species", initval=[30.0, 4.0])
        path = scan(
            advance,
            outputs_info=[start],
            non_sequences=theta,
            n_steps=years * steps_per_year,
            strict=True,
            return_updates=False,
        )
        z = path[steps_per_year - 1 :: steps_per_year]
        pm.LogNormal("y_init", pt.log(start), sigma, observed=data["y_init"], dims="species")
        pm.LogNormal("y", pt.log(z), sigma, observed=data["y"], dims=("year", "species"))
    return model


def kid_scores(data: Data) -> pm.Model:
    """``kidiq-kidscore_momhsiq``: test scores of children by their mothers' schooling and IQ."""
    design = np.column_stack([np.ones(data["N"]), data["mom_hs"], data["mom_iq"]])
    with pm.Model(name="kidscore_momhsiq", coords={"term": ["one", "mom_hs", "mom_iq"]}) as model:
        beta = pm.Flat("beta", dims="term")
        sigma = pm.HalfCauchy("sigma", 2.5)
        pm.Normal("kid_score", design @ beta, sigma, observed=data["kid_score"])
    return model


def kilpisjarvi(data: Data) -> pm.Model:
    """``kilpisjarvi_mod``: summer temperatures by year."""
    with pm.Model(name="kilpisjarvi") as model:
        alpha = pm.Normal("alpha", data["pmualpha"], data["psalpha"])
        beta = pm.Normal("beta", data["pmubeta"], data["psbeta"])
        sigma = pm.HalfFlat("sigma")
        year = pm.Data("x", np.asarray(data["x"], dtype="float64"))
        pm.Normal("y", alpha + beta * year, sigma, observed=data["y"])
    return model


def gaussian_mixture(data: Data) -> pm.Model:
    """``low_dim_gauss_mix``: two normal components with ordered means."""
    with pm.Model(name="low_dim_gauss_mix") as model:
        mu = pm.Normal(
            "mu", 0.0, 2.0, shape=2, transform=pm.distributions.transforms.ordered,
            initval=np.array([-1.0, 1.0]),
        )  # fmt: skip
        sigma = pm.HalfNormal("sigma", 2.0, shape=2)
        theta = pm.Beta("theta", 5.0, 5.0)
        weights = pt.stack([theta, 1.0 - theta])
        pm.NormalMixture("y", w=weights, mu=mu, sigma=sigma, observed=data["y"])
    return model


def mesquite(data: Data) -> pm.Model:
    """``mesquite``: weight of leaves by measures of the bush."""
    terms = ["diam1", "diam2", "canopy_height", "total_height", "density", "group"]
    design = np.column_stack([np.ones(data["N"]), *(data[term] for term in terms)])
    with pm.Model(name="mesquite", coords={"term": ["one", *terms]}) as model:
        beta = pm.Flat("beta", dims="term")
        sigma = pm.HalfFlat("sigma")
        pm.Normal("weight", design @ beta, sigma, observed=data["weight"])
    return model


def party(data: Data) -> pm.Model:
    """``nes1972-nes``: party identification by ideology and background."""
    age = np.asarray(data["age_discrete"])
    columns = {
        "one": np.ones(data["N"]),
        "real_ideo": data["real_ideo"],
        "race_adj": data["race_adj"],
        "age30_44": age == 2,
        "age45_64": age == 3,
        "age65up": age == 4,
        "educ1": data["educ1"],
        "gender": data["gender"],
        "income": data["income"],
    }
    design = np.column_stack([np.asarray(column, dtype="float64") for column in columns.values()])
    with pm.Model(name="nes", coords={"term": list(columns)}) as model:
        beta = pm.Flat("beta", dims="term")
        sigma = pm.HalfFlat("sigma")
        pm.Normal("partyid7", design @ beta, sigma, observed=data["partyid7"])
    return model


MODELS: dict[str, Callable[[Data], pm.Model]] = {
    "arK": autoregression,
    "earnings": log_earnings,
    "eight_schools": eight_schools,
    "garch": garch,
    "gp_pois_regr": poisson_process,
    "hudson_lynx_hare": lotka_volterra,
    "kidiq": kid_scores,
    "kilpisjarvi_mod": kilpisjarvi,
    "low_dim_gauss_mix": gaussian_mixture,
    "mesquite": mesquite,
    "nes1972": party,
}
"""Models by the name of the file that holds their data."""
