"""Posteriors with other priors, beside each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytest

import cloudposterior as cp

Y = np.array([0.6, 1.4, 1.0])


def with_data(name: str = "") -> pm.Model:
    with pm.Model(name=name) as model:
        scale = pm.Data("scale", 7.0)
        mu = pm.Normal("mu", pm.Data("center", 0.0), scale)
        pm.Normal("y", mu, 1.0, observed=Y)
    return model


def made(scale: float, center: float = 0.0) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", center, scale)
        pm.Normal("y", mu, 1.0, observed=Y)
    return model


def exact(scale: float, center: float = 0.0) -> tuple[float, float]:
    """Mean and standard deviation of the posterior of `made`."""
    precision = 1.0 / scale**2 + Y.size
    return (center / scale**2 + Y.sum()) / precision, precision**-0.5


def test_summary_tells_how_far_posteriors_move(options: dict[str, Any]) -> None:
    model = with_data()
    found = cp.sensitivity(
        model, {"scale": [2.0, 0.2], "center": [0.0, 1.0]}, cache=False, **options
    )
    assert list(found.fits) == [(2.0, 0.0), (2.0, 1.0), (0.2, 0.0), (0.2, 1.0)]
    summary = found.summary()
    assert summary.index.names == ["parameter", "scale", "center"]
    base = exact(2.0)
    for (_, scale, center), row in summary.iterrows():
        mean, sd = exact(scale, center)
        # three standard errors of at least a hundred independent draws
        assert row["mean"] == pytest.approx(mean, abs=0.3 * sd)
        assert row["shift"] == pytest.approx((mean - base[0]) / base[1], abs=0.5)
        assert row["spread"] == pytest.approx(sd / base[1], rel=0.3)
    assert summary.loc[("mu", 2.0, 0.0), ["shift", "spread"]].tolist() == [0.0, 1.0]
    # what was given stays as it was
    assert float(model["scale"].get_value()) == 7.0


def test_factory_is_called_with_the_values(options: dict[str, Any], runs: list[Any]) -> None:
    options |= {"draws": 20, "tune": 20}
    cache = cp.MemoryCache()
    found = cp.sensitivity(made, {"scale": [1.0, 2.0]}, cache=cache, **options)
    more = cp.sensitivity(made, {"scale": [1.0, 2.0, 5.0]}, cache=cache, **options)
    assert len(runs) == 3
    assert list(found.fits) == [(1.0,), (2.0,)] and list(more.fits) == [(1.0,), (2.0,), (5.0,)]
    assert list(more.summary().loc["mu"].index) == [1.0, 2.0, 5.0]


def test_summary_takes_what_arviz_takes(options: dict[str, Any]) -> None:
    options |= {"draws": 20, "tune": 20}
    found = cp.sensitivity(with_data("m"), {"m::scale": [1, 2]}, cache=False, **options)
    summary = found.summary(var_names=["m::mu"], kind="diagnostics")
    assert "shift" not in summary and "r_hat" in summary
    assert list(summary.index) == [("m::mu", 1), ("m::mu", 2)]


@pytest.mark.parametrize(
    ("model", "values", "error", "match"),
    [
        (with_data(), {"mu": [1]}, ValueError, r"no pm.Data mu: it has \['scale', 'center'\]"),
        (with_data(), {}, ValueError, "got none"),
        (with_data(), {"scale": []}, ValueError, "got none"),
        (5, {"scale": [1]}, TypeError, "got a int"),
        (made, {"scales": [1]}, TypeError, "scales"),
    ],
)
def test_what_cannot_be_varied_is_said(model: Any, values: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        cp.sensitivity(model, values, progress=False)
