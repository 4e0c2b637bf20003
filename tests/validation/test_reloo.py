"""Points that importance sampling cannot leave out are left out by a fit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pytest
from scipy import stats

import cloudposterior as cp
from cloudposterior.validation.elpd import IS_LEGACY
from cloudposterior.validation.reloo import _without

Y = np.array([0.1, -0.4, 0.3, 0.8, 2.5])

pytestmark = [
    # of the very points that are left out by fits here
    pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning"),
]


def mean(name: str = "") -> pm.Model:
    with pm.Model(name=name) as model:
        mu = pm.Normal("mu", 0.0, 10.0)
        pm.Normal("y", mu, 1.0, observed=Y)
    return model


def exact(left_out: int) -> float:
    """The log density of a point given the others."""
    others = np.delete(Y, left_out)
    variance = 1.0 / (1.0 / 100.0 + others.size)
    return float(stats.norm.logpdf(Y[left_out], variance * others.sum(), np.sqrt(1.0 + variance)))


def fitted(model: pm.Model, options: dict[str, Any]) -> tuple[Any, Any]:
    """A fit, and its leave-one-out."""
    idata = cp.sample(model, cache=False, **options)
    pm.compute_log_likelihood(idata, model=model, progressbar=False)
    return idata, az.loo(idata, pointwise=True)


def pointwise(elpd: Any) -> np.ndarray:
    return np.array(elpd["loo_i" if IS_LEGACY else "elpd_i"])


def total(elpd: Any) -> float:
    return float(elpd["elpd_loo" if IS_LEGACY else "elpd"])


def test_bad_point_is_exact_and_others_stay(options: dict[str, Any], runs: list[Any]) -> None:
    model, cache = mean("m"), cp.MemoryCache()
    idata, loo = fitted(model, options)
    before = copy.deepcopy(loo)
    loo.pareto_k[:] = [0.1, 0.2, 0.3, 0.65, 0.71]
    found = cp.reloo(idata, loo, model=model, cache=cache, **options)
    assert len(runs) == 2
    assert pointwise(found)[4] == pytest.approx(exact(4), abs=0.1)
    np.testing.assert_array_equal(pointwise(found)[:4], pointwise(before)[:4])
    assert np.asarray(found.pareto_k).tolist() == [0.1, 0.2, 0.3, 0.65, 0.0]
    assert total(found) == pytest.approx(pointwise(found).sum())
    # what was given stays as it was
    assert pointwise(loo)[4] == pointwise(before)[4]
    again = cp.reloo(idata, loo, model=model, cache=cache, **options)
    assert len(runs) == 2 and pointwise(again)[4] == pointwise(found)[4]
    assert set(az.compare({"one": found, "other": before}).index) == {"one", "other"}


def test_threshold_says_which_points(options: dict[str, Any], runs: list[Any]) -> None:
    model = mean()
    idata, loo = fitted(model, options)
    loo.pareto_k[:] = [0.1, 0.2, 0.3, 0.4, 0.5]
    untouched = cp.reloo(idata, loo, model=model, cache=False, **options)
    assert len(runs) == 1 and total(untouched) == total(loo)
    found = cp.reloo(idata, loo, model=model, k_threshold=0.35, cache=False, **options)
    assert len(runs) == 3
    assert pointwise(found)[3] == pytest.approx(exact(3), abs=0.1)
    assert pointwise(found)[4] == pytest.approx(exact(4), abs=0.1)


def test_points_of_two_dimensions(options: dict[str, Any]) -> None:
    with pm.Model(coords={"row": list("ab"), "side": list("xyz")}) as model:
        mu = pm.Normal("mu", 0.0, 10.0)
        pm.Normal("y", mu, 1.0, observed=np.append(Y, 0.2).reshape(2, 3), dims=("row", "side"))
    idata, loo = fitted(model, {**options, "draws": 50, "tune": 50})
    loo.pareto_k[:] = 0.1
    loo.pareto_k[1, 1] = 0.9
    if IS_LEGACY:
        with pytest.raises(ValueError, match="'y' has 2 dimensions"):
            cp.reloo(idata, loo, model=model, cache=False, **options)
        return
    found = cp.reloo(idata, loo, model=model, cache=False, **options)
    changed = np.argwhere(pointwise(found) != pointwise(loo))
    assert changed.tolist() == [[1, 1]]
    assert pointwise(found)[1, 1] < -2


def censored() -> None:
    pm.Censored("y", pm.Normal.dist(pm.Normal("mu"), 1.0), lower=None, upper=2.0, observed=Y)


def made_of_others() -> None:
    def dist(mu: Any, size: Any) -> Any:
        return pm.math.exp(pm.Normal.dist(mu, 1.0, size=size))

    pm.CustomDist("y", pm.Normal("mu"), dist=dist, observed=np.abs(Y))


def with_dependence() -> None:
    a = pm.Normal("a")
    mu = pm.Deterministic("more", a + 2 * pm.Normal("mu", a))
    pm.NormalMixture("y", [0.5, 0.5], pm.math.stack([mu, mu + 1]), 1.0, observed=Y)


def counts() -> None:
    x = pm.Data("x", np.arange(5.0))
    pm.Poisson("y", pm.math.exp(pm.Normal("b") * x), observed=np.arange(5))


@pytest.mark.parametrize("fill", [censored, made_of_others, with_dependence, counts])
def test_density_lacks_the_point_and_nothing_else(fill: Callable[[], None]) -> None:
    with pm.Model(name="m") as model:
        fill()
    point = model.initial_point()
    [by_point] = model.compile_logp(vars=[model["m::y"]], sum=False)(point)
    less = _without(model, "m::y", (3,))
    wanted = model.compile_logp()(point) - by_point[3]
    np.testing.assert_allclose(less.compile_logp()(point), wanted, rtol=1e-12)
    assert not model.potentials


def whole() -> pm.Model:
    with pm.Model() as model:
        pm.MvNormal("y", pm.Normal("mu") + np.zeros(5), np.eye(5), observed=Y)
    return model


def shorter() -> pm.Model:
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("mu"), observed=Y[:3])
    return model


@pytest.mark.parametrize(
    ("model", "given", "match"),
    [
        (whole, {}, "whole vectors"),
        (shorter, {}, r"points of shape \(5,\), and 'y' of the model \(3,\)"),
        (mean, {"var_name": "z"}, r"which are \['y'\], and var_name='z'"),
    ],
)
def test_what_cannot_be_left_out_is_said(
    model: Callable[[], pm.Model], given: dict[str, Any], match: str, options: dict[str, Any]
) -> None:
    idata, loo = fitted(mean(), {**options, "draws": 50, "tune": 50})
    with pytest.raises(ValueError, match=match):
        cp.reloo(idata, loo, model=model(), **given)


def test_leave_one_out_without_points_is_refused(options: dict[str, Any]) -> None:
    model = mean()
    idata, _ = fitted(model, {**options, "draws": 50, "tune": 50})
    with pytest.raises(ValueError, match="pointwise=True"):
        cp.reloo(idata, az.loo(idata, pointwise=False), model=model)
