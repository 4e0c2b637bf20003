"""What the package relies on in PyMC: these tests fail when PyMC changes it."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytest
from pymc.step_methods import STEP_METHODS, BlockedStep, CompoundStep

from cloudposterior.identity.model import MODEL_FIELDS
from cloudposterior.samplers import pymc as sampler_pymc

PYMC_5 = pm.__version__.startswith("5")
Build = Callable[..., pm.Model]
Options = dict[str, Any]

KNOWN = {
    # part of the key
    "draws",
    "tune",
    "chains",
    "random_seed",
    "step",
    "var_names",
    "nuts_sampler",
    "initvals",
    "init",
    "jitter_max_retries",
    "n_init",
    "discard_tuned_samples",
    "keep_warning_stat",
    "idata_kwargs",
    "nuts_sampler_kwargs",
    "compile_kwargs",
    "kwargs",
    # not part of it: how a run looks, where and how fast it runs
    "cores",
    "progressbar",
    "progressbar_theme",
    "quiet",
    "compute_convergence_checks",
    "callback",
    "mp_ctx",
    "blas_cores",
    # a call is not cached where they differ from the default
    "trace",
    "return_inferencedata",
    # what the key is of
    "model",
} | (set() if PYMC_5 else {"backend"})


def test_sample_has_the_parameters_that_are_known() -> None:
    assert set(inspect.signature(pm.sampling.mcmc.sample).parameters) == KNOWN


def test_sample_has_the_defaults_that_are_known() -> None:
    parameters = inspect.signature(pm.sampling.mcmc.sample).parameters
    defaults = {
        name: parameters[name].default
        for name in ("draws", "tune", "chains", "cores", "nuts_sampler", "init", "trace", "step")
    }
    assert defaults == {
        "draws": 1000,
        "tune": 1000 if PYMC_5 else None,
        "chains": None,
        "cores": None,
        "nuts_sampler": "pymc" if PYMC_5 else None,
        "init": "auto",
        "trace": None,
        "step": None,
    }


def test_sample_takes_draws_alone_by_position() -> None:
    kinds = inspect.signature(pm.sampling.mcmc.sample).parameters
    positional = [n for n, p in kinds.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["draws"]
    assert kinds["kwargs"].kind is inspect.Parameter.VAR_KEYWORD


def test_sample_is_pymcs_own() -> None:
    assert sampler_pymc.SAMPLE is pm.sample is pm.sampling.sample is pm.sampling.mcmc.sample
    assert sampler_pymc.SAMPLE.__module__ == "pymc.sampling.mcmc"


def unknown_fields(model: pm.Model) -> set[str]:
    """Name the attributes of a model that are neither known nor its variables."""
    # the variables of a model with a name are attributes without it
    variables = {id(variable) for variable in model.named_vars.values()}
    own = {name for name, value in vars(model).items() if id(value) not in variables}
    return own - MODEL_FIELDS


@pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS:UserWarning")
def test_model_has_the_fields_that_are_known_at_every_stage(short: Options) -> None:
    assert unknown_fields(pm.Model()) == set()
    with pm.Model(name="stages", coords={"site": ["a", "b"]}) as model:
        data = pm.Data("data", np.array([1.0, 2.0]), dims="site")
        mu = pm.Normal("mu", 0.0, 1.0, initval=0.5)
        spread = pm.HalfNormal("spread", 1.0)
        pm.Deterministic("twice", 2 * mu)
        pm.Potential("pull", -(mu**2))
        pm.Normal("y", mu * data, spread, observed=np.array([1.0, 2.0]), dims="site")
        masked = np.ma.masked_array([0.5, 1.0], mask=[False, True])
        with pytest.warns(UserWarning, match="missing|imput"):
            pm.Normal("z", mu, spread, observed=masked)
    assert unknown_fields(model) == set()
    model.point_logps()
    model.compile_logp()(model.initial_point())
    model.compile_dlogp()
    assert unknown_fields(model) == set()
    with model:
        result = pm.sample(**short)
        pm.set_data({"data": np.array([2.0, 1.0])})
        pm.sample_posterior_predictive(result, progressbar=False)
    assert unknown_fields(model) == set()


def test_model_has_the_fields_that_are_known_when_derived(build: Build) -> None:
    model = build()
    assert unknown_fields(model.copy()) == set()
    assert unknown_fields(pm.do(model, {model["small::mu"]: 1.0})) == set()
    assert unknown_fields(pm.observe(model, {model["small::mu"]: 1.0})) == set()


@pytest.mark.skipif(PYMC_5, reason="PyMC 5 has no frozen models")
def test_model_has_the_fields_that_are_known_when_frozen(build: Build, short: Options) -> None:
    from pymc.model.transform.optimization import freeze_model

    frozen = freeze_model(build())
    frozen.compile_logp()(frozen.initial_point())
    assert unknown_fields(frozen) == set()
    with frozen:
        pm.sample(**short)
    assert unknown_fields(frozen) == set()


def test_model_fields_are_all_in_use(build: Build) -> None:
    on_one_generation_only = {"_cache", "_pytensor_config", "str_repr", "_repr_latex_"}
    assert MODEL_FIELDS - set(vars(build())) <= on_one_generation_only


@pytest.mark.parametrize("cores", [None, 1, 2])
def test_chains_of_the_default_are_those_of_a_run(
    cores: int | None, build: Build, short: Options
) -> None:
    del short["chains"]
    with build():
        result = pm.sample(**{**short, "cores": cores})
    assert result["posterior"].sizes["chain"] == sampler_pymc.default_chains(cores)


def test_chains_of_the_default_follow_pymcs_count_of_processors(
    build: Build, short: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hasattr(pm.sampling.mcmc, "_cpu_count"):
        monkeypatch.setattr(pm.sampling.mcmc, "_cpu_count", lambda: 3)
    else:
        monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert sampler_pymc.default_chains(None) == 3
    del short["chains"]
    with build():
        result = pm.sample(**{**short, "cores": None, "mp_ctx": None})
    assert result["posterior"].sizes["chain"] == 3


def test_tune_of_the_default_is_that_of_a_run(build: Build, short: Options) -> None:
    del short["tune"]
    with build():
        result = pm.sample(**{**short, "discard_tuned_samples": False})
    tune = sampler_pymc.default_tune(None)
    assert tune == 1000
    assert result["warmup_posterior"].sizes["draw"] == tune
    assert result["posterior"].attrs["tuning_steps"] == tune


@pytest.mark.parametrize("step", ["Metropolis", "Slice", "DEMetropolisZ"])
def test_tune_of_the_default_with_a_step_is_not_guessed(
    step: str, build: Build, short: Options
) -> None:
    del short["tune"]
    with build() as model:
        method = getattr(pm, step)(model.value_vars)
        result = pm.sample(**{**short, "discard_tuned_samples": False}, step=method)
    tune = sampler_pymc.default_tune(method)
    assert tune in (None, result["warmup_posterior"].sizes["draw"])


def test_tune_of_the_default_is_that_of_a_run_with_mixed_steps(short: Options) -> None:
    for name in ("tune", "nuts_sampler"):
        del short[name]
    with pm.Model():
        pm.Normal("x")
        pm.Bernoulli("b", 0.5)
        pm.Poisson("n", 3.0)
        result = pm.sample(**{**short, "discard_tuned_samples": False})
    tune = sampler_pymc.default_tune(None)
    assert tune in (None, result["warmup_posterior"].sizes["draw"])


def library_of(result: Any) -> str:
    """Name the sampler that made a result."""
    return "nutpie" if result["posterior"].attrs["inference_library"] == "nutpie" else "pymc"


def discrete() -> pm.Model:
    """A model with a variable that has no gradient."""
    with pm.Model() as model:
        pm.Normal("x")
        pm.Poisson("n", 3.0)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"init": "adapt_diag"},
        {"initvals": {"small::mu": 0.1}},
        {"initvals": [{"small::mu": 0.1}, {"small::mu": 0.2}]},
        {"callback": lambda **_: None},
        {"compile_kwargs": {"mode": "CVM"}},
        {"compile_kwargs": {"mode": "FAST_COMPILE"}},
        {"step": "Metropolis"},
    ],
    ids=lambda changes: " ".join(changes) or "default",
)
def test_sampler_foretold_is_the_one_that_runs(
    changes: Options, build: Build, short: Options
) -> None:
    del short["nuts_sampler"]
    with build() as model:
        if "step" in changes:
            changes = {"step": pm.Metropolis(model.value_vars)}
        call = dict(inspect.signature(pm.sample).bind(**short, **changes).arguments)
        arguments = {
            name: call.get(name, parameter.default)
            for name, parameter in inspect.signature(pm.sample).parameters.items()
        }
        result = pm.sample(**short, **changes)
    foretold = sampler_pymc.may_use_nutpie(model, arguments) and sampler_pymc.uses_only_nuts(model)
    assert foretold is (library_of(result) == "nutpie")


def test_sampler_foretold_for_a_discrete_variable_is_pymcs(short: Options) -> None:
    del short["nuts_sampler"]
    model = discrete()
    with model:
        result = pm.sample(**short)
    assert library_of(result) == "pymc"
    assert not sampler_pymc.uses_only_nuts(model)


def test_sampler_chosen_by_default_is_known(build: Build, short: Options) -> None:
    del short["nuts_sampler"]
    with build():
        result = pm.sample(**short)
    assert library_of(result) == ("pymc" if PYMC_5 else "nutpie")
    assert sampler_pymc.PREFERS_NUTPIE is not PYMC_5


def test_sampler_packages_know_every_sampler_of_pymc() -> None:
    annotation = str(inspect.signature(pm.sampling.mcmc.sample).parameters["nuts_sampler"])
    for name in ("pymc", "nutpie", "numpyro", "blackjax"):
        assert f"'{name}'" in annotation or f'"{name}"' in annotation
    assert annotation.count("'") + annotation.count('"') in (8, 10)  # and the default
    assert sampler_pymc.sampler_packages("nutpie") == ("nutpie",)
    assert sampler_pymc.sampler_packages("numpyro") == ("numpyro", "jax")


def test_settings_that_draws_depend_on_exist() -> None:
    assert {"floatX", "mode", "linker", "optimizer", "cast_policy"} <= set(
        sampler_pymc.draw_settings()
    )


def test_target_accept_of_the_default_is_that_of_nuts(build: Build) -> None:
    assert inspect.signature(pm.NUTS.__mro__[1].__init__).parameters["target_accept"].default == 0.8
    with build():
        assert pm.NUTS().target_accept == 0.8


STEPS: dict[str, Callable[[pm.Model], Any]] = {
    "NUTS": lambda m: pm.NUTS([m["x"], m["z"]]),
    "HamiltonianMC": lambda m: pm.HamiltonianMC([m["x"]]),
    "Metropolis": lambda m: pm.Metropolis([m["x"]]),
    "DEMetropolis": lambda m: pm.DEMetropolis([m["z"]]),
    "DEMetropolisZ": lambda m: pm.DEMetropolisZ([m["z"]]),
    "Slice": lambda m: pm.Slice([m["x"]]),
    "BinaryMetropolis": lambda m: pm.BinaryMetropolis([m["b"]]),
    "BinaryGibbsMetropolis": lambda m: pm.BinaryGibbsMetropolis([m["b"]]),
    "CategoricalGibbsMetropolis": lambda m: pm.CategoricalGibbsMetropolis([m["c"]]),
}


@pytest.mark.parametrize("name", STEPS)
def test_step_shows_its_settings_and_its_state(name: str) -> None:
    with pm.Model() as model:
        pm.Normal("x")
        pm.Normal("z", shape=3)
        pm.Bernoulli("b", 0.5)
        pm.Categorical("c", [0.2, 0.3, 0.5])
        step = STEPS[name](model)
    assert isinstance(step, BlockedStep)
    arguments, keywords = step.__getnewargs_ex__()
    assert isinstance(arguments, tuple)
    assert isinstance(keywords, dict)
    state = step.sampling_state
    assert dataclasses.is_dataclass(state)
    assert set(vars(state)) == {field.name for field in dataclasses.fields(state)}


def test_step_methods_of_pymc_are_all_known() -> None:
    chosen_by_pymc = {method.__name__ for method in STEP_METHODS}
    assert chosen_by_pymc == {
        "NUTS",
        "HamiltonianMC",
        "Metropolis",
        "BinaryMetropolis",
        "BinaryGibbsMetropolis",
        "Slice",
        "CategoricalGibbsMetropolis",
    }


def test_compound_step_shows_its_methods(build: Build) -> None:
    with pm.Model() as model:
        pm.Normal("x")
        pm.Normal("z")
        methods = [pm.Slice([model["x"]]), pm.Slice([model["z"]])]
        compound = CompoundStep(methods)
    assert compound.methods == methods
    assert not isinstance(compound, BlockedStep)


def test_compound_step_has_no_settings_of_its_own() -> None:
    known = {"methods", "generates_stats", "name", "stats_dtypes", "stats_dtypes_shapes", "tune"}
    with pm.Model() as model:
        pm.Normal("x")
        compound = CompoundStep([pm.Slice([model["x"]])])
    assert {field.lstrip("_") for field in vars(compound)} <= known


def test_rng_of_a_step_is_set_for_each_chain(build: Build, short: Options) -> None:
    draws = []
    for rng in (1, 2):
        with build() as model:
            step = pm.Metropolis(model.value_vars, rng=rng)
            draws.append(pm.sample(**short, step=step)["posterior"]["small::mu"].values)
    assert np.array_equal(*draws)
