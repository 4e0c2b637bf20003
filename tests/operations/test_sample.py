"""Which calls of `pymc.sample` are one request: tokens compared, nothing sampled."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.step_methods import CauchyProposal, CompoundStep

from cloudposterior.errors import TokenError
from cloudposterior.operations import options
from cloudposterior.operations.sample import SampleCall

PYMC_5 = pm.__version__.startswith("5")
CHOSEN = "pymc" if PYMC_5 else "nutpie"
Options = dict[str, Any]


@pytest.fixture
def model() -> pm.Model:
    """Two free variables, one of them transformed."""
    with pm.Model(name="m") as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        sigma = pm.HalfNormal("sigma", 1.0)
        pm.Normal("y", mu, sigma, observed=np.array([0.1, -0.4, 0.3]))
    return model


@pytest.fixture
def mixed() -> pm.Model:
    """Variables of every kind that a step method may want."""
    with pm.Model() as model:
        pm.Normal("x", 0.0, 1.0)
        pm.Normal("z", 0.0, 1.0, shape=3)
        pm.Bernoulli("b", 0.5)
        pm.Categorical("c", [0.2, 0.3, 0.5])
        pm.Poisson("n", 3.0)
    return model


def token(model: pm.Model, *args: Any, **kwargs: Any) -> str:
    """Give the token of the request that a call would run."""
    with model:
        return [request.token for request in SampleCall(model, args, kwargs).requests()][-1]


def processors() -> int:
    """Count processors as PyMC does."""
    counter = getattr(pm.sampling.mcmc, "_cpu_count", os.cpu_count)
    return int(counter())


EQUAL: dict[str, tuple[Options, Options]] = {
    "draws of the default": ({}, {"draws": 1000}),
    "tune of the default": ({"nuts_sampler": "pymc"}, {"nuts_sampler": "pymc", "tune": 1000}),
    "init of the default": ({}, {"init": "auto"}),
    "chains of the default": ({}, {"chains": max(2, min(4, processors()))}),
    "chains by cores": ({"cores": 3}, {"chains": 3}),
    "chains by one core": ({"cores": 1}, {"chains": 2}),
    "sampler of the default": ({}, {"nuts_sampler": CHOSEN}),
    "progressbar": ({}, {"progressbar": False}),
    "kind of progressbar": ({}, {"progressbar": "combined"}),
    "progressbar_theme": ({}, {"progressbar_theme": "none"}),
    "quiet": ({}, {"quiet": True}),
    "cores": ({"chains": 2}, {"chains": 2, "cores": 4}),
    "mp_ctx": ({}, {"mp_ctx": "spawn"}),
    "blas_cores": ({}, {"blas_cores": 1}),
    "blas_cores of none": ({}, {"blas_cores": None}),
    "callback": (
        {"nuts_sampler": "pymc"},
        {"nuts_sampler": "pymc", "callback": lambda trace, draw: None},
    ),
    "callback that cannot be read": (
        {"nuts_sampler": "pymc"},
        {"nuts_sampler": "pymc", "callback": iter([1]).__next__},
    ),
    "convergence checks": ({}, {"compute_convergence_checks": False}),
    "target_accept of the default": ({}, {"target_accept": 0.8}),
    "target_accept inside nuts": ({"target_accept": 0.9}, {"nuts": {"target_accept": 0.9}}),
    "target_accept of numpy": ({"target_accept": 0.9}, {"target_accept": np.float64(0.9)}),
    "target_accept as an integer": ({"target_accept": 1}, {"target_accept": 1.0}),
    "nuts empty": ({}, {"nuts": {}}),
    "nuts in another order": (
        {"nuts": {"max_treedepth": 5, "early_max_treedepth": 4}},
        {"nuts": {"early_max_treedepth": 4, "max_treedepth": 5}},
    ),
    "draws of numpy": ({"draws": 50}, {"draws": np.int64(50)}),
    "tune of numpy": ({"tune": 50}, {"tune": np.int32(50)}),
    "chains of numpy": ({"chains": 3}, {"chains": np.int64(3)}),
    "seed of numpy": ({"random_seed": 3}, {"random_seed": np.uint32(3)}),
    "seed as an array of none": ({"random_seed": 3}, {"random_seed": np.array(3)}),
    "seeds as a tuple": ({"random_seed": [1, 2]}, {"random_seed": (1, 2)}),
    "seeds as an array": ({"random_seed": [1, 2]}, {"random_seed": np.array([1, 2])}),
    "generator": (
        {"random_seed": np.random.default_rng(4)},
        {"random_seed": np.random.default_rng(4)},
    ),
    "idata_kwargs empty": ({}, {"idata_kwargs": {}}),
    "compile_kwargs empty": ({}, {"compile_kwargs": {}}),
    "initvals of numpy": ({"initvals": {"m::mu": 0.5}}, {"initvals": {"m::mu": np.float64(0.5)}}),
    "initvals in another order": (
        {"initvals": {"m::mu": 0.5, "m::sigma": 1.0}},
        {"initvals": {"m::sigma": 1.0, "m::mu": 0.5}},
    ),
    "var_names as a tuple": ({"var_names": ["m::mu"]}, {"var_names": ("m::mu",)}),
}
if PYMC_5:
    EQUAL["start"] = ({"start": {"m::mu": 0.5}}, {"initvals": {"m::mu": 0.5}})
    EQUAL["nuts_sampler_kwargs empty"] = ({}, {"nuts_sampler_kwargs": {}})
else:
    EQUAL["nuts_sampler_kwargs"] = (
        {"nuts": {"max_treedepth": 5}},
        {"nuts_sampler_kwargs": {"max_treedepth": 5}},
    )
    EQUAL["sampler with a callback"] = (
        {"callback": lambda trace, draw: None},
        {"nuts_sampler": "pymc"},
    )
    EQUAL["sampler with an init"] = (
        {"init": "adapt_diag"},
        {"init": "adapt_diag", "nuts_sampler": "pymc"},
    )
    EQUAL["sampler with initvals for each chain"] = (
        {"chains": 2, "initvals": [{"m::mu": 0.1}, {"m::mu": 0.2}]},
        {"chains": 2, "initvals": [{"m::mu": 0.1}, {"m::mu": 0.2}], "nuts_sampler": "pymc"},
    )
    EQUAL["sampler for a mode without numba"] = (
        {"compile_kwargs": {"mode": "CVM"}},
        {"compile_kwargs": {"mode": "CVM"}, "nuts_sampler": "pymc"},
    )

DIFFERENT: dict[str, tuple[Options, Options]] = {
    "draws": ({}, {"draws": 999}),
    "tune": ({"tune": 1000}, {"tune": 999}),
    "tune of none at all": ({}, {"tune": 0}),
    "chains": ({"chains": 2}, {"chains": 3}),
    "chains by cores": ({"cores": 2}, {"cores": 3}),
    "seed": ({"random_seed": 1}, {"random_seed": 2}),
    "seed beside none": ({}, {"random_seed": 0}),
    "seeds": ({"random_seed": [1, 2]}, {"random_seed": [2, 1]}),
    "seed beyond 64 bits": ({"random_seed": 2**100}, {"random_seed": 2**100 + 1}),
    "seed and generator": ({"random_seed": 1}, {"random_seed": np.random.default_rng(1)}),
    "generators": (
        {"random_seed": np.random.default_rng(1)},
        {"random_seed": np.random.default_rng(2)},
    ),
    "kinds of generator": (
        {"random_seed": np.random.Generator(np.random.PCG64(1))},
        {"random_seed": np.random.Generator(np.random.PCG64DXSM(1))},
    ),
    "target_accept": ({"target_accept": 0.9}, {"target_accept": 0.9 + 1e-12}),
    "target_accept beside the default": ({}, {"target_accept": 0.9}),
    "nuts": ({}, {"nuts": {"max_treedepth": 5}}),
    "nuts values": ({"nuts": {"max_treedepth": 5}}, {"nuts": {"max_treedepth": 6}}),
    "argument of a step": ({}, {"max_treedepth": 5}),
    "sampler": ({"nuts_sampler": "pymc"}, {"nuts_sampler": "nutpie"}),
    "samplers of JAX": ({"nuts_sampler": "numpyro"}, {"nuts_sampler": "blackjax"}),
    "init": ({}, {"init": "adapt_diag"}),
    "inits": ({"init": "adapt_diag"}, {"init": "adapt_full"}),
    "jitter_max_retries": ({}, {"jitter_max_retries": 11}),
    "n_init": ({}, {"n_init": 100}),
    "initvals": ({}, {"initvals": {"m::mu": 0.0}}),
    "initvals values": ({"initvals": {"m::mu": 0.0}}, {"initvals": {"m::mu": 1e-12}}),
    "initvals names": (
        {"initvals": {"m::sigma": 1.0}},
        {"initvals": {"m::sigma_log__": 1.0}},
    ),
    "initvals for each chain": (
        {"chains": 2, "initvals": [{"m::mu": 0.1}, {"m::mu": 0.2}]},
        {"chains": 2, "initvals": [{"m::mu": 0.2}, {"m::mu": 0.1}]},
    ),
    "initvals strategies": (
        {"initvals": {"m::mu": "prior"}},
        {"initvals": {"m::mu": "support_point"}},
    ),
    "var_names": ({}, {"var_names": ["m::mu"]}),
    "var_names values": ({"var_names": ["m::mu"]}, {"var_names": ["m::sigma"]}),
    "var_names of none at all": ({}, {"var_names": []}),
    "discard_tuned_samples": ({}, {"discard_tuned_samples": False}),
    "keep_warning_stat": ({}, {"keep_warning_stat": True}),
    "idata_kwargs": ({}, {"idata_kwargs": {"log_likelihood": True}}),
    "idata_kwargs values": (
        {"idata_kwargs": {"log_likelihood": True}},
        {"idata_kwargs": {"log_likelihood": ["m::y"]}},
    ),
    "compile_kwargs": ({}, {"compile_kwargs": {"mode": "FAST_COMPILE"}}),
    "compile_kwargs values": (
        {"compile_kwargs": {"mode": "FAST_COMPILE"}},
        {"compile_kwargs": {"mode": "FAST_RUN"}},
    ),
}
if PYMC_5:
    DIFFERENT["nuts_sampler_kwargs"] = (
        {"nuts_sampler": "nutpie"},
        {"nuts_sampler": "nutpie", "nuts_sampler_kwargs": {"maxdepth": 5}},
    )
else:
    DIFFERENT["nuts_sampler_kwargs"] = ({}, {"nuts_sampler_kwargs": {"max_treedepth": 5}})
    DIFFERENT["backend"] = ({}, {"backend": "jax"})
    DIFFERENT["callback that rules nutpie out"] = ({}, {"callback": lambda trace, draw: None})


@pytest.mark.parametrize("case", EQUAL)
def test_request_is_the_same_for(case: str, model: pm.Model) -> None:
    left, right = EQUAL[case]
    assert token(model, **left) == token(model, **right)


@pytest.mark.parametrize("case", DIFFERENT)
def test_request_is_another_for(case: str, model: pm.Model) -> None:
    left, right = DIFFERENT[case]
    assert token(model, **left) == token(model, **left)
    assert token(model, **left) != token(model, **right)


def test_request_takes_draws_by_position(model: pm.Model) -> None:
    assert token(model, 50) == token(model, draws=50) != token(model)


def test_request_takes_initvals_by_name_and_by_variable(model: pm.Model) -> None:
    by_name = token(model, initvals={"m::mu": 0.5, "m::sigma": 2.0})
    by_variable = token(model, initvals={model["m::mu"]: 0.5, model["m::sigma"]: 2.0})
    assert by_name == by_variable
    mixed = [{"m::mu": 0.5}, {model["m::mu"]: 0.25}]
    named = [{"m::mu": 0.5}, {"m::mu": 0.25}]
    assert token(model, chains=2, initvals=mixed) == token(model, chains=2, initvals=named)


def test_request_depends_on_every_argument_that_is_not_about_looks(model: pm.Model) -> None:
    in_key = set(SampleCall(model, (), {})._options("pymc"))
    looks = {
        "progressbar",
        "progressbar_theme",
        "quiet",
        "cores",
        "mp_ctx",
        "blas_cores",
        "callback",
        "compute_convergence_checks",
    }
    elsewhere = {"model", "trace", "return_inferencedata", "nuts_sampler", "kwargs"}
    merged = set() if PYMC_5 else {"nuts_sampler_kwargs"}
    parameters = set(inspect.signature(pm.sampling.mcmc.sample).parameters)
    assert parameters - in_key == (looks | elsewhere | merged) & parameters


def test_request_depends_on_the_model(model: pm.Model) -> None:
    before = token(model)
    with model:
        pm.Deterministic("twice", 2 * model["m::mu"])
    assert token(model) != before


def test_request_is_the_same_for_a_model_built_again() -> None:
    def build() -> pm.Model:
        with pm.Model() as model:
            pm.Normal("x", pm.Normal("mu"), 1.0)
        return model

    assert token(build()) == token(build())


def test_request_depends_on_settings_of_pytensor(model: pm.Model) -> None:
    before = token(model, nuts_sampler="pymc")
    for settings in (
        {"numba__fastmath": not pytensor.config.numba__fastmath},
        {"floatX": "float32"},
        {"cxx": ""},
    ):
        with pytensor.config.change_flags(**settings):
            assert token(model, nuts_sampler="pymc") != before
    with pytensor.config.change_flags(cxx="/elsewhere/g++"):
        assert token(model, nuts_sampler="pymc") == before
    assert token(model, nuts_sampler="pymc") == before


def test_request_depends_on_versions(model: pm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = options.version
    for name in ("pymc", "pytensor", "numpy", "nutpie"):
        before = token(model, nuts_sampler="nutpie")
        with monkeypatch.context() as patch:
            patch.setattr(
                options, "version", lambda n, name=name: "0.0" if n == name else installed(n)
            )
            assert token(model, nuts_sampler="nutpie") != before


def test_request_of_pymcs_own_sampler_is_free_of_nutpies_version(
    model: pm.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = options.version
    before = token(model, nuts_sampler="pymc")
    monkeypatch.setattr(
        options, "version", lambda name: "0.0" if name == "nutpie" else installed(name)
    )
    assert token(model, nuts_sampler="pymc") == before


STEPS: dict[str, tuple[Callable[[pm.Model], Any], Callable[[pm.Model], Any]]] = {
    "step or none": (lambda m: None, lambda m: pm.NUTS()),
    "classes of step": (lambda m: pm.Metropolis([m["x"]]), lambda m: pm.Slice([m["x"]])),
    "variables of a step": (lambda m: pm.Slice([m["x"]]), lambda m: pm.Slice([m["z"]])),
    "one or two steps": (
        lambda m: [pm.Slice([m["x"]])],
        lambda m: [pm.Slice([m["x"]]), pm.Slice([m["z"]])],
    ),
    "order of steps": (
        lambda m: [pm.Slice([m["x"]]), pm.Slice([m["z"]])],
        lambda m: [pm.Slice([m["z"]]), pm.Slice([m["x"]])],
    ),
    "compound or list": (
        lambda m: CompoundStep([pm.Slice([m["x"]])]),
        lambda m: CompoundStep([pm.Slice([m["z"]])]),
    ),
    "Metropolis scaling": (
        lambda m: pm.Metropolis([m["x"]]),
        lambda m: pm.Metropolis([m["x"]], scaling=2.0),
    ),
    "Metropolis S": (
        lambda m: pm.Metropolis([m["z"]]),
        lambda m: pm.Metropolis([m["z"]], S=np.array([1.0, 2.0, 3.0])),
    ),
    "Metropolis S in the middle": (
        lambda m: pm.Metropolis([m["z"]], S=np.array([1.0, 2.0, 3.0])),
        lambda m: pm.Metropolis([m["z"]], S=np.array([1.0, 2.1, 3.0])),
    ),
    "Metropolis tune": (
        lambda m: pm.Metropolis([m["x"]]),
        lambda m: pm.Metropolis([m["x"]], tune=False),
    ),
    "Metropolis tune_interval": (
        lambda m: pm.Metropolis([m["x"]]),
        lambda m: pm.Metropolis([m["x"]], tune_interval=50),
    ),
    "Metropolis proposal_dist": (
        lambda m: pm.Metropolis([m["x"]]),
        lambda m: pm.Metropolis([m["x"]], proposal_dist=CauchyProposal),
    ),
    "Metropolis proposals of the user": (
        lambda m: pm.Metropolis([m["x"]], proposal_dist=one_step),
        lambda m: pm.Metropolis([m["x"]], proposal_dist=two_steps),
    ),
    "NUTS target_accept": (
        lambda m: pm.NUTS([m["x"]]),
        lambda m: pm.NUTS([m["x"]], target_accept=0.9),
    ),
    "NUTS max_treedepth": (
        lambda m: pm.NUTS([m["x"]]),
        lambda m: pm.NUTS([m["x"]], max_treedepth=8),
    ),
    "NUTS early_max_treedepth": (
        lambda m: pm.NUTS([m["x"]]),
        lambda m: pm.NUTS([m["x"]], early_max_treedepth=7),
    ),
    "NUTS step_scale": (
        lambda m: pm.NUTS([m["x"]]),
        lambda m: pm.NUTS([m["x"]], step_scale=0.5),
    ),
    "NUTS adapt_step_size": (
        lambda m: pm.NUTS([m["x"]]),
        lambda m: pm.NUTS([m["x"]], adapt_step_size=False),
    ),
    "NUTS gamma": (lambda m: pm.NUTS([m["x"]]), lambda m: pm.NUTS([m["x"]], gamma=0.1)),
    "NUTS k": (lambda m: pm.NUTS([m["x"]]), lambda m: pm.NUTS([m["x"]], k=0.7)),
    "NUTS t0": (lambda m: pm.NUTS([m["x"]]), lambda m: pm.NUTS([m["x"]], t0=11)),
    "NUTS Emax": (lambda m: pm.NUTS([m["x"]]), lambda m: pm.NUTS([m["x"]], Emax=500.0)),
    "NUTS scaling": (
        lambda m: pm.NUTS([m["x"]], scaling=np.array([1.0])),
        lambda m: pm.NUTS([m["x"]], scaling=np.array([2.0])),
    ),
    "NUTS is_cov": (
        lambda m: pm.NUTS([m["z"]], scaling=np.eye(3) * 2, is_cov=True),
        lambda m: pm.NUTS([m["z"]], scaling=np.eye(3) * 2, is_cov=False),
    ),
    "NUTS potential": (
        lambda m: pm.NUTS([m["x"]], potential=potential(1.0)),
        lambda m: pm.NUTS([m["x"]], potential=potential(2.0)),
    ),
    "HamiltonianMC path_length": (
        lambda m: pm.HamiltonianMC([m["x"]]),
        lambda m: pm.HamiltonianMC([m["x"]], path_length=1.0),
    ),
    "HamiltonianMC max_steps": (
        lambda m: pm.HamiltonianMC([m["x"]]),
        lambda m: pm.HamiltonianMC([m["x"]], max_steps=512),
    ),
    "Slice w": (lambda m: pm.Slice([m["x"]]), lambda m: pm.Slice([m["x"]], w=2.0)),
    "Slice tune": (lambda m: pm.Slice([m["x"]]), lambda m: pm.Slice([m["x"]], tune=False)),
    "DEMetropolisZ lamb": (
        lambda m: pm.DEMetropolisZ([m["z"]]),
        lambda m: pm.DEMetropolisZ([m["z"]], lamb=0.5),
    ),
    "DEMetropolisZ scaling": (
        lambda m: pm.DEMetropolisZ([m["z"]]),
        lambda m: pm.DEMetropolisZ([m["z"]], scaling=0.01),
    ),
    "DEMetropolisZ tune": (
        lambda m: pm.DEMetropolisZ([m["z"]]),
        lambda m: pm.DEMetropolisZ([m["z"]], tune="scaling"),
    ),
    "DEMetropolisZ tune_drop_fraction": (
        lambda m: pm.DEMetropolisZ([m["z"]]),
        lambda m: pm.DEMetropolisZ([m["z"]], tune_drop_fraction=0.5),
    ),
    "BinaryGibbsMetropolis transit_p": (
        lambda m: pm.BinaryGibbsMetropolis([m["b"]]),
        lambda m: pm.BinaryGibbsMetropolis([m["b"]], transit_p=0.5),
    ),
    "BinaryGibbsMetropolis order": (
        lambda m: pm.BinaryGibbsMetropolis([m["b"]], order="random"),
        lambda m: pm.BinaryGibbsMetropolis([m["b"]], order=[0]),
    ),
    "CategoricalGibbsMetropolis proposal": (
        lambda m: pm.CategoricalGibbsMetropolis([m["c"]]),
        lambda m: pm.CategoricalGibbsMetropolis([m["c"]], proposal="proportional"),
    ),
    "steps inside a list": (
        lambda m: [pm.Metropolis([m["n"]]), pm.Slice([m["x"]])],
        lambda m: [pm.Metropolis([m["n"]]), pm.Slice([m["x"]], w=3.0)],
    ),
}

if PYMC_5:
    STEPS["Slice iter_limit"] = (
        lambda m: pm.Slice([m["x"]]),
        lambda m: pm.Slice([m["x"]], iter_limit=100),
    )


def one_step(scale: Any) -> Callable[..., Any]:
    """Propose one step up."""
    return lambda rng=None, size=None: np.ones_like(scale)


def two_steps(scale: Any) -> Callable[..., Any]:
    """Propose two steps up."""
    return lambda rng=None, size=None: 2 * np.ones_like(scale)


def potential(scale: float) -> Any:
    """Make the mass matrix of one variable."""
    from pymc.step_methods.hmc.quadpotential import QuadPotentialDiagAdapt

    return QuadPotentialDiagAdapt(1, np.zeros(1), np.full(1, scale), 10, rng=1)


@pytest.mark.parametrize("case", STEPS)
def test_request_depends_on_steps_with_their_settings(case: str, mixed: pm.Model) -> None:
    left, right = STEPS[case]
    with mixed:
        tokens = [token(mixed, step=make(mixed)) for make in (left, left, right, right)]
    assert tokens[0] == tokens[1]
    assert tokens[2] == tokens[3]
    assert tokens[0] != tokens[2]


def test_request_depends_on_the_state_of_a_step(mixed: pm.Model) -> None:
    with mixed:
        step = pm.Metropolis([mixed["x"]])
        before = token(mixed, step=step)
        step.scaling = step.scaling * 1.1
    assert token(mixed, step=step) != before


def test_request_is_free_of_the_random_state_of_a_step(mixed: pm.Model) -> None:
    with mixed:
        left = pm.Metropolis([mixed["x"]], rng=1)
        right = pm.Metropolis([mixed["x"]], rng=2)
    # it is set anew for each chain
    assert token(mixed, step=left) == token(mixed, step=right)


def test_request_depends_on_a_step_class_of_the_user(mixed: pm.Model) -> None:
    class Sharp(pm.Metropolis):
        pass

    with mixed:
        own = token(mixed, step=Sharp([mixed["x"]]))
        theirs = token(mixed, step=pm.Metropolis([mixed["x"]]))
    assert own != theirs


def test_request_names_the_argument_that_has_no_value(model: pm.Model, tmp_path: Any) -> None:
    with (tmp_path / "open.txt").open("w") as file, pytest.raises(TokenError) as caught:
        token(model, nuts={"log_to": file})
    assert "argument 'nuts'" in str(caught.value)
    assert "log_to" in str(caught.value)


def test_call_says_why_it_cannot_be_cached(model: pm.Model) -> None:
    assert SampleCall(model, (), {}).why_not() is None
    multi = SampleCall(model, (), {"return_inferencedata": False}).why_not()
    assert multi is not None
    assert "return_inferencedata=False" in multi
    kept = SampleCall(model, (), {"trace": object()}).why_not()
    assert kept is not None
    assert "trace=" in kept


def test_label_reads_as_the_call(model: pm.Model) -> None:
    def label(*args: Any, **kwargs: Any) -> str:
        return list(SampleCall(model, args, kwargs).requests())[-1].label

    arguments = {"tune": 1000, "chains": 4}
    assert label(2000, **arguments) == "draws2000_tune1000_chains4"
    assert label(2000, random_seed=7, **arguments) == "draws2000_tune1000_chains4_seed7"
    many = label(2000, random_seed=[1, 2, 3, 4], **arguments)
    assert many == "draws2000_tune1000_chains4"


@pytest.mark.skipif(PYMC_5, reason="PyMC 5 never chooses nutpie")
def test_sampler_is_pymcs_where_a_variable_has_no_gradient() -> None:
    class Opaque(pt.Op if hasattr(pt, "Op") else pytensor.graph.Op):  # type: ignore[misc]
        itypes = (pt.dscalar,)
        otypes = (pt.dscalar,)

        def perform(self, node: Any, inputs: Any, outputs: Any) -> None:
            outputs[0][0] = np.asarray(inputs[0] ** 2)

    with pm.Model() as model:
        pm.Potential("p", Opaque()(pm.Normal("x")))
    assert token(model) == token(model, nuts_sampler="pymc")


@pytest.mark.skipif(PYMC_5, reason="PyMC 5 never chooses nutpie")
def test_sampler_is_pymcs_for_a_discrete_variable(mixed: pm.Model) -> None:
    assert token(mixed) == token(mixed, nuts_sampler="pymc")
