"""What is more of the same: where the answer is yes PyMC draws the same, and it is no elsewhere."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
from pymc.sampling import mcmc
from pymc.step_methods.compound import BlockedStep, Competence
from pymc.step_methods.hmc.quadpotential import QuadPotentialDiagAdapt
from xarray import DataTree

from cloudposterior.operations.sample import SampleCall
from cloudposterior.posterior import from_tree, to_tree
from cloudposterior.samplers import kept, more
from cloudposterior.samplers.longer import ATTRIBUTES_OF_A_RUN, joined_tree, later_segment
from cloudposterior.samplers.more import chains_go_on, draws_go_on
from cloudposterior.samplers.protocol import Budget
from cloudposterior.samplers.pymc_chains import PyMCChains
from cloudposterior.samplers.pymc_join import PyMCJoin
from cloudposterior.samplers.resolve import resolve
from cloudposterior.samplers.states import plain_of, state_of
from tests.cluster import models, sameness
from tests.samplers.drawing import OPTIONS, Chains, assert_same_draws, discrete, draws_of, normal

PYMC_5 = sameness.PYMC_5
FEWER, MORE = 7, 12

pytestmark = pytest.mark.filterwarnings(
    "ignore:QuadPotentialFullAdapt is an experimental:UserWarning"
)


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Compile as little as may be."""
    with pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False):
        yield
    kept._kept.clear()


def asked(answer: Callable[..., bool], model: pm.Model, **options: Any) -> bool:
    """Ask whether a call goes on."""
    call = SampleCall(model, (), {**OPTIONS, **options}, on_cluster=True)
    return answer(
        model,
        resolved=resolve(call.arguments, call.extra),
        arguments=call.arguments,
        extra=call.extra,
        settings=call.settings,
    )


def plain(model: pm.Model, **options: Any) -> Any:
    """Sample as PyMC does."""
    with model:
        return pm.sample(**{**OPTIONS, **options}, cores=1, compute_convergence_checks=False)


@dataclass
class Case:
    """A call to ask for more of."""

    build: Callable[[], pm.Model]
    options: dict[str, Any] = field(default_factory=dict)
    long: bool = True
    """Whether it takes a mass matrix that was adapted."""

    def call(self, **more: Any) -> dict[str, Any]:
        return {**OPTIONS, **({"tune": 112} if self.long else {}), **self.options, **more}


CASES: dict[str, Case] = {
    "NUTS": Case(normal),
    "adapt_diag": Case(normal, {"init": "adapt_diag"}),
    "in capitals": Case(normal, {"init": "Jitter+Adapt_Diag"}, long=False),
    "NUTS and Metropolis": Case(models.changepoint, {"init": "advi"}),
    "Gibbs": Case(models.mixture),
    "without a gradient": Case(models.opaque),
    "discrete": Case(discrete, long=False),
    "transformed, tuning kept": Case(
        models.normal,
        {"discard_tuned_samples": False, "idata_kwargs": {"include_transformed": True}},
        long=False,
    ),
    "tuning kept": Case(models.regression, {"discard_tuned_samples": False}, long=False),
    "no tuning": Case(normal, {"tune": 0}, long=False),
    "initial values": Case(normal, {"initvals": {"s": 2.0, "x": np.ones(3)}}, long=False),
    "initial values by name": Case(normal, {"initvals": {"s": "prior"}}, long=False),
    "settings of NUTS": Case(
        normal, {"nuts": {"target_accept": 0.95, "max_treedepth": 3}}, long=False
    ),
    "target_accept": Case(normal, {"target_accept": 0.6}, long=False),
    "settings of Metropolis": Case(discrete, {"metropolis": {"tune_interval": 3}}, long=False),
    "variables chosen": Case(models.normal, {"var_names": ["small::mu"]}, long=False),
}
DRAWS_ONLY = {
    "adapt_full": Case(normal, {"init": "adapt_full"}),
    "jitter+adapt_full": Case(normal, {"init": "jitter+adapt_full"}),
    "initial values for each": Case(
        normal, {"initvals": [{"s": 2.0}, {"x": [1.0, 2.0, 3.0]}]}, long=False
    ),
}
CHAINS_ONLY = {"from gradients": Case(normal, {"init": "jitter+adapt_diag_grad"})}


def part_of(chains: Chains, numbers: range, draws: int) -> tuple[DataTree, dict[int, Any]]:
    """Draw some chains of a call; give their result, and where they stand."""
    join, states = PyMCJoin(chains.call.model, chains.call.arguments), {}
    for chain in numbers:
        state = chains.start(chain)
        if state.held is None:
            whole = Budget(1e6, lambda: False)
            (part,) = PyMCChains().advance(chains.model, chains.run, state, whole)[1]
            join.add(part)
            continue
        while not state.finished:
            # cut once, as a chain may be at any draw
            state, part = chains.advance(state, min(9, state.total - state.drawn))
            join.add(part)
        states[chain] = state
    others = [chain for chain in range(chains.call.chains) if chain not in numbers]
    return to_tree(join.finish(1.0, without=others)), states


def more_draws(case: Case) -> DataTree:
    """Draw fewer, and then the others."""
    model = case.build()
    fewer = Chains(model, **case.call(draws=FEWER))
    first, states = part_of(fewer, range(2), FEWER)
    kept._kept.clear()
    model = case.build()
    longer = Chains(model, **case.call(draws=MORE))
    call = {**longer.call.arguments, "draws": MORE - FEWER, "tune": 0}
    join = PyMCJoin(model, call)
    for chain, state in states.items():
        _, begun = fewer.advance(fewer.start(chain), 1)
        again = replace(state_of(plain_of(state)), total=state.total + MORE - FEWER)
        _, part = longer.advance(again, MORE - FEWER)
        join.add(later_segment(part, begun.plan, state.drawn))
    return joined_tree(first, to_tree(join.finish(2.0)), along="draw")


def more_chains(case: Case, before: int, after: int) -> DataTree:
    """Draw fewer chains, and then the others."""
    first, _ = part_of(Chains(case.build(), **case.call(chains=before)), range(before), MORE)
    kept._kept.clear()
    chains = Chains(case.build(), **case.call(chains=after))
    later, _ = part_of(chains, range(before, after), MORE)
    return joined_tree(first, later, along="chain")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES | DRAWS_ONLY)
def test_more_draws_are_those_of_the_long_run(name: str) -> None:
    case = (CASES | DRAWS_ONLY)[name]
    assert asked(draws_go_on, case.build(), **case.call(draws=MORE))
    expected = plain(case.build(), **case.call(draws=MORE))
    sameness.assert_same_result(from_tree(more_draws(case)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"), [(2, 3), pytest.param(1, 2, marks=pytest.mark.once)], ids=str
)
@pytest.mark.parametrize("name", CASES | CHAINS_ONLY)
def test_more_chains_are_those_of_the_long_run(name: str, before: int, after: int) -> None:
    case = (CASES | CHAINS_ONLY)[name]
    assert asked(chains_go_on, case.build(), **case.call())
    expected = plain(case.build(), **case.call(chains=after))
    sameness.assert_same_result(from_tree(more_chains(case, before, after)), expected)


# where the answer is no, since PyMC draws otherwise


def first_chain(model: pm.Model, **options: Any) -> dict[str, np.ndarray]:
    kept._kept.clear()
    chains = Chains(model, **options)
    state = chains.start(0)
    return draws_of(chains.advance(state, state.total)[1])


def are_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    try:
        assert_same_draws(one, other)
    except AssertionError:
        return False
    return True


OTHERWISE: dict[str, dict[str, Any]] = {
    "mean of the initial points": {"init": "jitter+adapt_full"},
    "mean of equal initial points": {"init": "adapt_full", "initvals": {"x": [0.1, 0.7, 0.3]}},
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_chains_are_others_where_all_are_looked_at(name: str) -> None:
    options = OTHERWISE[name]
    assert not asked(chains_go_on, normal(), **options)
    drawn = [first_chain(normal(), **options, chains=chains) for chains in (1, 2, 3)]
    assert not all(are_same(one, drawn[0]) for one in drawn)


def test_single_chain_tunes_though_it_was_told_not_to() -> None:
    options = {"slice": {"tune": False}}
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Normal("y", models._opaque(x), 1.0, observed=models.Y)
    assert asked(chains_go_on, model)
    assert not asked(chains_go_on, model, **options)
    one, other = (first_chain(model, **options, chains=chains) for chains in (1, 2))
    assert not are_same(one, other)


class Counting(pm.Metropolis):
    """A step method of the user's that looks at how many draws there will be."""

    def setup_chain(self, rng: Any, tune: int, draws: int) -> None:
        super().setup_chain(rng, tune, draws)
        self.rng.normal(size=draws)

    @staticmethod
    def competence(var: Any, has_grad: Any = False) -> Competence:
        return Competence.IDEAL


@pytest.mark.skipif(PYMC_5, reason="PyMC 5 tells no step method how many draws there will be")
def test_draws_are_others_where_their_number_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(draws_go_on, normal())
    monkeypatch.setattr(mcmc, "STEP_METHODS", [Counting])
    assert not asked(draws_go_on, normal())
    assert not asked(chains_go_on, normal())
    few, many = (plain(normal(), draws=draws)["posterior"]["x"] for draws in (5, 10))
    assert not np.array_equal(few, many[:, :5])


@pytest.mark.slow
def test_advi_map_is_another_each_time() -> None:
    options = {"init": "advi_map", "n_init": 20}
    assert not asked(draws_go_on, normal(), **options)
    assert not asked(chains_go_on, normal(), **options)
    one, other = (plain(normal(), **options)["posterior"]["x"] for _ in range(2))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("init", ["advi", "advi+adapt_diag", "map", "advi_map", "unheard-of"])
def test_mass_matrix_that_is_computed_anew_does_not_go_on(init: str) -> None:
    assert not asked(draws_go_on, normal(), init=init)
    assert not asked(chains_go_on, normal(), init=init)


def test_state_that_pymc_cannot_say_does_not_go_on() -> None:
    assert not asked(draws_go_on, normal(), init="jitter+adapt_diag_grad")


GIVEN: dict[str, Callable[[pm.Model], Any]] = {
    "NUTS": lambda m: pm.NUTS(model=m),
    "Metropolis": lambda m: pm.Metropolis(model=m),
    "a list": lambda m: [pm.Slice(m.value_vars[:1], model=m)],
    "CompoundStep": lambda m: pm.step_methods.CompoundStep([pm.Slice(model=m)]),
    "DEMetropolisZ": lambda m: pm.DEMetropolisZ(model=m),
    "DEMetropolis": lambda m: pm.DEMetropolis(model=m),
    "the user's own": lambda m: models.Walk(m.value_vars, model=m),
    "derived from PyMC's": lambda m: models.Warier(m.value_vars[:1], model=m),
}


@pytest.mark.parametrize("name", GIVEN)
def test_step_that_is_given_does_not_go_on(name: str) -> None:
    model = normal()
    options = {"step": GIVEN[name](model), "chains": 4, "tune": 5}
    assert not asked(draws_go_on, model, **options)
    assert not asked(chains_go_on, model, **options)


def _three(seed: Any = None) -> float:
    return 3.0


NOT_KNOWN: dict[str, dict[str, Any]] = {
    "a callable to begin from": {"initvals": {"s": _three}},
    "one of two to begin from": {"initvals": [{"s": _three}, None]},
    "a variable to begin from": {"initvals": {"s": pytensor.shared(2.0)}},
    "objects to begin from": {"initvals": {"s": np.array(None)}},
    "a generator": {"random_seed": np.random.default_rng(3)},
    "a bit generator": {"random_seed": np.random.PCG64(3)},
    "a callback": {"callback": _three},
    "a trace": {"trace": pm.backends.NDArray},
    "warnings": {"keep_warning_stat": True},
    "a log-likelihood": {"idata_kwargs": {"log_likelihood": True}},
    "a log-prior": {"idata_kwargs": {"log_prior": True}},
    "a mass matrix": {"nuts": {"potential": QuadPotentialDiagAdapt(4, np.zeros(4))}},
    "steps at random": {"nuts": {"step_rand": _three}},
    "an array": {"nuts": {"scaling": np.ones(4)}},
    "settings within settings": {"nuts": {"scaling": {"s": 2.0}}},
    "JAX": {"compile_kwargs": {"mode": "JAX"}},
    "a mode of the user's": {"compile_kwargs": {"mode": pytensor.compile.mode.FAST_COMPILE}},
}


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_what_is_not_known_does_not_go_on(name: str) -> None:
    assert not asked(draws_go_on, normal(), **NOT_KNOWN[name])
    assert not asked(chains_go_on, normal(), **NOT_KNOWN[name])


@pytest.mark.filterwarnings("ignore:.*return_inferencedata=False.*")
def test_multitrace_does_not_go_on() -> None:
    assert not asked(draws_go_on, normal(), return_inferencedata=False)


@pytest.mark.parametrize("sampler", ["nutpie"])
def test_sampler_of_others_does_not_go_on(sampler: str) -> None:
    pytest.importorskip(sampler)
    assert not asked(draws_go_on, normal(), nuts_sampler=sampler)
    assert not asked(chains_go_on, normal(), nuts_sampler=sampler)


def test_initial_values_for_each_chain_are_for_so_many_chains() -> None:
    initvals = [{"s": 2.0}, {"s": 1.0}]
    assert asked(draws_go_on, normal(), initvals=initvals)
    assert not asked(chains_go_on, normal(), initvals=initvals)


def test_fast_mathematics_do_not_repeat() -> None:
    call = SampleCall(normal(), (), OPTIONS, on_cluster=True)
    asks = {"arguments": call.arguments, "extra": {}, "resolved": resolve(call.arguments, {})}
    settings = {**call.settings, "numba__fastmath": "True"}
    assert draws_go_on(call.model, **asks, settings=call.settings)
    assert not draws_go_on(call.model, **asks, settings=settings)
    assert not chains_go_on(call.model, **asks, settings=settings)


def test_model_that_draws_within_its_density_does_not_repeat() -> None:
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Simulator("y", lambda rng, x, size: rng.normal(x, size=size), x, observed=models.Y)
    assert not asked(draws_go_on, model)
    assert not asked(chains_go_on, model)


# what is used of PyMC


def test_call_says_which_steps_it_takes() -> None:
    def of(model: pm.Model, **options: Any) -> tuple[Any, ...]:
        call = SampleCall(model, (), {**OPTIONS, **options})
        found = resolve(call.arguments, call.extra)
        return set(found.steps), found.given, found.init

    assert of(normal()) == ({pm.NUTS}, False, "auto")
    assert of(normal(), init="ADVI") == ({pm.NUTS}, False, "advi")
    assert of(models.changepoint(), init="advi") == ({pm.NUTS, pm.Metropolis}, False, None)
    model = normal()
    step = pm.Slice(model.value_vars, model=model)
    assert of(model, step=step) == ({pm.Slice}, True, None)
    assert of(model, step=pm.NUTS(model=model)) == ({pm.NUTS}, True, None)


def test_ways_to_initialise_are_those_that_are_known() -> None:
    """A new one, or another default, has to be looked at."""
    source = inspect.getsource(mcmc.init_nuts)
    found = set(re.findall(r'(?:if|elif) init == "([^"]+)"', source))
    found |= set(re.findall(r'init in \("([^"]+)", "([^"]+)"\)', source)[0] if not PYMC_5 else ())
    known = more._DRAWS_GO_ON | more._CHAINS_GO_ON | {"advi", "advi+adapt_diag", "advi_map", "map"}
    assert found == (known if PYMC_5 else known | {"jitter+map"}) - {None}
    assert 'if init == "auto":\n        init = "jitter+adapt_diag"' in source


def test_diagonal_mass_matrix_forgets_the_mean_before_it_is_used() -> None:
    """What `chains_go_on` relies on: the mean of all chains' initial points changes nothing."""
    rng = np.random.default_rng(3)
    one, other = (QuadPotentialDiagAdapt(2, np.full(2, mean), np.ones(2), 10) for mean in (0, 9.0))
    for _ in range(300):
        sample = rng.normal(size=2)
        for potential in (one, other):
            potential.update(sample, None, True)
        assert np.array_equal(one._var, other._var)
    assert not np.array_equal(one._var, np.ones(2))


@pytest.mark.skipif(PYMC_5, reason="PyMC 5 tells no step method how many draws there will be")
@pytest.mark.parametrize(
    "kind", sorted(more._STEPS, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__
)
def test_step_method_does_not_look_at_the_number_of_draws(kind: type[BlockedStep]) -> None:
    for base in kind.__mro__:
        code = getattr(vars(base).get("setup_chain"), "__code__", None)
        if code is None:
            continue
        source = inspect.getsource(base.setup_chain).partition('"""')
        body = (source[2].partition('"""')[2] if source[1] else source[0]).splitlines()
        uses = [line for line in body if "draws" in line and "def setup_chain" not in line]
        assert all("super().setup_chain(rng, tune, draws)" in line for line in uses)


# results that are joined


def test_parts_that_do_not_fit_are_refused() -> None:
    whole = to_tree(plain(models.normal(), draws=6))
    first, later = cut(whole, 0, 4), cut(whole, 4, 6)
    assert joined_tree(first, later, along="draw")["posterior"].sizes["draw"] == 6
    with pytest.raises(ValueError, match="lacks a draw"):
        joined_tree(cut(whole, 1, 4), later, along="draw")
    others = later.copy()
    others["posterior"] = others["posterior"].to_dataset().drop_vars("small::spread")
    with pytest.raises(ValueError, match="other variables in posterior"):
        joined_tree(first, others, along="draw")
    others = later.copy()
    others["posterior"] = others["posterior"].to_dataset().assign_coords(part=["a", "c"])
    with pytest.raises(ValueError, match="other coordinates in posterior/part"):
        joined_tree(first, others, along="draw")
    others = later.copy()
    others["posterior"] = others["posterior"].to_dataset().astype("float32")
    with pytest.raises(ValueError, match="do not fit in posterior/"):
        joined_tree(first, others, along="draw")
    others = later.copy()
    del others["sample_stats"]
    with pytest.raises(ValueError, match="has no sample_stats"):
        joined_tree(first, others, along="draw")
    with pytest.raises(ValueError, match="do not fit in posterior/"):
        joined_tree(first, later, along="chain")


def cut(tree: DataTree, begin: int, end: int) -> DataTree:
    groups = {name: child.to_dataset() for name, child in tree.children.items()}
    for name in ("posterior", "sample_stats"):
        groups[name] = groups[name].isel(draw=slice(begin, end))
    return DataTree.from_dict(groups)


def test_joined_result_says_how_long_both_parts_took() -> None:
    whole = to_tree(plain(models.normal(), draws=6, discard_tuned_samples=False))
    first, later = cut(whole, 0, 4), cut(whole, 4, 6)
    for seconds, part in ((1.5, first), (2.0, later)):
        for group in part.children.values():
            if "sampling_time" in group.attrs:
                group.attrs["sampling_time"] = seconds
        part.attrs["cloudposterior_token"] = str(seconds)
    later["posterior"].attrs.update(created_at="now", tuning_steps=0)
    joined = joined_tree(first, later, along="draw")
    assert joined["posterior"].attrs["created_at"] == "now"
    assert joined["posterior"].attrs["tuning_steps"] == OPTIONS["tune"]
    assert joined["warmup_posterior"].attrs["sampling_time"] == 3.5
    assert joined.attrs["cloudposterior_token"] == "2.0"
    for name, group in whole.children.items():
        got = {k: v for k, v in joined[name].attrs.items() if k not in ATTRIBUTES_OF_A_RUN}
        assert got == {k: v for k, v in group.attrs.items() if k not in ATTRIBUTES_OF_A_RUN}
    # neither part is another by now
    assert first["posterior"].attrs["sampling_time"] == 1.5


def test_parts_of_two_clients_of_one_run_fit_together() -> None:
    """Each keeps what it has when it looks, under the same names."""
    chains = Chains(normal(), chains=1)
    joins = [PyMCJoin(chains.call.model, chains.call.arguments) for _ in range(3)]
    state, parts = chains.start(0), {}
    for until in (8, 12, 20, 25):
        state, segment = chains.advance(state, until - state.drawn)
        for join in joins[:2]:
            join.add(segment, state)
        parts[until] = [join.part(0, 0) for join in joins[:2]]
    (one, _), (_, other) = parts[12], (None, joins[1].part(0, 8))
    assert one is not None and other is not None
    together = joins[2]
    reached = together.add_part(0, one)
    assert reached is not None and together.drawn(0) == reached.drawn == 12
    assert together.add_part(0, one) is None
    reached = together.add_part(0, other)
    assert reached is not None and together.drawn(0) == reached.drawn == 25
    values, expected = together.part(0, 0), joins[0].part(0, 0)
    assert values is not None and expected is not None
    for group in expected.children:
        for name, array in expected[group].data_vars.items():
            assert np.array_equal(values[group][name], array, equal_nan=True), name
    late = joins[0].part(0, 20)
    assert late is not None
    with pytest.raises(ValueError, match="do not follow on"):
        PyMCJoin(chains.call.model, chains.call.arguments).add_part(0, late)
