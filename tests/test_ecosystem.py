"""Models that other packages build, and PyMC's own that come of others: the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest
from distributed import Client, LocalCluster

import cloudposterior as cp

Options = dict[str, Any]

pytestmark = [
    pytest.mark.slow,
    # what these packages say of others, and of ever so few draws
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:(pymc_marketing|pymc_extras|pydantic).*"),
]


@pytest.fixture(autouse=True)
def quick_compiling() -> Iterator[None]:
    """Run functions as they are written down: tiny models take longer to compile than to draw."""
    with pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False):
        yield


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two worker processes."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def options(short: Options) -> Options:
    """Arguments of a short run, for those who choose PyMC's sampler by themselves."""
    # with two cores PyMC gives each chain a stream of its own, as a cluster does
    return {name: value for name, value in {**short, "cores": 2}.items() if name != "nuts_sampler"}


@dataclass
class Heard(cp.Callback):
    """Whether calls were hits, in their order."""

    hits: list[bool] = field(default_factory=list)

    def on_finish(self, run: cp.RunInfo, summary: cp.RunSummary) -> None:
        self.hits.append(run.from_cache)


@dataclass
class Flow:
    """One way to a posterior: build something of data, and fit it.

    Attributes
    ----------
    build : callable
        Makes what is fitted, of a number that changes it.
    fit : callable
        Gives the result.
    model_of : callable
        Gives the model in what was built.
    calls : int
        How many of PyMC's functions a fit calls.
    """

    build: Callable[[float], Any]
    fit: Callable[[Any], Any]
    model_of: Callable[[Any], pm.Model] = lambda built: built
    calls: int = 1

    def in_block(self, changed: float, **where: Any) -> tuple[Any, list[bool]]:
        """Build and fit anew in a block."""
        built, heard = self.build(changed), Heard()
        with cp.cloud(self.model_of(built), callbacks=[heard], **where):
            result = self.fit(built)
        return result, heard.hits

    def check(self, client: Client) -> None:
        """Check draws, hits and misses, here and on a cluster."""
        plain = self.fit(self.build(0.0))
        miss, hit = [False] * self.calls, [True] * self.calls
        for cluster in (None, client):
            where = {"cluster": cluster, "cache": cp.MemoryCache()}
            first, hits = self.in_block(0.0, **where)
            assert hits == miss
            assert_same(first, plain)
            second, hits = self.in_block(0.0, **where)
            assert hits == hit
            assert_same(second, plain)
            other, hits = self.in_block(0.5, **where)
            assert hits == miss
            with pytest.raises(AssertionError):
                assert_same(other, plain)


def assert_same(one: Any, other: Any) -> None:
    """Check that two posteriors hold the same variables with the same bits."""
    ours, theirs = (result["posterior"].data_vars for result in (one, other))
    assert list(ours) and set(ours) == set(theirs)
    for name, values in ours.items():
        assert np.array_equal(values.values, theirs[name].values), name


def causal(changed: float) -> pm.Model:
    """A confounder, a treatment and an outcome; none is observed."""
    with pm.Model(name="causal") as model:
        c = pm.Normal("c", shape=12)
        slope = pm.Normal("slope", changed, 1.0)
        x = pm.Normal("x", slope * c, 1.0, shape=12)
        pm.Normal("y", x + c, 1.0, shape=12)
    return model


def observed(changed: float) -> pm.Model:
    """The same, with data for what can be seen."""
    seen = np.random.default_rng(2).normal(size=(2, 12))
    return pm.observe(causal(changed), {"causal::x": seen[0], "causal::y": seen[1]})


def test_observed_model_is_as_plain(client: Client, options: Options) -> None:
    Flow(observed, lambda model: sampled(model, options)).check(client)


def test_intervention_is_as_plain(client: Client, options: Options) -> None:
    def build(value: float) -> pm.Model:
        done = pm.do(causal(0.0), {"causal::x": np.full(12, value)})
        return pm.observe(done, {"causal::y": np.linspace(-1.0, 1.0, 12)})

    Flow(build, lambda model: sampled(model, options)).check(client)


def test_intervention_after_a_fit_is_predicted_as_plain(client: Client, options: Options) -> None:
    posterior = sampled(observed(0.0), options)

    def build(value: float) -> pm.Model:
        return pm.do(causal(0.0), {"causal::x": np.full(12, value)})

    def predict(model: pm.Model) -> Any:
        with model:
            return pm.sample_posterior_predictive(
                posterior, var_names=["causal::y"], random_seed=3, progressbar=False
            )

    # blocks of draws have streams of their own on a cluster, so only here it is as plain
    plain = predict(build(0.0))["posterior_predictive"]["causal::y"].values
    for cluster in (None, client):
        cache, drawn, hits = cp.MemoryCache(), [], []
        for value in (0.0, 0.0, 0.5):
            model, heard = build(value), Heard()
            with cp.cloud(model, cluster=cluster, cache=cache, callbacks=[heard]):
                drawn.append(predict(model)["posterior_predictive"]["causal::y"].values)
            hits += heard.hits
        assert hits == [False, True, False]
        assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
        assert drawn[0].shape == plain.shape
        assert cluster is not None or np.array_equal(drawn[0], plain)


def sampled(model: pm.Model, options: Options) -> Any:
    with model:
        return pm.sample(**options, nuts_sampler="pymc")


def test_bambi_with_groups_is_as_plain(client: Client, options: Options) -> None:
    bambi = pytest.importorskip("bambi")
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {"x": rng.normal(size=24), "g": list("abcd") * 6, "y": rng.poisson(2.0, size=24)}
    )

    def build(changed: float) -> Any:
        data = frame.assign(x=frame["x"] + changed * (frame.index == 12))
        model = bambi.Model("y ~ x + (1 | g)", data, family="poisson")
        model.build()
        return model

    Flow(build, lambda model: model.fit(**options), lambda model: model.backend.model).check(client)


def test_marketing_clv_is_as_plain(client: Client, options: Options) -> None:
    clv = pytest.importorskip("pymc_marketing.clv")
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "customer_id": np.arange(20),
            "frequency": rng.integers(1, 6, size=20).astype("float64"),
            "monetary_value": rng.gamma(6.0, 5.0, size=20),
        }
    )

    def build(changed: float) -> Any:
        value = frame["monetary_value"] + changed * (frame.index == 10)
        model = clv.GammaGammaModel()
        model.build_model(data=frame.assign(monetary_value=value))
        return model

    options["nuts_sampler"] = "pymc"
    Flow(build, lambda model: model.fit(**options), lambda model: model.model).check(client)


def test_marketing_mmm_that_samples_a_copy_is_as_plain(options: Options) -> None:
    mmm = pytest.importorskip("pymc_marketing.mmm")
    rng = np.random.default_rng(5)
    weeks = pd.date_range("2024-01-01", periods=30, freq="W")
    frame = pd.DataFrame({"date": weeks, "tv": rng.random(30), "radio": rng.random(30)})
    sales = pd.Series(rng.random(30), name="y")

    def build(changed: float) -> tuple[Any, Any]:
        data = frame.assign(tv=frame["tv"] + changed * (frame.index == 10))
        model = mmm.MMM(
            date_column="date",
            channel_columns=["tv", "radio"],
            adstock=mmm.GeometricAdstock(l_max=4),
            saturation=mmm.LogisticSaturation(),
        )
        model.build_model(data, sales)
        return model, data

    def fit(built: tuple[Any, Any]) -> Any:
        model, data = built
        return model.fit(data, sales, **options)

    options["nuts_sampler"] = "pymc"
    plain, cache = fit(build(0.0)), cp.MemoryCache()
    flow = Flow(build, fit, lambda built: built[0].model)
    # its deterministics are computed by a second call
    for changed, hit in ((0.0, False), (0.0, True), (0.5, False)):
        result, hits = flow.in_block(changed, cache=cache)
        assert hits == [hit, hit]
        if not changed:
            assert_same(result, plain)


def test_extras_model_is_as_plain(client: Client, options: Options) -> None:
    extras = pytest.importorskip("pymc_extras")

    def build(changed: float) -> pm.Model:
        with pm.Model(name="extras") as model:
            xi = pm.Normal("xi", changed, 1.0)
            sigma = pm.HalfNormal("sigma", 1.0)
            y = np.random.default_rng(6).gumbel(size=30)
            extras.GenExtreme("y", mu=0.0, sigma=sigma + 1.0, xi=0.1 * pm.math.tanh(xi), observed=y)
        return model

    Flow(build, lambda model: sampled(model, options)).check(client)


def test_extras_marginal_model_is_as_plain(client: Client, options: Options) -> None:
    extras = pytest.importorskip("pymc_extras")

    def build(changed: float) -> pm.Model:
        with pm.Model(name="mixture") as model:
            p = pm.Beta("p", 2.0 + changed, 2.0)
            k = pm.Bernoulli("k", p, shape=8)
            pm.Normal("y", 2.0 * k, 1.0, observed=np.linspace(-1.0, 3.0, 8))
        return extras.marginalize(model, ["mixture::k"])

    # as they are written down, its gradients round otherwise once the model was pickled (PyMC 5)
    with pytensor.config.change_flags(mode="FAST_RUN"):
        Flow(build, lambda model: sampled(model, options)).check(client)


def test_extras_laplace_is_kept(client: Client, options: Options) -> None:
    extras = pytest.importorskip("pymc_extras")

    def build(changed: float) -> pm.Model:
        with pm.Model(name="laplace") as model:
            mu = pm.Normal("mu", changed, 1.0)
            sigma = pm.HalfNormal("sigma", 1.0)
            pm.Normal("y", mu, sigma, observed=np.linspace(-1.0, 2.0, 20))
        return model

    def fit(model: pm.Model) -> Any:
        with model:
            return extras.fit(method="laplace", draws=50, random_seed=1, progressbar=False)

    Flow(build, fit).check(client)
