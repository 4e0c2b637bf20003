"""PyMC's own step methods as chains of segments.

PyMC prepares a run itself: its `sample` is called as ever, and where it would begin to draw, the
step method, the initial points and the generators are taken over. What a step method knows is its
`sampling_state`, so a chain can be cut at any draw and go on in another process, bit for bit.

`tests/samplers/test_pymc_chains.py` fails when PyMC changes what is used here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pymc.backends.ndarray import NDArray
from pymc.sampling import mcmc
from pymc.sampling.population import _sample_population
from pymc.step_methods import (
    NUTS,
    BinaryGibbsMetropolis,
    DEMetropolisZ,
    HamiltonianMC,
    Metropolis,
    Slice,
)
from pymc.step_methods.arraystep import PopulationArrayStepShared
from pymc.step_methods.compound import CompoundStep
from pymc.step_methods.hmc import quadpotential
from pymc.step_methods.state import DataClassState
from pymc.util import get_state_from_generator, random_generator_from_state

from cloudposterior.samplers import pymc as sampler_pymc
from cloudposterior.samplers.doors import doors
from cloudposterior.samplers.kept import KeptModel, by_value, keep_model, shapes_of
from cloudposterior.samplers.protocol import Budget, Run, Segment, State
from cloudposterior.samplers.seeds import unpacked_seed
from cloudposterior.samplers.surroundings import Said, said_kept, settings_of
from cloudposterior.samplers.tally import Counter
from cloudposterior.shipping import unpack_arguments

__all__ = ["Held", "Plan", "PyMCChains", "arguments_of_chains"]

_MOST_BYTES = 16 * 2**20
"""A segment ends before it grows larger, however fast the draws are."""

_BLIND_TO_DATA = {NUTS, HamiltonianMC, Metropolis, Slice, DEMetropolisZ, BinaryGibbsMetropolis}
"""Step methods that read no values of the model when they are made."""

_SAYING_ALL = {
    quadpotential.QuadPotentialDiag,
    quadpotential.QuadPotentialDiagAdapt,
    quadpotential.QuadPotentialFull,
    quadpotential.QuadPotentialFullAdapt,
    quadpotential.QuadPotentialFullInv,
}
"""Mass matrices that do not change, or change in their state alone.

PyMC cannot say the state of the one that learns from gradients.
"""

_ONLY_ON_THE_CLIENT = {
    # how it looks, and where it runs
    "model",
    "progressbar",
    "progressbar_theme",
    "quiet",
    "cores",
    "mp_ctx",
    "blas_cores",
    # who sees the draws, and what is made of them
    "callback",
    "trace",
    "discard_tuned_samples",
    "compute_convergence_checks",
    "keep_warning_stat",
    "return_inferencedata",
    "idata_kwargs",
    # travel on their own
    "random_seed",
    "chains",
    "nuts_sampler",
}


def arguments_of_chains(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Select what of a call of `pymc.sample` its chains depend on."""
    return {k: v for k, v in arguments.items() if k not in _ONLY_ON_THE_CLIENT}


@dataclass(frozen=True)
class Plan:
    """What is known of a run before its first draw.

    Attributes
    ----------
    tune : int
        How many of the draws are for tuning.
    shapes : dict of str to tuple of int
        By variable that is recorded.
    dtypes : dict of str to numpy.dtype
        By variable that is recorded.
    stats : list of dict
        Kinds of the statistics by name, for each step method.
    stats_shapes : list of dict
        Kinds and shapes of the statistics by name, for each step method.
    said : tuple of Said
        What PyMC logged and warned of while it prepared the run.
    """

    tune: int
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, np.dtype[Any]]
    stats: list[dict[str, Any]]
    stats_shapes: list[dict[str, Any]]
    said: tuple[Said, ...]


@dataclass(frozen=True)
class _Prepared:
    """A run that PyMC has made ready to draw from."""

    step: Any
    initial: tuple[Any, ...] | None
    points: list[dict[str, np.ndarray]]
    generators: list[Any]
    recorder: NDArray
    plan: Plan
    total: int
    together: dict[str, Any] | None

    @property
    def resumable(self) -> bool:
        """Whether all that the step methods know is in their sampling state."""
        return self.initial is not None


@dataclass(frozen=True)
class Held:
    """What a chain is between two segments."""

    point: dict[str, np.ndarray]
    step: tuple[Any, ...]

    @property
    def sampling_state(self) -> Any:
        """The state of the step method as PyMC has it."""
        return self.step[0]


class PyMCChains:
    """PyMC's own samplers, whatever step methods they are made of."""

    def start(self, model: bytes, run: Run, chains: tuple[int, ...]) -> State:
        """Prepare the run, if no chain of it did so in this process, and set a chain up."""
        kept = keep_model(run, model)
        with kept.lock:
            prepared = _prepared(kept, run, model)
            state = State(chains, 0, prepared.total)
            if not prepared.resumable:
                return state
            return replace(state, held=_set_up(prepared, chains[0]))

    def prepare(self, model: bytes, run: Run) -> None:
        """Prepare the run, if no chain of it did so in this process."""
        kept = keep_model(run, model)
        # else it would wait for another chain to draw
        if not kept.is_prepared(run):
            with kept.lock:
                _prepared(kept, run, model)

    def advance(
        self, model: bytes, run: Run, state: State, budget: Budget
    ) -> tuple[State, list[Segment]]:
        """Draw until the budget is spent; what cannot be cut is drawn whole."""
        kept = keep_model(run, model)
        with kept.lock:
            # another chain may have held it for a segment
            budget = budget.begun()
            if state.held is None:
                return _draw_whole(kept, run, model, state, budget)
            prepared = _prepared(kept, run, model)
            _put_back(prepared.step, state.held.step)
            return _draw(prepared, state, budget)


def _prepared(kept: KeptModel, run: Run, model: bytes) -> _Prepared:
    kept.use_data(run, model)
    prepared: _Prepared = kept.prepared(run, lambda: _prepare(kept, run))
    return prepared


def _methods(step: Any) -> list[Any]:
    if isinstance(step, CompoundStep):
        return [inner for method in step.methods for inner in _methods(method)]
    return [step]


def _says_all(kind: type[Any]) -> bool:
    """Tell whether the sampling state of a kind of step method is its own, and not inherited.

    A user's subclass may hold more than the state of the class that it is made from.
    """
    return vars(kind).get("_state_class", DataClassState) is not DataClassState or (
        kind.__module__.startswith("pymc.") and kind._state_class is not DataClassState
    )


def _is_resumable(method: Any) -> bool:
    potential = getattr(method, "potential", None)
    return _says_all(type(method)) and (potential is None or type(potential) in _SAYING_ALL)


def _prepare(kept: KeptModel, run: Run) -> _Prepared:
    """Let PyMC make a run ready, and take over where it would draw."""
    taken: dict[str, Any] = {}
    said: list[Said] = []
    arguments = unpack_arguments(run.arguments, kept.model)
    extra = arguments.pop("kwargs", {})

    def assign(step: Callable[..., Any], model: Any, given: Any = None, **kwargs: Any) -> Any:
        def decide() -> Any:
            return step(model, given, **kwargs)

        provided, selected = decide() if given is not None else kept.steps_once(decide)
        # what was said so far, the client has said already
        said.clear()
        return list(provided), {method: list(values) for method, values in selected.items()}

    def initial_points(_: Any, *, model: Any, overrides: Any, jitter_rvs: Any, chains: int) -> Any:
        if overrides is None or isinstance(overrides, dict):
            return [kept.initial_point_function(overrides, jitter_rvs)] * chains
        if len(overrides) != chains:
            return _(model=model, overrides=overrides, jitter_rvs=jitter_rvs, chains=chains)
        return [kept.initial_point_function(one, jitter_rvs) for one in overrides]

    def instantiate(step: Callable[..., Any], model: Any, **kwargs: Any) -> Any:
        return _instantiated(kept, step, model, **kwargs)

    def record(_: Any, *, trace_vars: Any, initial_point: Any, chains: int, **kwargs: Any) -> Any:
        taken["recorder"] = kept.recorder(trace_vars, initial_point)
        return None, [taken["recorder"]] * chains

    def draw(_: Any, **kwargs: Any) -> None:
        taken.update(kwargs)

    with (
        # some ways to begin look for the model around them
        kept.model,
        settings_of(run.settings),
        said_kept(said),
        doors(
            mcmc,
            assign_step_methods=assign,
            make_initial_point_fns_per_chain=initial_points,
            instantiate_steppers=instantiate,
            init_traces=record,
            _sample_many=draw,
            _sample_population=draw,
            _sample_return=lambda _, **kwargs: None,
        ),
    ):
        sampler_pymc.SAMPLE(
            **arguments,
            **extra,
            model=kept.model,
            chains=run.chains,
            cores=1,
            random_seed=unpacked_seed(run.seed),
            nuts_sampler="pymc",
            progressbar=False,
            blas_cores=None,
            compute_convergence_checks=False,
        )
    return _as_prepared(taken, said)


def _as_prepared(taken: dict[str, Any], said: list[Said]) -> _Prepared:
    step, recorder = taken["step"], taken["recorder"]
    together = (
        taken if any(isinstance(m, PopulationArrayStepShared) for m in _methods(step)) else None
    )
    plan = Plan(
        tune=int(taken["tune"]),
        shapes=dict(recorder.var_shapes),
        dtypes=dict(recorder.var_dtypes),
        stats=step.stats_dtypes,
        stats_shapes=[m.stats_dtypes_shapes for m in getattr(step, "methods", [step])],
        said=tuple(one for one in said if "Sequential sampling" not in one[-1]),
    )
    resumable = together is None and all(map(_is_resumable, _methods(step)))
    return _Prepared(
        step=step,
        initial=_initial(step) if resumable else None,
        points=taken["start"],
        generators=[get_state_from_generator(rng) for rng in taken["rngs"]],
        recorder=recorder,
        plan=plan,
        total=int(taken["draws"]),
        together=together,
    )


def _initial(step: Any) -> tuple[Any, ...] | None:
    """Give what a step method knows at first; None where PyMC does not take it back.

    It refuses its own copy of what has no notion of being equal, as a mode to compile with.
    """
    taken_down = _taken_down(step)
    try:
        _put_back(step, taken_down)
    except ValueError:
        return None
    return taken_down


def _instantiated(kept: KeptModel, step: Callable[..., Any], model: Any, **kwargs: Any) -> Any:
    """Give the step methods that PyMC assigned, compiled once, in their first state."""
    selected, point = kwargs["selected_steps"], kwargs["initial_point"]
    options = by_value(
        {
            "settings": kwargs["step_kwargs"],
            "compiling": kwargs.get("compile_kwargs"),
            "shapes": shapes_of(point),
        }
    )
    settings = kwargs["step_kwargs"].values()
    given = kwargs["steps"] or any(isinstance(s, dict) and "potential" in s for s in settings)
    if given or options is None or not all(map(_says_all, selected)):
        # made by the user, or changed for good by whoever draws with them
        return step(model, **kwargs)
    names = tuple(
        (m.__qualname__, *(str(v.name) for v in values)) for m, values in selected.items()
    )
    # others may look at the data when they are made, as for the number of categories
    data = "" if set(selected) <= _BLIND_TO_DATA else kept.token

    def make() -> tuple[Any, Any]:
        made = step(model, **kwargs)
        compound = CompoundStep(made) if isinstance(made, list) else made
        return compound, _taken_down(compound)

    made, initial = kept.once(("step methods", names, options, data), make)
    _put_back(made, initial)
    return made


def _set_up(prepared: _Prepared, chain: int) -> Held:
    """Do with a step method what PyMC does before the first draw of a chain.

    In a process of its own a chain goes on from where a user's step method stands; only a single
    chain, which PyMC draws in its own process, begins anew.
    """
    step = prepared.step
    if prepared.initial is not None:
        _put_back(step, prepared.initial)
    tune = prepared.plan.tune
    # a generator moves on as it is used, and this chain may have to start again
    generator = random_generator_from_state(prepared.generators[chain])
    if hasattr(step, "setup_chain"):
        step.setup_chain(generator, tune, prepared.total - tune)
    else:
        step.set_rng(generator)
    if len(prepared.points) == 1:
        step.tune = bool(tune)
        if hasattr(step, "reset_tuning"):
            step.reset_tuning()
        if hasattr(step, "iter_count"):
            step.iter_count = 0
    return Held(prepared.points[chain], _taken_down(step) if prepared.resumable else ())


def _taken_down(step: Any) -> tuple[Any, ...]:
    """Write down what a step method knows: its sampling state, and what it counts beside it."""
    return step.sampling_state, [_counters(method) for method in _methods(step)]


def _counters(method: Any) -> dict[str, Any]:
    # such as the divergences so far, which each chain counts from none
    return {k: v for k, v in vars(method).items() if type(v) in (bool, int, float)}


def _put_back(step: Any, taken_down: tuple[Any, ...]) -> None:
    state, counters = taken_down
    for method, values in zip(_methods(step), counters, strict=True):
        vars(method).update(values)
    step.sampling_state = state


def _draw(prepared: _Prepared, state: State, budget: Budget) -> tuple[State, list[Segment]]:
    step, plan = prepared.step, prepared.plan
    most = max(1, _MOST_BYTES // max(1, _bytes_per_draw(plan)))
    trace = _trace(prepared.recorder, min(state.total - state.drawn, most), state.chains[0], step)
    point, drawn = state.held.point, state.drawn
    counter = Counter(state, plan.tune, budget)
    while drawn < state.total and len(trace) < most:
        if drawn == plan.tune:
            step.stop_tuning()
        point, stats = step.step(point)
        trace.record(point, stats, in_warmup=drawn < plan.tune)
        drawn += 1
        counter.saw(drawn, stats)
        if budget.spent:
            break
    values = {name: np.array(value) for name, value in point.items()}
    held = Held(values, _taken_down(step) if prepared.resumable else ())
    segment = _segment(trace, state.drawn, plan)
    return replace(state, drawn=drawn, held=held, tally=counter.tally(drawn)), [segment]


def _draw_whole(
    kept: KeptModel, run: Run, model: bytes, state: State, budget: Budget
) -> tuple[State, list[Segment]]:
    """Draw all of a chain, or of chains that talk to each other, in one segment.

    What the step methods hold beside their state would be left over from another chain, so they
    are made anew.
    """
    kept.use_data(run, model)
    prepared = _prepare(kept, run)
    if prepared.together is not None:
        return _draw_together(prepared, state, budget)
    endless = replace(budget, seconds=float("inf"))
    whole = state
    state = replace(state, held=_set_up(prepared, state.chains[0]))
    parts = []
    while not state.finished and not budget.stopped():
        state, segments = _draw(prepared, state, endless)
        parts += segments
    # one that was stopped begins anew, for whoever else wants it
    return (replace(state, held=None) if state.finished else whole), parts


class _StoppedError(Exception):
    """The run was stopped in the middle of a population's draws."""


@dataclass(frozen=True)
class _Watched:
    """A trace that records until the run is stopped, and tells how it goes."""

    trace: NDArray
    stopped: Callable[[], bool]
    counter: Counter

    def record(self, point: Any, stats: Any, **kwargs: Any) -> None:
        if self.stopped():
            raise _StoppedError
        self.trace.record(point, stats, **kwargs)
        self.counter.saw(len(self.trace), stats)

    def close(self) -> None:
        self.trace.close()


def _draw_together(
    prepared: _Prepared, state: State, budget: Budget
) -> tuple[State, list[Segment]]:
    taken = dict(prepared.together or {})
    traces = [_trace(prepared.recorder, state.total, c, prepared.step) for c in state.chains]
    taken.pop("parallelize")
    counters = [
        Counter(replace(state, chains=(chain,)), prepared.plan.tune, budget)
        for chain in state.chains
    ]
    taken["traces"] = [
        _Watched(trace, budget.stopped, counter)
        for trace, counter in zip(traces, counters, strict=True)
    ]
    for chain in state.chains:
        budget.phase(chain, "sampling")
    # what was drawn until then is in the traces
    with suppress(_StoppedError):
        _sample_population(parallelize=False, **taken)
    for trace, counter in zip(traces, counters, strict=True):
        counter.tally(len(trace))
    segments = [_segment(trace, 0, prepared.plan) for trace in traces]
    whole = all(segment.draws == state.total for segment in segments)
    return (replace(state, drawn=state.total) if whole else state), segments


def _trace(recorder: NDArray, draws: int, chain: int, step: Any) -> NDArray:
    trace = NDArray(
        model=recorder.model,
        vars=recorder.vars,
        fn=recorder.fn,
        var_shapes=recorder.var_shapes,
        var_dtypes=recorder.var_dtypes,
    )
    trace.setup(draws, chain, step.stats_dtypes)
    return trace


def _segment(trace: NDArray, first: int, plan: Plan) -> Segment:
    made = len(trace)
    samples = {name: values[:made] for name, values in trace.samples.items()}
    stats = [{k: v[:made] for k, v in kinds.items()} for kinds in trace._stats or []]
    return Segment(int(trace.chain), first, made, samples, stats, plan if first == 0 else None)


def _bytes_per_draw(plan: Plan) -> int:
    sizes = (plan.dtypes[name].itemsize * int(np.prod(s)) for name, s in plan.shapes.items())
    return sum(sizes)
