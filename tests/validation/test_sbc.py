"""Calibration by simulation tells a right model from a wrong one."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import pymc as pm
import pytest
import simuk
import xarray as xr

import cloudposterior as cp
from cloudposterior.validation.sbc import SBC


def mean(*, prior: float = 1.0) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", prior, 1.0)
        pm.Normal("y", mu, 1.0, observed=np.zeros(2))
    return model


SHORT = {"draws": 60, "tune": 60, "chains": 1}


@pytest.fixture
def short(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, **SHORT}


@pytest.mark.slow
def test_right_model_is_inside_and_wrong_prior_outside(short: dict[str, Any]) -> None:
    right = cp.sbc(mean(), n=40, cache=False, **short)
    wrong = cp.sbc(mean(), n=15, simulate_from=mean(prior=4.0), cache=False, **short)
    assert bool(right.inside()["mu"])
    assert not bool(wrong.inside()["mu"])
    # what was simulated is larger than the prior has it
    assert float(wrong.pit["mu"].mean()) > 0.8


@pytest.mark.slow
def test_ranks_are_those_of_simuk(options: dict[str, Any]) -> None:
    # simuk 0.3 mixes the simulations, but not those of this seed
    options |= {"draws": 20, "tune": 20}
    ours = cp.sbc(mean(), n=3, thin=1, cache=False, **options)
    seed = options.pop("random_seed")
    del options["progress"]
    theirs = simuk.SBC(mean(), num_simulations=3, seed=seed, sample_kwargs=options)
    theirs.run_simulations()
    expected = theirs.simulations["prior_sbc"]["mu"].values[0]
    np.testing.assert_array_equal(ours.ranks["mu"].values, expected)
    assert ours.draws == 40


def test_block_around_it_says_nothing_of_its_own_calls(short: dict[str, Any]) -> None:
    model, other = mean(), mean(prior=4.0)
    with warnings.catch_warnings(record=True) as said, cp.cloud(other):
        cp.sbc(model, n=2, thin=1, cache=False, **short)
    assert not [each for each in said if each.category is cp.BlockWarning]


def test_larger_number_goes_on_from_a_smaller_one(short: dict[str, Any], runs: list[Any]) -> None:
    cache = cp.MemoryCache()
    few = cp.sbc(mean(), n=3, thin=1, cache=cache, **short)
    more = cp.sbc(mean(), n=5, thin=1, cache=cache, **short)
    assert len(runs) == 5
    xr.testing.assert_identical(more.ranks.isel(simulation=slice(3)), few.ranks)


def test_parameters_may_have_dimensions_and_be_deterministics(short: dict[str, Any]) -> None:
    with pm.Model(coords={"place": ["a", "b", "c"]}, name="m") as model:
        mu = pm.Normal("mu", dims="place")
        pm.Deterministic("twice", 2 * mu, dims="place")
        pm.Poisson("n", pm.math.exp(mu), observed=np.zeros(3, dtype=int), dims="place")
    short |= {"draws": 10, "tune": 10}
    found = cp.sbc(model, n=3, var_names=["m::mu", "m::twice"], cache=False, **short)
    assert found.ranks["m::mu"].dims == ("simulation", "place")
    np.testing.assert_array_equal(found.ranks["m::mu"], found.ranks["m::twice"])
    assert list(found.inside()["m::mu"]["place"].values) == ["a", "b", "c"]
    assert found.inside()["m::twice"].dtype == bool


def made_up(power: float = 1.0, n: int = 200) -> SBC:
    """Ranks of two parameters, of which the second is as far from uniform as `power` from 1."""
    uniform = np.random.default_rng(2).uniform(size=(n, 2))
    values = np.column_stack([uniform[:, 0], uniform[:, 1] ** power])
    ranks = xr.Dataset({"b": (("simulation", "side"), np.floor(values * 100).astype(int))})
    return SBC(ranks, draws=99, thin=1, random_seed=0)


def test_band_is_decided_for_each_element() -> None:
    assert made_up().inside()["b"].values.tolist() == [True, True]
    assert made_up(power=1.5).inside()["b"].values.tolist() == [True, False]


def test_right_ranks_leave_the_band_as_rarely_as_is_said() -> None:
    ranks = np.random.default_rng(6).integers(100, size=(100, 400))
    found = SBC(xr.Dataset({"a": (("simulation", "again"), ranks)}), 99, 1, 0)
    # three standard errors of 400 trials; arviz-stats' band is a little narrow
    assert float(found.inside(0.95)["a"].mean()) == pytest.approx(0.95, abs=0.033)


def test_plot_has_a_panel_for_each_element() -> None:
    figure = made_up(power=1.5).plot(columns=3)
    assert [axis.get_title() for axis in figure.axes] == ["b[0]", "b[1]"]
    band, line = figure.axes[1].collections[0], figure.axes[1].lines[0]
    assert line.get_ydata().max() > band.get_paths()[0].vertices[:, 1].max()


def test_draws_are_thinned_to_the_independent_ones() -> None:
    from cloudposterior.validation.sbc import _thinning

    rng = np.random.default_rng(0)
    steps = rng.normal(size=(2, 2000))
    slow = np.empty_like(steps)
    for i in range(2000):
        slow[:, i] = steps[:, i] if i == 0 else 0.9 * slow[:, i - 1] + steps[:, i]
    fits = [
        xr.Dataset({"a": (("chain", "draw"), steps)}),
        xr.Dataset({"a": (("chain", "draw"), steps), "b": (("chain", "draw"), slow)}),
    ]
    assert _thinning(fits[:1]) in (1, 2)
    # (1 + 0.9) / (1 - 0.9), of a process of this kind
    assert 12 < _thinning(fits[1:]) < 30


def with_potential() -> pm.Model:
    with mean() as model:
        pm.Potential("more", -model["mu"])
    return model


def of_nothing() -> pm.Model:
    with pm.Model() as model:
        pm.Normal("mu")
    return model


@pytest.mark.parametrize(
    ("model", "given", "match"),
    [
        (with_potential, {}, "potentials .*: more"),
        (mean, {"simulate_from": with_potential()}, "potentials .*: more"),
        (of_nothing, {}, "observed variables"),
        (mean, {"simulate_from": of_nothing()}, "simulate_from= has no variable .*: y"),
        (mean, {"var_names": ["nu"]}, "the model has no variable of these names: nu"),
        (mean, {"var_names": []}, "no parameter"),
        (mean, {"random_seed": None}, "is a number"),
    ],
)
def test_what_cannot_be_simulated_is_said(model: Any, given: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        cp.sbc(model(), n=2, **given)


def test_lack_of_arviz_stats_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz_stats.ecdf_utils", None)
    with pytest.raises(ImportError, match="pip install 'arviz-stats"):
        made_up().plot()
