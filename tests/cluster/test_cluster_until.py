"""`until=`: a run ends once every element of every free variable has reached its target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import arviz as az
import dask.config
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from distributed import Client

import cloudposterior as cp
from cloudposterior.cluster.drive import Drive
from cloudposterior.operations.until import Aim, Target
from cloudposterior.posterior import to_tree
from cloudposterior.samplers.peeking import Window
from tests.cluster import models
from tests.cluster.sameness import SHORT, Options, plain

pytestmark = pytest.mark.usefixtures("quick_compiling")

RUN: Options = {**SHORT, "tune": 200, "draws": 5000, "chains": 3, "discard_tuned_samples": True}
FREE = ["small::mu", "small::spread"]


def sample(client: Any, model: pm.Model | None = None, **options: Any) -> Any:
    return cp.sample(
        models.normal() if model is None else model,
        cluster=client,
        **{"cache": False, **RUN, **options},
    )


def posterior(result: Any) -> xr.Dataset:
    return to_tree(result)["posterior"].to_dataset()


def limits(draws: xr.Dataset) -> tuple[float, float]:
    """The worst R-hat, and the least of bulk and tail ESS, by ArviZ's own functions."""
    r_hat = az.rhat(draws)
    sizes = [az.ess(draws, method=method) for method in ("bulk", "tail")]
    return (
        max(float(values.max()) for values in r_hat.data_vars.values()),
        min(float(values.min()) for of in sizes for values in of.data_vars.values()),
    )


@pytest.fixture(scope="module")
def drawn_plainly() -> dict[str, Any]:
    return {}


@pytest.fixture
def cut(request: pytest.FixtureRequest) -> Iterator[None]:
    with dask.config.set({"cloudposterior.cluster.segment": request.param}):
        yield


@pytest.mark.parametrize("cut", ["30ms", "5s"], indirect=True)
def test_run_ends_when_the_target_is_reached_and_is_the_first_part_of_the_long_one(
    two_workers: Client,
    cut: None,
    drawn_plainly: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", logger="pymc"):
        result = sample(two_workers, until=True)
    draws = posterior(result)
    assert draws.sizes["chain"] == 3
    assert draws.sizes["draw"] < RUN["draws"]
    r_hat, ess = limits(draws[FREE])
    assert r_hat <= 1.01
    assert ess >= 400
    # however the segments fall, it ends after the same draws
    length = drawn_plainly.setdefault("length", draws.sizes["draw"])
    assert draws.sizes["draw"] == length
    whole = drawn_plainly.setdefault("whole", plain(models.normal(), **{**RUN, "draws": length}))
    for name, values in draws.data_vars.items():
        assert np.array_equal(values, posterior(whole)[name]), name
    told = result.attrs["cloudposterior_until"]
    assert f"reached after {length} draws" in told
    assert f"until={told}" in caplog.text
    stats = to_tree(result)["sample_stats"]
    assert stats.sizes["draw"] == length


def test_target_is_not_reached_by_fewer_draws(two_workers: Client) -> None:
    """One step before, the target was missed: nothing is drawn in vain."""
    result = sample(two_workers, until={"ess": 300})
    draws = posterior(result)[FREE]
    aim = Aim(Target(None, 300.0), RUN["draws"])
    before = 0
    while aim.draws < draws.sizes["draw"]:
        before = aim.draws
        values = {str(name): v.to_numpy()[:, :before] for name, v in draws.data_vars.items()}
        assert not aim.look(before, lambda _, values=values: values)
    assert before
    assert limits(draws.isel(draw=slice(before)))[1] < 300 <= limits(draws)[1]


def test_vectors_count_element_by_element(two_workers: Client) -> None:
    with pm.Model(name="vector") as model:
        # one element mixes badly: it is the sum of two that are hardly told apart
        x = pm.Normal("x", 0.0, np.array([1.0, 1.0, 30.0]), shape=3)
        pm.Normal("y", x[1] + x[2], 0.5, observed=1.0)
    result = sample(two_workers, model, until={"r_hat": 1.02, "ess": 200})
    r_hat, ess = limits(posterior(result)[["vector::x"]])
    assert r_hat <= 1.02
    assert ess >= 200


def test_target_that_is_out_of_reach_draws_all_and_says_so(
    two_workers: Client, caplog: pytest.LogCaptureFixture
) -> None:
    result = sample(two_workers, draws=150, until={"ess": 1e6})
    assert posterior(result).sizes["draw"] == 150
    assert "cloudposterior_until" not in result.attrs
    assert "until=ESS 1e+06 was not reached within draws=150" in caplog.text


def test_target_has_a_key_of_its_own(two_workers: Client) -> None:
    cache = cp.MemoryCache()
    short = sample(two_workers, cache=cache, until={"ess": 100})
    whole = sample(two_workers, cache=cache, draws=150)
    assert posterior(whole).sizes["draw"] == 150
    again = sample(two_workers, cache=cache, until={"ess": 100})
    assert len(cache.entries()) == 2
    assert posterior(again).identical(posterior(short))
    told = cp.explain(models.normal(), cluster=two_workers, cache=cache, until={"ess": 100}, **RUN)
    assert told.hit
    assert not cp.explain(models.normal(), cluster=two_workers, cache=cache, **RUN).hit


@pytest.mark.slow
def test_nutpie_is_looked_at_while_it_draws(two_workers: Client) -> None:
    options = {"nuts_sampler": "nutpie", "draws": 400_000, "tune": 300}
    # none is left out, however little time draws have to come in when a run is stopped
    with dask.config.set({"cloudposterior.cluster.stop-timeout": "1ms"}):
        result = sample(two_workers, until=True, **options)
    draws = posterior(result)
    assert draws.sizes["chain"] == 3
    assert draws.sizes["draw"] < 100_000
    r_hat, ess = limits(draws[FREE])
    assert r_hat <= 1.01
    assert ess >= 400
    # the first draws of the run without a target
    whole = posterior(sample(two_workers, **{**options, "draws": draws.sizes["draw"]}))
    for name, values in draws.data_vars.items():
        assert np.array_equal(values, whole[name]), name


def test_target_is_nothing_without_a_chain(
    two_workers: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is returned was not looked at alone."""
    failed = {(1,): cp.ChainError((1,), "here", "scripted")}
    monkeypatch.setattr(Drive, "failed", property(lambda self: failed))
    with pytest.warns() as told:
        result = sample(two_workers, until={"r_hat": 50.0}, keep_chains=True, draws=300)
    assert any("scripted" in str(one.message) for one in told)
    assert dict(posterior(result).sizes)["chain"] == 2
    assert posterior(result).sizes["draw"] == 300
    assert "cloudposterior_until" not in result.attrs


def test_nutpie_has_no_part_in_a_chain_that_nobody_draws() -> None:
    window = Window()
    shown: list[int] = []
    window.show(lambda: shown.append(1))
    assert shown == []


def test_samplers_that_show_no_draws_are_refused(two_workers: Client) -> None:
    with pytest.raises(ValueError, match="until= looks at all free variables.*var_names="):
        sample(two_workers, until=True, var_names=["small::mu"])
    with pytest.raises(ValueError, match='needs a cluster.*cluster="local"'):
        cp.sample(models.normal(), until=True)
    with pytest.raises(ValueError, match='needs a cluster.*cluster="local"'):
        cp.cloud(models.normal(), until=True)


@pytest.mark.parametrize(
    ("until", "kind", "message"),
    [
        ("yes", TypeError, "until='yes' is no target: pass True, or a dict"),
        ({}, TypeError, "is no target"),
        ({"rhat": 1.01}, ValueError, "names 'rhat'"),
        ({"r_hat": 0.9}, ValueError, "r_hat has to be a number above 1"),
        ({"ess": -1}, ValueError, "ess has to be a number above 0"),
        ({"ess": "many"}, ValueError, "ess has to be a number"),
        ({"ess": float("nan")}, ValueError, "ess has to be a number"),
    ],
)
def test_what_is_no_target_is_refused(until: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Target.of(until)


def test_no_target_is_none() -> None:
    assert Target.of(None) is None
    assert Target.of(False) is None
    assert Target.of(True) == Target(1.01, 400.0)
    assert Target.of({"ess": 100}) == Target(None, 100.0)


def test_element_that_does_not_move_reaches_nothing() -> None:
    values = np.random.default_rng(1).normal(size=(4, 500, 2))
    assert Target(1.05, 100.0).is_met(values)
    values[:, :, 1] = 3.0
    assert not Target(1.05, 100.0).is_met(values)
    assert not Target(1.05, None).is_met(values)


def test_aim_looks_at_fixed_numbers_of_draws_only() -> None:
    values = np.random.default_rng(1).normal(size=(4, 1000))
    looked: list[int] = []

    def first(draws: int) -> dict[str, np.ndarray]:
        looked.append(draws)
        return {"x": values[:, :draws]}

    aim = Aim(Target(None, 900.0), 1000)
    assert not aim.look(99, first)
    assert looked == []
    assert not aim.look(112, first)
    assert looked == [100, 110]
    assert aim.look(1000, first)
    assert looked[-1] == aim.draws
    assert aim.draws < 1000


def test_aim_looks_at_the_last_draw_too() -> None:
    aim = Aim(Target(None, 1e9), 105)
    values = {"x": np.random.default_rng(1).normal(size=(2, 105))}
    looked: list[int] = []

    def first(draws: int) -> dict[str, np.ndarray]:
        looked.append(draws)
        return {"x": values["x"][:, :draws]}

    assert not aim.look(105, first)
    assert not aim.look(105, first)
    assert looked[:2] == [100, 105]
