"""Chains that are cut anywhere, and what they rely on in PyMC: fails when PyMC changes it."""

from __future__ import annotations

import inspect
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
from pymc.sampling import mcmc
from pymc.step_methods.compound import BlockedStep, CompoundStep
from pymc.step_methods.state import DataClassState, WithSamplingState

from cloudposterior.operations.sample import SampleCall
from cloudposterior.samplers import kept
from cloudposterior.samplers.protocol import Budget, Run, Segment, State
from cloudposterior.samplers.pymc_chains import PyMCChains, _says_all
from cloudposterior.samplers.pymc_join import PyMCJoin
from cloudposterior.samplers.seeds import packed_seed
from cloudposterior.shipping import pack_arguments, pack_model

Build = Callable[..., pm.Model]
DRAWS, TUNE = 9, 7


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Compile as little as may be."""
    with pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False):
        yield
    kept._kept.clear()


class Chains:
    """The chains of one call, drawn here as a worker draws them."""

    def __init__(self, model: pm.Model, **options: Any) -> None:
        options = {"draws": DRAWS, "tune": TUNE, "chains": 2, "random_seed": 3, **options}
        options.update(nuts_sampler="pymc", progressbar=False, quiet=True)
        self.call = SampleCall(model, (), options, on_cluster=True)
        token, structure = self.call.model_tokens()
        self.model = pack_model(model)
        self.run = Run(
            key=token,
            model=token,
            structure=structure,
            arguments=pack_arguments(self.call.arguments_of_chains("pymc"), model),
            seed=packed_seed(3),
            chains=self.call.chains,
            settings=self.call.settings,
        )
        self.join = PyMCJoin(model, self.call.arguments)

    def segments(self, chain: int, cuts: tuple[int, ...] = ()) -> Iterator[tuple[State, Segment]]:
        """Draw a chain, cut after these many draws, each part as in a process of its own."""
        state = PyMCChains().start(self.model, self.run, (chain,))
        while not state.finished:
            kept._kept.clear()
            state = pickle.loads(pickle.dumps(state))
            ends = [cut for cut in cuts if cut > state.drawn]
            left = iter(range((ends[0] if ends else state.total) - state.drawn - 1))
            budget = Budget(1e6, lambda left=left: next(left, None) is None)
            state, parts = PyMCChains().advance(self.model, self.run, state, budget)
            for part in parts:
                yield state, pickle.loads(pickle.dumps(part))

    def draws(self, *cuts: int) -> dict[str, list[Any]]:
        """Give the draws of chain 1 by variable, and its statistics."""
        drawn: dict[str, list[Any]] = {}
        for _, part in self.segments(1, cuts):
            for name, values in part.samples.items():
                drawn.setdefault(name, []).extend(values.tolist())
            for number, kinds in enumerate(part.stats):
                for name in kinds.keys() - {"warning"}:
                    if not name.startswith(("perf_", "process_")):
                        values = map(str, kinds[name])
                        drawn.setdefault(f"{number} {name}", []).extend(values)
        return drawn


@pytest.fixture
def chains(build: Build) -> Chains:
    """Chains of the smallest model."""
    return Chains(build())


EVERYWHERE = tuple(range(1, DRAWS + TUNE))


def mixed() -> pm.Model:
    with pm.Model() as model:
        n = pm.Poisson("n", 3.0)
        z = pm.Categorical("z", [0.2, 0.3, 0.5])
        b = pm.Bernoulli("b", 0.4)
        pm.Normal("y", n + z * b, 1.0, observed=[2.0, 3.0])
        pm.HalfNormal("s")
    return model


@pytest.mark.parametrize("cuts", [(TUNE,), (1,), (TUNE - 1, TUNE + 1), EVERYWHERE], ids=str)
def test_chain_may_be_cut_anywhere(cuts: tuple[int, ...], chains: Chains) -> None:
    assert chains.draws(*cuts) == chains.draws()


def test_chain_of_all_steps_may_be_cut_anywhere() -> None:
    chains = Chains(mixed())
    assert chains.draws(1, TUNE, TUNE + 3) == chains.draws()


@pytest.mark.parametrize("step", ["Metropolis", "Slice", "DEMetropolisZ", "HamiltonianMC"])
def test_chain_of_a_step_may_be_cut_anywhere(step: str, build: Build) -> None:
    model = build()
    chains = Chains(model, step=getattr(pm, step)(model.value_vars, model=model))
    assert chains.draws(*EVERYWHERE) == chains.draws()


def test_chain_says_where_it_stands(chains: Chains) -> None:
    parts = list(chains.segments(0, (4, TUNE, 12)))
    assert [(p.first, p.draws) for _, p in parts] == [(0, 4), (4, 3), (7, 5), (12, 4)]
    assert [state.drawn for state, _ in parts] == [4, 7, 12, 16]
    assert [p.plan is None for _, p in parts] == [False, True, True, True]
    assert all(state.chains == (0,) and state.total == DRAWS + TUNE for state, _ in parts)


def test_chain_that_is_stopped_hands_over_what_it_drew(chains: Chains) -> None:
    state = PyMCChains().start(chains.model, chains.run, (0,))
    stop = Budget(1e6, lambda: True)
    state, (segment,) = PyMCChains().advance(chains.model, chains.run, state, stop)
    assert (segment.draws, state.drawn, state.finished) == (1, 1, False)


def test_segment_is_no_longer_than_its_time(chains: Chains) -> None:
    state = PyMCChains().start(chains.model, chains.run, (0,))
    state, (segment,) = PyMCChains().advance(
        chains.model, chains.run, state, Budget(0.0, lambda: False)
    )
    assert segment.draws == 1


def test_wait_for_the_model_is_no_part_of_a_segment(chains: Chains) -> None:
    """Else a chain that waits while another draws would hand over a draw at a time."""
    state = PyMCChains().start(chains.model, chains.run, (1,))
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with kept.keep_model(chains.run, chains.model).lock:
            held.set()
            assert go_on.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    budget = Budget(0.05, lambda: False)
    timer = threading.Timer(0.3, go_on.set)
    timer.start()
    after, (part,) = PyMCChains().advance(chains.model, chains.run, state, budget)
    thread.join()
    assert part.draws > 1
    assert after.drawn == part.draws


def test_join_takes_segments_in_any_order_of_chains_and_twice(chains: Chains) -> None:
    one, other = (list(chains.segments(chain, (3, 11))) for chain in (0, 1))
    for (_, a), (_, b) in zip(one, other, strict=True):
        for part in (b, a, b):
            chains.join.add(part)
    result = chains.join.finish(1.0)
    assert result["posterior"].sizes["draw"] == DRAWS
    assert np.isfinite(result["posterior"]["small::mu"].to_numpy()).all()


def test_chain_that_is_whole_is_reported_as_when_it_was_drawn(chains: Chains) -> None:
    state = None
    for chain in (0, 1):
        for after, part in chains.segments(chain, (5,)):
            chains.join.add(part)
            state = after
    assert state is not None
    told = chains.join.report_whole(1)
    assert (told.drawn, told.tune, told.total) == (DRAWS + TUNE, TUNE, DRAWS + TUNE)
    assert (told.divergences, told.step_size) == (state.tally.divergences, state.tally.step_size)
    assert chains.join.has_draws()


def test_join_takes_parts_that_overlap(chains: Chains) -> None:
    for chain, (first, again) in enumerate([((5, 11), (3, 14)), ((8,), (2,))]):
        parts = [part for _, part in chains.segments(chain, first)][:1]
        parts += [part for _, part in chains.segments(chain, again)]
        for part in parts:
            chains.join.add(part)
    assert [chains.join.drawn(chain) for chain in (0, 1)] == [DRAWS + TUNE] * 2
    assert chains.draws()["small::mu"] == chains.join._arrays["small::mu"][1].tolist() or (
        # tuning that nobody wants is not kept
        chains.draws()["small::mu"][TUNE:] == chains.join._arrays["small::mu"][1, TUNE:].tolist()
    )


def test_join_without_draws_raises_as_pymc(chains: Chains) -> None:
    with pytest.raises(ValueError, match="Not enough samples to build a trace"):
        chains.join.finish(1.0)


# what is used of PyMC


DOORS = {
    "assign_step_methods": ["model", "step", "methods"],
    "make_initial_point_fns_per_chain": ["model", "overrides", "jitter_rvs", "chains"],
    "instantiate_steppers": [
        "model",
        "steps",
        "selected_steps",
        "step_kwargs",
        "initial_point",
        "compile_kwargs",
    ],
    "init_traces": [
        "backend",
        "chains",
        "expected_length",
        "step",
        "initial_point",
        "model",
        "trace_vars",
        "tune",
    ],
    "_sample_many": ["draws", "chains", "traces", "start", "rngs", "step", "callback", "kwargs"],
    "_sample_population": [
        "initial_points",
        "draws",
        "start",
        "rngs",
        "step",
        "tune",
        "model",
        "progressbar",
        "parallelize",
        "traces",
        "kwargs",
    ],
    "_sample_return": [
        "run",
        "traces",
        "tune",
        "t_sampling",
        "discard_tuned_samples",
        "compute_convergence_checks",
        "return_inferencedata",
        "keep_warning_stat",
        "idata_kwargs",
        "model",
        "quiet",
    ],
}


@pytest.mark.parametrize("name", DOORS)
def test_function_that_is_taken_over_has_the_parameters_that_are_known(name: str) -> None:
    function = getattr(mcmc, name)
    assert list(inspect.signature(function).parameters) == DOORS[name]


def test_functions_that_are_taken_over_are_called_by_name() -> None:
    source = inspect.getsource(mcmc.sample)
    for name in (*DOORS, "init_nuts", "_sample_external_nuts"):
        assert f"{name}(" in source, name


def test_generators_of_the_chains_are_drawn_before_all_else() -> None:
    source = inspect.getsource(mcmc.sample)
    assert "rngs = get_random_generator(random_seed).spawn(chains)" in source
    assert "random_seed_list = [rng.integers(2**30) for rng in rngs]" in source


def test_chain_is_set_up_as_in_a_process_of_pymcs() -> None:
    from pymc.sampling import parallel

    source = inspect.getsource(parallel._Process._start_loop)
    before = source[: source.index("while True")]
    assert ("setup_chain(" in before) is hasattr(BlockedStep, "setup_chain")
    assert ("set_rng(" in before) is not hasattr(BlockedStep, "setup_chain")
    assert "reset_tuning" not in before
    assert "if draw == self._tune:\n                self._step_method.stop_tuning()" in source


STATES = {
    pm.NUTS: {"var_names", "rng", "tune", "step_adapt", "potential", "Emax"},
    pm.HamiltonianMC: {"var_names", "rng", "tune", "step_adapt", "potential", "Emax"},
    pm.Metropolis: {"var_names", "rng", "tune", "scaling", "accepted_sum", "accept_rate_iter"},
    pm.Slice: {"var_names", "rng", "tune", "w", "n_tunes"},
    pm.DEMetropolisZ: {"var_names", "rng", "tune", "lamb", "_history", "scaling"},
    pm.BinaryGibbsMetropolis: {"var_names", "rng", "transit_p", "order"},
    pm.CategoricalGibbsMetropolis: {"var_names", "rng", "dimcats"},
}


@pytest.mark.parametrize("method", STATES, ids=lambda method: method.__name__)
def test_state_of_a_step_has_the_fields_that_are_known(method: Any) -> None:
    assert STATES[method] <= set(method._state_class.__dataclass_fields__)
    assert issubclass(method, WithSamplingState)


def test_state_that_is_complete_is_told_from_one_that_is_not(build: Build) -> None:
    class Mine(pm.Metropolis):
        pass

    class Stateless(BlockedStep):
        def step(self, point: Any) -> Any:
            return point, []

    model = build()
    with model:
        known = [pm.NUTS(), pm.Metropolis(model.value_vars), pm.Slice(model.value_vars)]
        unknown = [Mine(model.value_vars), Stateless(model.value_vars)]
    assert all(map(_says_all, known))
    assert not any(map(_says_all, unknown))
    assert BlockedStep._state_class is DataClassState


def test_compound_step_holds_its_methods_and_a_state_of_each(build: Build) -> None:
    model = build()
    with model:
        compound = CompoundStep([pm.Slice(model.value_vars), pm.NUTS()])
    assert len(compound.sampling_state.methods) == 2
