"""Where a chain stands goes through a file, and the chain goes on as if nothing had been."""

from __future__ import annotations

import copy
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
from pymc import step_methods
from pymc.step_methods.compound import BlockedStep, CompoundStep
from pymc.step_methods.metropolis import CauchyProposal
from pymc.step_methods.state import DataClassState, dataclass_state

from cloudposterior.cache import Cache, DiskCache, MemoryCache, Record
from cloudposterior.samplers import kept
from cloudposterior.samplers.plain_values import read_plain, write_plain
from cloudposterior.samplers.protocol import Budget, Run, State
from cloudposterior.samplers.pymc_chains import Held, PyMCChains
from cloudposterior.samplers.seeds import packed_seed
from cloudposterior.samplers.states import plain_of, state_of, states_of_tree, tree_of_states
from tests.samplers.drawing import (
    OPTIONS,
    Chains,
    Draws,
    assert_same_draws,
    discrete,
    draws_of,
    normal,
)

Build = Callable[[], pm.Model]

DRAWS, TUNE = OPTIONS["draws"], OPTIONS["tune"]
LONG_TUNE = 115
"""Enough for the mass matrix to adapt: its first window ends at 101."""


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Compile as little as may be."""
    with pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False):
        yield
    kept._kept.clear()


@pytest.fixture(params=["disk", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return DiskCache(tmp_path) if request.param == "disk" else MemoryCache()


def through(cache: Cache, state: State) -> State:
    """Send a state through a cache, and check that nothing of it is lost."""
    token = "a" * 32
    record = Record(token, "m", "l", {}, {}, "2026-01-01T00:00:00+00:00", 1.0, 3)
    cache.put(tree_of_states({1: state}), record)
    found = cache.get(token, model="m", label="l")
    assert found is not None
    (again,) = states_of_tree(found[0]).values()
    assert_same(again, state)
    return again


def assert_same(one: Any, other: Any) -> None:
    """Check that two values are the same, with all types within."""
    assert type(one) is type(other)
    if isinstance(other, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
        assert one.flags.c_contiguous == other.flags.c_contiguous
        assert one.flags.writeable
    elif isinstance(other, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(other, dict):
        assert list(one) == list(other)
        for name in other:
            assert_same(one[name], other[name])
    elif hasattr(other, "__dataclass_fields__"):
        assert_same(vars(one), vars(other))
    elif isinstance(other, Exception):
        assert_same(one.args, other.args)
    else:
        assert one == other or (one != one and other != other)


def of(name: str) -> Callable[[pm.Model], Any]:
    """Choose the variables of a model by name."""
    return lambda model: [model.rvs_to_values[model[name]]]


STEPS: dict[str, tuple[Build, Callable[[pm.Model], Any]]] = {
    "NUTS": (normal, lambda m: pm.NUTS(model=m)),
    "NUTS with a matrix": (normal, lambda m: pm.NUTS(model=m, scaling=np.eye(4) + 0.1)),
    "HamiltonianMC": (normal, lambda m: pm.HamiltonianMC(model=m)),
    "Metropolis": (normal, lambda m: pm.Metropolis(model=m, tune_interval=5)),
    "Metropolis for all": (
        normal,
        lambda m: pm.Metropolis(model=m, blocked=True, tune_interval=5),
    ),
    "Metropolis with a proposal": (
        normal,
        lambda m: pm.Metropolis(model=m, proposal_dist=CauchyProposal, tune_interval=5),
    ),
    "Metropolis with a covariance": (
        normal,
        lambda m: pm.Metropolis(m.value_vars[:1], model=m, S=np.eye(3) + 0.1, tune_interval=5),
    ),
    "Metropolis for integers": (
        discrete,
        lambda m: pm.Metropolis(of("n")(m), model=m, tune_interval=5),
    ),
    "DEMetropolisZ": (normal, lambda m: pm.DEMetropolisZ(model=m, tune_interval=5)),
    "DEMetropolisZ for lambda": (
        normal,
        lambda m: pm.DEMetropolisZ(model=m, tune="lambda", tune_drop_fraction=0.3),
    ),
    "Slice": (normal, lambda m: pm.Slice(model=m)),
    "BinaryMetropolis": (discrete, lambda m: pm.BinaryMetropolis(of("b")(m), model=m)),
    "BinaryGibbsMetropolis": (discrete, lambda m: pm.BinaryGibbsMetropolis(of("b")(m), model=m)),
    "CategoricalGibbsMetropolis": (
        discrete,
        lambda m: pm.CategoricalGibbsMetropolis(of("z")(m), model=m),
    ),
    "CategoricalGibbsMetropolis in proportion": (
        discrete,
        lambda m: pm.CategoricalGibbsMetropolis(of("z")(m), model=m, proposal="proportional"),
    ),
    "CompoundStep": (
        normal,
        lambda m: CompoundStep(
            [pm.Slice(m.value_vars[:1], model=m), pm.NUTS(m.value_vars[1:], model=m)]
        ),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_chain_of_a_step_goes_on_from_a_file(name: str, tmp_path: Path) -> None:
    build, given = STEPS[name]
    model = build()
    chain = Chains(model, step=given(model))
    cut = chain.draws(1, 13, TUNE, 27, through=lambda state: through(DiskCache(tmp_path), state))
    assert_same_draws(cut, chain.draws())


def test_chain_goes_on_from_any_cache(cache: Cache) -> None:
    chain = Chains(discrete())
    cut = chain.draws(9, 25, through=lambda state: through(cache, state))
    assert_same_draws(cut, chain.draws())


# `advi_map` gives other draws each time, in plain PyMC too
INITS = {
    **dict.fromkeys(["auto", "adapt_diag", "adapt_full", "jitter+adapt_full"], (60, 105, 120)),
    **dict.fromkeys(["advi", "advi+adapt_diag", "map"], (105,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("init", INITS)
def test_chain_of_an_init_goes_on_from_a_file(init: str, tmp_path: Path) -> None:
    chain = Chains(normal(), init=init, tune=LONG_TUNE, n_init=50)
    cut = chain.draws(*INITS[init], through=lambda state: through(DiskCache(tmp_path), state))
    assert_same_draws(cut, chain.draws())


def test_chain_whose_state_pymc_cannot_say_is_drawn_whole() -> None:
    chain = Chains(normal(), init="jitter+adapt_diag_grad", tune=LONG_TUNE)
    state = chain.start()
    assert state.held is None
    with pytest.raises(TypeError, match="drawn whole"):
        plain_of(state)
    state, (part,) = PyMCChains().advance(
        chain.model, chain.run, state, Budget(1e-9, lambda: False)
    )
    assert state.finished and part.draws == LONG_TUNE + DRAWS


def test_mass_matrix_of_the_users_is_drawn_whole() -> None:
    class Mine(step_methods.hmc.quadpotential.QuadPotentialDiag):
        """Learns, in attributes that no state names."""

    model = normal()
    step = pm.NUTS(model=model, potential=Mine(np.ones(4)))
    assert Chains(model, step=step).start().held is None


def test_chain_whose_state_pymc_does_not_take_back_is_drawn_whole() -> None:
    model = normal()
    step = pm.DEMetropolisZ(model=model, mode=pytensor.compile.mode.FAST_COMPILE)
    chains = Chains(model, step=step)
    state = chains.start()
    assert state.held is None
    state, (part,) = PyMCChains().advance(
        chains.model, chains.run, state, Budget(1e-9, lambda: False)
    )
    assert state.finished
    assert part.draws == TUNE + DRAWS


def _go_on(path: Path, run: Run, model: bytes) -> Draws:
    found = DiskCache(path).get("a" * 32, model="m", label="l")
    assert found is not None
    state = states_of_tree(found[0])[1]
    state, (part,) = PyMCChains().advance(model, run, state, Budget(1e6, lambda: False))
    assert state.finished
    return draws_of(part)


@pytest.mark.slow
def test_chain_goes_on_in_another_process(tmp_path: Path) -> None:
    chain = Chains(normal(), tune=LONG_TUNE)
    state, _ = chain.advance(chain.start(), 104)
    through(DiskCache(tmp_path), state)
    _, rest = chain.advance(state, state.total - 104)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        drawn = other.submit(_go_on, tmp_path, chain.run, chain.model).result()
    assert_same_draws(drawn, draws_of(rest))


# what is written


def test_large_arrays_are_variables() -> None:
    with pm.Model() as model:
        pm.Normal("x", shape=40)
    state = Chains(model, init="adapt_full").start()
    tree = tree_of_states({1: state})
    assert max(v.nbytes for v in tree["chain_1"].data_vars.values()) == 40 * 40 * 8
    assert len(repr(tree["chain_1"].attrs)) < 10_000
    assert_same(states_of_tree(tree), {1: state})


def test_states_of_many_chains_are_one_tree(cache: Cache) -> None:
    chain = Chains(normal())
    one = chain.start()
    states = {3: replace(one, chains=(3,)), 1: one}
    assert_same(states_of_tree(tree_of_states(states)), states)
    assert states_of_tree(tree_of_states({})) == {}


VALUES: dict[str, Any] = {
    "big integer": 2**130,
    "negative zero": -0.0,
    "not a number": float("nan"),
    "numpy scalars": [np.float32(1.5), np.bool_(True), np.int8(3)],
    "a few floats": [0.1, 0.2],
    "many floats": [0.1, float("nan"), float("-inf"), -0.0, 0.5],
    "many numpy floats": [np.float64(x) for x in range(6)],
    "floats of two kinds": [0.1, np.float64(0.1), 0.2, 0.3, 0.4],
    "many arrays": [np.arange(3.0) + i for i in range(6)],
    "arrays of two shapes": [np.arange(3.0 + i) for i in range(6)],
    "many arrays without dimensions": [np.array(float(i)) for i in range(6)],
    "many integers": list(range(6)),
    "a matrix by columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "many matrices by columns": [np.asfortranarray(np.eye(2)[:, :1] * np.ones(2))] * 5,
    "booleans": np.array([True, False]),
    "no elements": np.empty((0, 3), dtype="f4"),
    "a dictionary": {"state": 1, "variable": {"dict": (1, [2, {}])}, "": None},
    "dtypes": [np.dtype("f8"), np.dtype(">i2"), np.dtype("M8[ns]")],
    "an error": np.linalg.LinAlgError("no"),
    "another": ValueError("a", 1),
}


@pytest.mark.parametrize("name", VALUES)
def test_value_comes_back_as_it_was(name: str, cache: Cache) -> None:
    value = VALUES[name]
    state = State((1,), 0, 9, Held({}, (empty_state(), [])))
    plain = plain_of(state)
    assert_same(read_plain(write_plain(value, "it")), value)
    # and through a cache, in the place of a field
    state = State((1,), 0, 9, Held({}, (Anything(rng=value), [])))
    assert plain.keys() == plain_of(state).keys()
    through(cache, state)


@dataclass_state
class Anything(DataClassState):
    rng: Any


def empty_state() -> DataClassState:
    return Anything(rng=None)


@pytest.mark.parametrize("number", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_generator_comes_back_as_it_was(number: str, cache: Cache) -> None:
    bits = getattr(np.random, number)(np.random.SeedSequence([3, 4], spawn_key=(1, 2)))
    bits.seed_seq.spawn(3)
    state = packed_seed(np.random.Generator(bits))
    through(cache, State((1,), 0, 9, Held({}, (Anything(rng=state), []))))


REFUSED: dict[str, Any] = {
    "an object": object(),
    "a class": np.float64,
    "a function": len,
    "a set": {1},
    "a subclass of a tuple": os.stat_result(range(10)),
    "a key that is no text": {1: 2},
    "an array of objects": np.array([None]),
    "an array of records": np.zeros(1, dtype=[("a", "f8")]),
    "another error": OSError("no"),
    "something within": [{"a": (1, len)}],
}


@pytest.mark.parametrize("name", REFUSED)
def test_value_that_no_file_holds_is_named(name: str) -> None:
    held = Held({}, (Anything(rng=REFUSED[name]), []))
    with pytest.raises(TypeError, match=r"Anything\.rng"):
        plain_of(State((1,), 0, 9, held))


def test_state_that_holds_more_than_its_fields_is_refused() -> None:
    state = empty_state()
    vars(state)["more"] = 1
    with pytest.raises(TypeError, match="more or less"):
        plain_of(State((1,), 0, 9, Held({}, (state, []))))


def test_state_of_a_name_that_two_classes_have_is_refused() -> None:
    def make() -> type[DataClassState]:
        @dataclass_state
        class Twice(DataClassState):
            pass

        return Twice

    one, other = make(), make()
    for kind in (one, other):
        with pytest.raises(TypeError, match="two of that name"):
            plain_of(State((1,), 0, 9, Held({}, (kind(), []))))


# what is read


def odd(*path: Any, value: Any) -> Callable[[Any], Any]:
    """Put a value into the place of another."""

    def change(plain: Any) -> Any:
        place = plain
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return plain

    return change


def deep(plain: Any) -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return {**plain, "point": value}


GENERATOR = {"bit_generator": "PCG64"}
SEED = {"entropy": 1, "spawn_key": (), "pool_size": 4, "n_children_spawned": 0}

ODD: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda plain: None,
    "text": lambda plain: "state",
    "a part less": lambda plain: {k: v for k, v in plain.items() if k != "tally"},
    "a part more": lambda plain: {**plain, "more": 1},
    "a class by name": odd("step", "state", 0, value="os.system"),
    "a class of the standard library": odd("step", "state", 0, value="subprocess.Popen"),
    "the base of states": odd(
        "step", "state", value=["pymc.step_methods.state.DataClassState", []]
    ),
    "a class that is no text": odd("step", "state", 0, value=["a"]),
    "no class": odd("step", "state", value=[]),
    "a field less": lambda plain: odd("step", "state", 1, value=plain["step"]["state"][1][1:])(
        plain
    ),
    "a field more": lambda plain: odd(
        "step", "state", 1, value=[*plain["step"]["state"][1], ["__class__", 1]]
    )(plain),
    "a step that is no state": odd("step", value=1),
    "a tag that nobody knows": odd("step", value={"exec": "1/0"}),
    "two tags": odd("step", value={"dict": [], "list": []}),
    "no tag": odd("step", value={}),
    "a point that is none": odd("point", value={"dict": [["x", "text"]]}),
    "a point with a key that is no text": odd("point", value={"dict": [[1, np.ones(1)]]}),
    "an array of objects": odd("point", value={"dict": [["x", np.array([len])]]}),
    "an object": odd("point", value=len),
    "counters that are none": odd("counters", value=[{"dict": [["step", "text"]]}]),
    "counters of another form": odd("counters", value={"dict": []}),
    "chains that are none": odd("chains", value=("a",)),
    "no chains": odd("chains", value=()),
    "more draws than there are": odd("drawn", value=10**6),
    "draws that are none": odd("total", value=True),
    "a tally of another form": odd("tally", value={"divergences": 1}),
    "a tally of text": odd("tally", "step_size", value="1"),
    "an error that ends all": odd("point", value={"error": ["SystemExit", 1]}),
    "a generator that is none": odd(
        "point", value={"generator": [{"dict": [["bit_generator", "seed"]]}, {"dict": []}]}
    ),
    "a generator of another form": odd(
        "point",
        value={"generator": [{"dict": [*GENERATOR.items()]}, {"dict": [*SEED.items()]}]},
    ),
    "a seed that takes for ever": odd(
        "point",
        value={
            "generator": [
                {"dict": [*GENERATOR.items()]},
                {"dict": [*{**SEED, "pool_size": 10**9}.items()]},
            ]
        },
    ),
    "columns of no array": odd("point", value={"columns": [1]}),
    "arrays of no array": odd("point", value={"arrays": [1]}),
    "nested too deeply": deep,
}


@pytest.mark.parametrize("name", ODD)
def test_plain_values_that_are_odd_are_refused(name: str, plain: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        state_of(ODD[name](copy.deepcopy(plain)))


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    with pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False):
        return plain_of(Chains(normal()).start())


def test_tree_that_is_odd_is_refused(plain: dict[str, Any]) -> None:
    tree = tree_of_states({1: state_of(plain)})
    without = tree.copy()
    without["chain_1"].attrs = {}
    named = tree.copy(deep=True)
    named["chain_1"].attrs["state"]["point"] = {"variable": "array_9"}
    renamed = tree.copy()
    renamed["chain_x"] = renamed["chain_1"]
    for one in (without, named, renamed):
        with pytest.raises(ValueError):
            states_of_tree(one)


# what PyMC has


TOGETHER = {pm.DEMetropolis}
"""Step methods of chains that talk to each other, and are drawn whole."""


def test_state_of_each_step_method_of_pymc_is_written() -> None:
    """A new step method has to be put into `STEPS`, and a chain of it cut."""
    kinds = {kind for kind in vars(step_methods).values() if isinstance(kind, type)}
    concrete = {kind for kind in kinds if issubclass(kind, BlockedStep)} - {BlockedStep}
    cut = {getattr(pm, name.split()[0]) for name in STEPS if name != "CompoundStep"}
    assert concrete == cut | TOGETHER
    assert set(step_methods.STEP_METHODS) <= concrete


WRITTEN = {
    "BaseHMCState", "BinaryGibbsMetropolisState", "BinaryMetropolisState",
    "CategoricalGibbsMetropolisState", "CompoundStepState", "DEMetropolisState",
    "DEMetropolisZState", "HamiltonianMCState", "MetropolisState", "NUTSState", "PotentialState",
    "QuadPotentialDiagAdaptState", "QuadPotentialFullAdaptState", "SliceState", "StepMethodState",
    "StepSizeState", "WeightedCovarianceState", "WeightedVarianceState",
}  # fmt: skip
NOT_SAID = {"ExpWeightedVarianceState", "QuadPotentialDiagAdaptExpState"}
"""PyMC has them, and fails to fill them; with them a chain is drawn whole."""


def test_states_that_pymc_has_are_those_that_are_known() -> None:
    def below(kind: type) -> Iterator[type]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    found = {k.__name__ for k in below(DataClassState) if k.__module__.startswith("pymc.")}
    assert found == WRITTEN | NOT_SAID


def test_state_that_pymc_cannot_say_is_still_one() -> None:
    """When this fails, `pymc_chains` may cut chains that learn from gradients."""
    from pymc.step_methods.hmc.quadpotential import _ExpWeightedVariance

    variance = _ExpWeightedVariance(1, init_mean=np.ones(1), init_var=np.ones(1), alpha=0.1)
    with pytest.raises(AttributeError, match="_var"):
        variance.sampling_state
