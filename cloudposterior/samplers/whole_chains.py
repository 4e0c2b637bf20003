"""Samplers that cannot be cut, nutpie and those on JAX: a chain is one segment.

Each chain is `pymc.sample` with ``chains=1`` and a seed of its own, whoever the worker.
`tests/cluster/test_cluster_nutpie.py` and `tests/cluster/test_cluster_jax.py` fail when PyMC or
nutpie change what is used here.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from pymc.sampling import mcmc
from pymc.stats import log_density
from xarray import DataTree

from cloudposterior.posterior import to_tree
from cloudposterior.samplers import pymc as sampler_pymc
from cloudposterior.samplers.compiling import COMPILING
from cloudposterior.samplers.doors import doors
from cloudposterior.samplers.kept import KeptModel, by_value, keep_model
from cloudposterior.samplers.peeking import Window, window
from cloudposterior.samplers.protocol import REPORT_EVERY_S, Budget, Run, Segment, State, Tally
from cloudposterior.samplers.seeds import chain_seed
from cloudposterior.samplers.surroundings import Said, said_kept, settings_of
from cloudposterior.shipping import unpack_arguments

__all__ = ["WholeChains", "arguments_of_whole_chains", "report_at_end", "where_it_compiles"]

_ONLY_ON_THE_CLIENT = {
    "model",
    "progressbar",
    "progressbar_theme",
    "quiet",
    "cores",
    "mp_ctx",
    "blas_cores",
    "callback",
    "trace",
    "compute_convergence_checks",
    "random_seed",
    "chains",
    "nuts_sampler",
}


def arguments_of_whole_chains(arguments: dict[str, Any]) -> dict[str, Any]:
    """Select what of a call of `pymc.sample` its chains depend on."""
    return {k: v for k, v in arguments.items() if k not in _ONLY_ON_THE_CLIENT}


def where_it_compiles(sampler: str) -> tuple[ModuleType, str]:
    """Give the function, by module and name, that a sampler begins to compile with.

    By then PyMC has checked all arguments, and said what there is to say of them.
    """
    if sampler == "nutpie":
        return importlib.import_module("nutpie"), "compile_pymc_model"
    return importlib.import_module("pymc.sampling.jax"), "sample_jax_nuts"


@dataclass(frozen=True)
class WholeChains:
    """Chains of nutpie, numpyro or blackjax.

    Attributes
    ----------
    sampler : {"nutpie", "numpyro", "blackjax"}
        As `pymc.sample` names it.
    """

    sampler: str

    def start(self, model: bytes, run: Run, chains: tuple[int, ...]) -> State:
        """Unpack the model; these samplers have no state."""
        keep_model(run, model)
        return State(chains, 0, 1)

    def prepare(self, model: bytes, run: Run) -> None:
        """Do nothing: these samplers compile where they draw."""

    def advance(
        self, model: bytes, run: Run, state: State, budget: Budget
    ) -> tuple[State, list[Segment]]:
        """Draw a chain from its first draw to its last."""
        if state.finished:
            return state, []
        kept = keep_model(run, model)
        said: list[Said] = []
        chain = state.chains[0]
        with ExitStack() as stack:
            stack.enter_context(kept.lock)
            if budget.stopped():  # while another chain was drawn
                return state, []
            kept.use_data(run, model)
            stack.enter_context(kept.model)
            stack.enter_context(said_kept(said))
            stack.enter_context(doors(mcmc, assign_step_methods=_steps_once(kept)))
            stack.enter_context(_densities_door(run))
            if self.sampler == "nutpie":
                stack.enter_context(_nutpie_doors(kept, run, model, chain, budget, said))
            else:
                stack.enter_context(_jax_door(self.sampler, run, chain, budget, said))
            result = self._sample(kept, run, chain)
        tree = to_tree(result)
        # an aborted nutpie gives a prefix: it fills up nothing but the shorter of several chains
        made = int(tree["posterior"].sizes["draw"])
        segment = Segment(chain, 0, made, tree, [], tuple(said))
        # one that was stopped in the midst of it begins anew, for whoever else wants it
        if budget.stopped() and made < int(unpack_arguments(run.arguments, kept.model)["draws"]):
            return state, [segment]
        budget.report(chain, *report_at_end(tree))
        return replace(state, drawn=1), [segment]

    def _sample(self, kept: KeptModel, run: Run, chain: int) -> Any:
        arguments = unpack_arguments(run.arguments, kept.model)
        extra = arguments.pop("kwargs", {})
        initial = arguments.get("initvals")
        if self.sampler != "nutpie" and isinstance(initial, list | tuple):
            arguments["initvals"] = [initial[chain]]
        return sampler_pymc.SAMPLE(
            **arguments,
            **extra,
            model=kept.model,
            chains=1,
            cores=1,
            random_seed=chain_seed(run.seed, chain, run.chains),
            nuts_sampler=self.sampler,
            progressbar=False,
            blas_cores=None,
            compute_convergence_checks=False,
        )


def report_at_end(tree: DataTree) -> tuple[int, int, int, Tally]:
    """Say of a whole chain what a `Budget` is told: the figures are those of its result."""
    stats = tree["sample_stats"].to_dataset()
    draws = stats.sizes["draw"]
    tune = int(tree["posterior"].attrs.get("tuning_steps") or _draws_of(tree, "warmup_posterior"))
    # a call may ask for no draws
    told = stats if draws else {}
    steps = next((told[name] for name in ("n_steps", "tree_size") if name in told), None)
    tally = Tally(
        divergences=int(told["diverging"].sum()) if "diverging" in told else 0,
        step_size=float(told["step_size"][0, -1]) if "step_size" in told else None,
        gradients=None if steps is None else float(steps.mean()),
        elapsed_s=float(tree["posterior"].attrs.get("sampling_time", 0.0)),
    )
    return tune + draws, tune, tune + draws, tally


def _draws_of(tree: DataTree, group: str) -> int:
    return int(tree[group].sizes["draw"]) if group in tree.children else 0


def _steps_once(kept: KeptModel) -> Callable[..., Any]:
    """Assign step methods once a model: it differentiates the model each time."""

    def assign(step: Callable[..., Any], model: Any, given: Any = None, **kwargs: Any) -> Any:
        with COMPILING:
            if given is not None:
                return step(model, given, **kwargs)
            provided, selected = kept.steps_once(lambda: step(model, None, **kwargs))
        return list(provided), dict(selected)

    return assign


def _densities_door(run: Run) -> Any:
    """Compile what computes the log-likelihood, once all is drawn, as everything else."""

    def compute(compute_it: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # Numba compiles when a function is first called
        with settings_of(run.settings):
            return compute_it(*args, **kwargs)

    return doors(log_density, compute_log_density=compute)


def _jax_door(sampler: str, run: Run, chain: int, budget: Budget, said: list[Said]) -> Any:
    place, name = where_it_compiles(sampler)

    def sample(sample_it: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # what was said so far, the client has said already
        said.clear()
        # it compiles and draws in one call, and tells nothing from within
        budget.phase(chain, "sampling")
        with settings_of(run.settings):
            return sample_it(*args, **kwargs)

    return doors(place, **{name: sample})


def _nutpie_doors(
    kept: KeptModel, run: Run, packed: bytes, chain: int, budget: Budget, said: list[Said]
) -> Any:
    """Let nutpie compile a model once in this process, and stop when it is told to."""

    def compile_model(compile_it: Callable[..., Any], model: Any, **kwargs: Any) -> Any:
        said.clear()
        with settings_of(run.settings):
            options = by_value({k: v for k, v in kwargs.items() if v is not None})
            if options is None:
                return compile_it(model, **kwargs)
            compiled, data_of = kept.once(
                ("nutpie", options), lambda: (compile_it(model, **kwargs), run.model)
            )
        if data_of == run.model:
            return compiled
        return compiled.with_data(**_known_to(compiled, kept.data))

    def sample(draw: Callable[..., Any], compiled: Any, **kwargs: Any) -> Any:
        kwargs.update(blocking=False, progress_bar=False)
        kwargs.pop("progress_callback", None)
        kwargs["progress_rate"] = int(1000 * REPORT_EVERY_S)
        teller = _Teller(chain, int(kwargs["draws"]), budget)
        if "progress_callback" in inspect.signature(draw).parameters:
            kwargs["progress_callback"] = teller.take
        else:
            compiled = _Telling(compiled, teller)
        budget.phase(chain, "sampling")
        sampler = draw(compiled, **kwargs)
        # it holds all that it needs
        with kept.lent(), window(run.key, chain) as opened:
            drawn = _wait(sampler, budget, opened)
        kept.use_data(run, packed)
        return drawn

    place, name = where_it_compiles("nutpie")
    return doors(place, **{name: compile_model}, sample=sample)


def _known_to(compiled: Any, data: dict[str, Any]) -> dict[str, Any]:
    """Leave out the data that a compiled model does not use: nutpie refuses their names."""
    if hasattr(compiled, "shared_var_keys"):
        known = {variable.name for variable in compiled.shared_var_keys}
    else:  # older versions, which know them by name
        known = set(getattr(compiled, "shared_data", data))
    return {name: value for name, value in data.items() if name in known}


@dataclass(frozen=True)
class _Teller:
    """Tells of a chain as nutpie does, from a thread of nutpie's own."""

    chain: int
    draws: int
    budget: Budget

    def take(self, chains: list[Any]) -> None:
        """Take in what newer versions tell."""
        for of in chains:
            if of.started:
                tally = Tally(
                    divergences=int(of.divergences),
                    step_size=float(of.step_size),
                    gradients=float(of.latest_num_steps),
                    elapsed_s=float(of.runtime_ms) / 1000,
                )
                self._tell(int(of.finished_draws), int(of.total_draws), tally)

    def take_text(self, text: str, began: float) -> None:
        """Take in what older versions write, by the template below."""
        drawn, total, divergences, step_size, steps = text.split(";")
        tally = Tally(
            divergences=int(divergences),
            step_size=float(step_size),
            gradients=float(steps),
            elapsed_s=time.perf_counter() - began,
        )
        if int(drawn):
            self._tell(int(drawn), int(total), tally)

    def _tell(self, drawn: int, total: int, tally: Tally) -> None:
        tune = total - self.draws
        if drawn <= tune:
            # nutpie counts them from the first draw on; those of tuning say nothing
            tally = replace(tally, divergences=0)
        self.budget.report(self.chain, drawn, tune, total, tally)


_FIELDS = ("finished_draws", "total_draws", "divergences", "step_size", "latest_num_steps")
_TEMPLATE = (
    "{% for chain in chains %}"
    + ";".join("{{ chain." + name + " }}" for name in _FIELDS)
    + "{% endfor %}"
)


class _Telling:
    """A compiled model of a nutpie that tells how it goes in the text of a template only."""

    def __init__(self, compiled: Any, teller: _Teller) -> None:
        self._compiled = compiled
        self._teller = teller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)

    def _make_sampler(
        self, settings: Any, init_mean: Any, cores: int, progress: Any, store: Any
    ) -> Any:
        began = time.perf_counter()
        kind = importlib.import_module("nutpie._lib").ProgressType
        every_ms = int(1000 * REPORT_EVERY_S)
        told = kind.template_callback(
            every_ms, _TEMPLATE, cores, lambda text: self._teller.take_text(text, began)
        )
        return self._compiled._make_sampler(settings, init_mean, cores, told, store)


def _wait(sampler: Any, budget: Budget, opened: Window) -> Any:
    while True:
        try:
            return sampler.wait(timeout=0.1)
        except TimeoutError:
            # it is lent to whoever waits, so others cannot look into it themselves
            opened.show(sampler.inspect)
            if budget.stopped():
                return sampler.abort()
