"""What runs on a model beside `pymc.sample`, in a block without a cluster: PyMC's, and cached."""

from __future__ import annotations

import signal
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr

import cloudposterior as cp
from cloudposterior.cache import MemoryCache
from cloudposterior.operations import functions
from cloudposterior.posterior import from_tree, to_tree

from .results import PYMC_5, line, posterior_group, posterior_of, same

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*find_MAP:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*merge_dataset:FutureWarning"),
    pytest.mark.filterwarnings("ignore:More chains:UserWarning"),
]

Work = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def quick(in_tmp_path: Any) -> Iterator[None]:
    with pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False):
        yield


QUIET = {"progressbar": False}
WORK: dict[str, Work] = {
    "prior": lambda p: pm.sample_prior_predictive(20, random_seed=1),
    "prior of one variable": lambda p: pm.sample_prior_predictive(
        20, var_names=["line::mu"], random_seed=1
    ),
    "predictive": lambda p: pm.sample_posterior_predictive(p, random_seed=1, **QUIET),
    "predictive, extending": lambda p: pm.sample_posterior_predictive(
        p, random_seed=1, extend_inferencedata=True, **QUIET
    ),
    "predictions": lambda p: pm.sample_posterior_predictive(
        p, random_seed=1, predictions=True, var_names=["line::mu", "line::y"], **QUIET
    ),
    "predictions, extending": lambda p: pm.sample_posterior_predictive(
        p, random_seed=1, predictions=True, extend_inferencedata=True, **QUIET
    ),
    "predictive of one dimension": lambda p: pm.sample_posterior_predictive(
        posterior_group(p).stack(sample=("chain", "draw")).reset_index("sample"),
        sample_dims=["sample"],
        random_seed=1,
        **QUIET,
    ),
    "log-likelihood": lambda p: pm.compute_log_likelihood(p, **QUIET),
    "log-likelihood alone": lambda p: pm.compute_log_likelihood(
        p, extend_inferencedata=False, **QUIET
    ),
    "log-prior": lambda p: pm.stats.compute_log_prior(p, **QUIET),
    "deterministics": lambda p: pm.compute_deterministics(posterior_group(p), **QUIET),
    "deterministics, merged": lambda p: pm.compute_deterministics(
        posterior_group(p), merge_dataset=True, **QUIET
    ),
    "SMC": lambda p: pm.sample_smc(30, chains=2, cores=1, random_seed=1, **QUIET),
    "MAP": lambda p: pm.find_MAP(**QUIET),
    "ADVI": lambda p: drawn_from(pm.fit(30, random_seed=1, **QUIET)),
    "ADVI of full rank": lambda p: drawn_from(
        pm.fit(30, method="fullrank_advi", random_seed=1, **QUIET)
    ),
}
if not PYMC_5:
    WORK |= {
        "deterministics, extending": lambda p: pm.compute_deterministics(
            p, extend_dataset=True, **QUIET
        ),
        "MAP as a tree": lambda p: pm.find_MAP(
            return_inferencedata=True, jitter=True, random_seed=1, **QUIET
        ),
        "variables sampled again": lambda p: pm.sample_posterior_predictive(
            p, sample_vars=["line::a"], random_seed=1, **QUIET
        ),
    }


def drawn_from(approximation: Any) -> dict[str, np.ndarray]:
    posterior = to_tree(approximation.sample(10, random_seed=2))["posterior"].to_dataset()
    found = {str(name): values.to_numpy() for name, values in posterior.data_vars.items()}
    return {**found, "losses": np.asarray(approximation.hist)}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions of PyMC that ran, in order."""
    made: list[str] = []
    counting = []
    for function in functions._PYMC:

        def counted(*args: Any, _own: Any = function, **kwargs: Any) -> Any:
            made.append(_own.name)
            return _own.own(*args, **kwargs)

        counted.__signature__ = functions.inspect.signature(function.own)  # type: ignore[attr-defined]
        counting.append(functions.Function(function.name, counted, function.places))
    monkeypatch.setattr(functions, "_PYMC", tuple(counting))
    return made


@pytest.mark.parametrize("name", WORK)
def test_call_gives_what_pymc_gives_and_is_answered_from_the_cache(
    name: str, calls: list[str]
) -> None:
    work, cache = WORK[name], MemoryCache()
    with line() as model:
        plain = work(posterior_of(model))
    for runs in (1, 0):
        model = line()
        given = posterior_of(model)
        with cp.cloud(model, cache=cache):
            assert same(work(given), plain)
        assert len(calls) == runs or name.startswith("ADVI")
        calls.clear()
    assert len(cache.entries()) == 1


@pytest.mark.parametrize("name", WORK)
def test_call_without_a_cache_gives_what_pymc_gives(name: str) -> None:
    with line() as model:
        plain = WORK[name](posterior_of(model))
    with cp.cloud(line(), cache=False) as model:
        assert same(WORK[name](posterior_of(model)), plain)


@pytest.mark.parametrize(
    "extending", ["predictive, extending", "predictions, extending", "log-likelihood", "log-prior"]
)
def test_what_is_extended_is_what_was_given(extending: str) -> None:
    cache = MemoryCache()
    for _ in range(2):
        with cp.cloud(line(), cache=cache) as model:
            given = posterior_of(model)
            assert WORK[extending](given) is given


def changed(p: Any) -> Any:
    tree = to_tree(p).copy(deep=True)
    values = tree["posterior"]["line::a"].to_numpy()
    values[1, 17] = np.nextafter(values[1, 17], 9.0)
    return from_tree(tree)


def with_posterior(p: Any, change: Callable[[Any], Any]) -> Any:
    tree = to_tree(p).copy(deep=True)
    groups = {name: child.to_dataset() for name, child in tree.children.items()}
    groups["posterior"] = change(groups["posterior"])
    return from_tree(type(tree).from_dict(groups))


OTHERS: dict[str, Callable[[Any], Any]] = {
    "one value": changed,
    "fewer draws": lambda p: with_posterior(p, lambda d: d.isel(draw=slice(0, 50))),
    "other draws": lambda p: with_posterior(p, lambda d: d.isel(draw=slice(None, None, -1))),
    "other numbers of draws": lambda p: with_posterior(
        p, lambda d: d.assign_coords(draw=d["draw"] + 1)
    ),
}


@pytest.mark.parametrize("work", ["predictive", "log-likelihood", "deterministics"])
@pytest.mark.parametrize("other", OTHERS)
def test_another_posterior_is_another_request(work: str, other: str, calls: list[str]) -> None:
    with cp.cloud(line(), cache=MemoryCache()) as model:
        WORK[work](posterior_of(model))
        WORK[work](OTHERS[other](posterior_of(model)))
    assert len(calls) == 2


def test_posterior_with_other_attributes_is_the_same(calls: list[str]) -> None:
    with cp.cloud(line(), cache=MemoryCache()) as model:
        WORK["predictive"](posterior_of(model))
        later = posterior_of(model)
        to_tree(later)["posterior"].attrs["created_at"] = "tomorrow"
        WORK["predictive"](later)
    assert calls == ["sample_posterior_predictive"]


def test_data_that_has_changed_is_another_request(calls: list[str]) -> None:
    """Whether data has changed since the posterior was drawn decides what is drawn anew."""
    with cp.cloud(line(), cache=MemoryCache()) as model:
        given = posterior_of(model)
        WORK["predictive"](given)
        pm.set_data({"line::x": np.ones(6)})
        WORK["predictive"](given)
        WORK["predictive"](posterior_of(model))
    assert len(calls) == 3


ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "seed": lambda p: pm.sample_posterior_predictive(p, random_seed=2, **QUIET),
    "variables": lambda p: pm.sample_posterior_predictive(
        p, random_seed=1, var_names=["line::mu"], **QUIET
    ),
    "predictions": lambda p: pm.sample_posterior_predictive(
        p, random_seed=1, predictions=True, **QUIET
    ),
    "settings": lambda p: pm.sample_posterior_predictive(
        p, random_seed=1, compile_kwargs={"mode": "FAST_COMPILE"}, **QUIET
    ),
}


@pytest.mark.parametrize("other", ARGUMENTS)
def test_other_arguments_are_another_request(other: str, calls: list[str]) -> None:
    with cp.cloud(line(), cache=MemoryCache()) as model:
        given = posterior_of(model)
        WORK["predictive"](given)
        ARGUMENTS[other](given)
    assert len(calls) == 2


def test_arguments_that_say_the_same_are_the_same_request(calls: list[str]) -> None:
    with cp.cloud(line(), cache=MemoryCache()) as model:
        given = posterior_of(model)
        WORK["predictive"](given)
        pm.sample_posterior_predictive(
            given, random_seed=np.int64(1), sample_dims=("chain", "draw"), progressbar=False
        )
        pm.sample_posterior_predictive(given, model=model, random_seed=1, progressbar=False)
        pm.sampling.forward.sample_posterior_predictive(given, model, random_seed=1, **QUIET)
    assert len(calls) == 1


def test_no_seed_asks_for_any_and_the_one_that_was_drawn_repeats_it() -> None:
    cache = MemoryCache()
    with cp.cloud(line(), cache=cache) as model:
        given = posterior_of(model)
        first = pm.sample_posterior_predictive(given, **QUIET)
        assert same(pm.sample_posterior_predictive(given, **QUIET), first)
    seed = int(first.attrs["cloudposterior_random_seed"])
    with line() as model:
        assert same(pm.sample_posterior_predictive(given, random_seed=seed, **QUIET), first)


@pytest.mark.filterwarnings("ignore::cloudposterior.BlockWarning")
def test_calls_of_other_models_are_pymcs(calls: list[str]) -> None:
    model, other = line(), line(shift=1.0)
    with cp.cloud(model, cache=MemoryCache()), other:
        for _ in range(2):
            WORK["predictive"](posterior_of(other))
            pm.sample_prior_predictive(5, other, random_seed=1)
    assert calls == []


NOT_KEPT: dict[str, Callable[[Any], Any]] = {
    "arrays": lambda p: pm.sample_posterior_predictive(
        p, random_seed=1, return_inferencedata=False, **QUIET
    ),
    "arrays of the prior": lambda p: pm.sample_prior_predictive(
        5, random_seed=1, return_inferencedata=False
    ),
    "points": lambda p: pm.sample_posterior_predictive(
        [{"line::a": 0.0, "line::b": 1.0, "line::s": 1.0}] * 3,
        random_seed=1,
        return_inferencedata=False,
        **QUIET,
    ),
}


@pytest.mark.parametrize("name", NOT_KEPT)
def test_call_that_no_cache_can_hold_runs_each_time(name: str) -> None:
    cache = MemoryCache()
    with line() as model:
        plain = NOT_KEPT[name](posterior_of(model))
    with cp.cloud(line(), cache=cache) as model:
        for _ in range(2):
            with pytest.warns(cp.TokenWarning, match="is not cached"):
                found = NOT_KEPT[name](posterior_of(model))
            assert same(found, plain)
    assert cache.entries() == []


def test_object_that_goes_on_is_not_kept() -> None:
    with cp.cloud(line(), cache=MemoryCache()) as model:
        inference = pm.ADVI(model=model, random_seed=1)
        with pytest.warns(cp.TokenWarning, match="method= is an object of your own"):
            pm.fit(10, method=inference, **QUIET)


def test_interrupted_predictions_are_returned_and_not_cached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyMC returns arrays that are empty from there on."""
    cache, forward = MemoryCache(), pm.sampling.forward
    own = forward.point_wrapper

    def interrupting(function: Any) -> Any:
        inner, drawn = own(function), []

        def draw(**point: Any) -> Any:
            drawn.append(1)
            if len(drawn) == 40:
                signal.raise_signal(signal.SIGINT)
            return inner(**point)

        return draw

    monkeypatch.setattr(forward, "point_wrapper", interrupting)
    with (
        cp.cloud(line(), cache=cache) as model,
        pytest.warns(cp.CacheWarning, match="not all of it was computed"),
    ):
        WORK["predictive"](posterior_of(model))
    assert cache.entries() == []


def test_fit_that_pymc_cannot_repeat_is_kept_all_the_same() -> None:
    """SVGD begins anywhere, whatever the seed."""
    found = []
    for _ in range(2):
        with cp.cloud(line(), cache="memory"):
            fit = pm.fit(20, method="svgd", random_seed=1, inf_kwargs={"n_particles": 5}, **QUIET)
        found.append(drawn_from(fit))
    assert same(*found)


def test_model_is_the_same_after_predictions() -> None:
    with cp.cloud(line(), cache=False) as model:
        before = list(model.observed_RVs)
        WORK["predictive"](posterior_of(model))
        assert model.observed_RVs == before


@pytest.mark.filterwarnings("ignore:Passing `log_likelihood`:FutureWarning")
def test_what_pymc_calls_by_itself_is_no_call_of_the_block() -> None:
    cache = MemoryCache()
    with cp.cloud(line(), cache=cache):
        pm.sample(
            draws=5,
            tune=5,
            chains=2,
            cores=1,
            init="advi",
            n_init=20,
            nuts_sampler="pymc",
            random_seed=1,
            compute_convergence_checks=False,
            idata_kwargs={"log_likelihood": True},
            **QUIET,
        )
    assert [entry.record.label for entry in cache.entries()] == ["draws5_tune5_chains2_seed1"]


def test_wrong_arguments_are_told_as_pymc_tells_them() -> None:
    with cp.cloud(line(), cache=MemoryCache()) as model:
        with pytest.raises(TypeError, match="unexpected|argument"):
            pm.sample_posterior_predictive(posterior_of(model), colour="red")
        with pytest.raises(KeyError, match="nobody"):
            pm.sample_posterior_predictive(posterior_of(model), var_names=["nobody"], **QUIET)


def test_conditional_of_a_process_is_predicted() -> None:
    """New variables, which the posterior does not have, on another grid."""

    def predict() -> Any:
        with pm.Model(name="gp") as model:
            scale = pm.HalfNormal("scale")
            process = pm.gp.Marginal(cov_func=pm.gp.cov.ExpQuad(1, ls=scale + 0.1))
            x = np.linspace(0, 1, 5)[:, None]
            process.marginal_likelihood("y", X=x, y=np.sin(x[:, 0]), sigma=0.1)
            process.conditional("f", np.linspace(0, 2, 4)[:, None])
        return model

    def work(model: pm.Model) -> Any:
        values = np.random.default_rng(1).uniform(0.5, 1, size=(2, 8))
        posterior = xr.Dataset({"gp::scale": (("chain", "draw"), values)})
        tree = xr.DataTree.from_dict({"posterior": posterior})
        return pm.sample_posterior_predictive(
            from_tree(tree), var_names=["gp::f"], predictions=True, random_seed=1, **QUIET
        )

    with predict() as model:
        plain = work(model)
    cache = MemoryCache()
    for _ in range(2):
        with cp.cloud(predict(), cache=cache) as model:
            assert same(work(model), plain)
    assert len(cache.entries()) == 1


def test_fit_of_pymc_extras_is_cached_where_that_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []

    def fit(method: str, **kwargs: Any) -> Any:
        made.append((method, kwargs["random_seed"]))
        return posterior_of(kwargs["model"])

    module = types.ModuleType("pymc_extras")
    module.fit = fit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pymc_extras", module)
    monkeypatch.setattr(functions, "_known_extras", {})
    cache = MemoryCache()
    for _ in range(2):
        with cp.cloud(line(), cache=cache):
            module.fit("laplace", random_seed=4)  # type: ignore[attr-defined]
    assert module.fit is fit
    assert made == [("laplace", 4)]
    assert cache.entries()[0].record.label == "fit_seed4_laplace"


def test_files_of_all_of_them_are_read_by_others(tmp_path: Any) -> None:
    import arviz as az

    with cp.cloud(line(), cache=tmp_path) as model:
        for work in WORK.values():
            work(posterior_of(model))
    paths = list((tmp_path / "line").glob("*.nc"))
    assert len(paths) >= len(WORK) - 5
    for path in paths:
        az.from_netcdf(path)
    assert cp.DiskCache(tmp_path).verify() == []


def test_generator_moves_on_with_a_hit_as_it_does_in_pymc() -> None:
    def draw(seed: np.random.Generator) -> list[float]:
        found = [pm.sample_prior_predictive(3, random_seed=seed) for _ in range(2)]
        return [float(to_tree(one)["prior"]["line::a"][0, 0]) for one in found]

    with line():
        plain = draw(np.random.default_rng(1))
    assert plain[0] != plain[1]
    cache = MemoryCache()
    for _ in range(2):
        with cp.cloud(line(), cache=cache):
            assert draw(np.random.default_rng(1)) == plain
    assert len(cache.entries()) == 2


@pytest.mark.skipif(PYMC_5, reason="there it takes numbers only")
def test_generator_that_moves_by_nobody_knows_how_much_is_no_key() -> None:
    seed = np.random.default_rng(1)
    with cp.cloud(line(), cache=MemoryCache()), pytest.warns(cp.TokenWarning, match="generator"):
        pm.find_MAP(random_seed=seed, **QUIET)


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
@pytest.mark.skipif(PYMC_5, reason="there it is the only name")
def test_seed_by_its_older_name_is_the_same_request(calls: list[str]) -> None:
    with cp.cloud(line(), cache=MemoryCache()):
        pm.find_MAP(jitter=True, seed=3, **QUIET)
        pm.find_MAP(jitter=True, random_seed=3, **QUIET)
    assert calls == ["find_MAP"]


def test_callbacks_that_collect_are_called_each_time() -> None:
    cache = MemoryCache()
    for _ in range(2):
        tracker = pm.variational.callbacks.Tracker(loss=lambda approx, losses, step: losses[-1])
        with cp.cloud(line(), cache=cache), pytest.warns(cp.TokenWarning, match="callbacks= are"):
            pm.fit(20, random_seed=1, callbacks=[tracker], **QUIET)
        assert len(tracker["loss"]) == 20
    assert cache.entries() == []


@pytest.mark.skipif(not PYMC_5, reason="newer PyMC takes them by name only")
def test_arguments_without_names_have_no_key() -> None:
    theme = pm.sampling.forward.default_progress_theme
    with (
        cp.cloud(line(), cache=MemoryCache()) as model,
        pytest.warns(cp.TokenWarning, match="without names"),
    ):
        pm.find_MAP(None, None, "L-BFGS-B", False, True, False, theme, 5000, model, ())


@pytest.mark.skipif(not PYMC_5, reason="newer PyMC knows one name only")
def test_number_of_draws_by_its_older_name(calls: list[str]) -> None:
    with cp.cloud(line(), cache=MemoryCache()):
        found = pm.sample_prior_predictive(samples=7, random_seed=1)
    assert to_tree(found)["prior"].sizes["draw"] == 7
