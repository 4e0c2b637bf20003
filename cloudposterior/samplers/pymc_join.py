"""From the draws of all chains to what `pymc.sample` returns: PyMC's own last step.

The draws are put where they belong as they arrive, once. PyMC's way into a posterior would copy
them a second time, so it is shown a few draws of each chain, and the arrays take their place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from pymc.backends import init_traces
from pymc.backends.base import BaseTrace, _choose_chains
from pymc.backends.ndarray import NDArray
from pymc.sampling.mcmc import _sample_return
from pymc.sampling.parallel import Draw
from pymc.stats.convergence import log_warning_stats, log_warnings, run_convergence_checks
from pymc.step_methods.compound import get_stats_dtypes_shapes_from_steps
from xarray import DataTree

from cloudposterior.events import ChainReport, Phase
from cloudposterior.posterior import from_tree, to_tree
from cloudposterior.samplers.chain_tree import segments_of, state_after, tree_of
from cloudposterior.samplers.drawn import Drawn
from cloudposterior.samplers.protocol import Segment, State
from cloudposterior.samplers.surroundings import say

__all__ = ["PyMCJoin"]


class _Arrived(NDArray):  # type: ignore[misc]
    """A chain's draws, in their place within the arrays of all chains."""

    shown: int | None = None
    """How many draws PyMC gets to see; None for all."""

    def get_values(self, varname: str, burn: int = 0, thin: int = 1) -> np.ndarray:
        values: np.ndarray = super().get_values(varname, burn, thin)
        return values[: self.shown]

    def expect(self, draws: int, chain: int, stats: list[dict[str, Any]]) -> None:
        """Make room for the statistics; that for the values is there."""
        BaseTrace.setup(self, draws, chain, stats)
        self.chain, self.draws = chain, draws
        self._stats = [{k: np.zeros(draws, dtype) for k, dtype in kinds.items()} for kinds in stats]

    def _slice(self, idx: slice) -> NDArray:
        sliced: NDArray = super()._slice(idx)
        sliced.shown = self.shown
        return sliced


class PyMCJoin:
    """Takes the segments of all chains in, in any order, and gives what `pymc.sample` returns.

    Parameters
    ----------
    model : pymc.Model
        The client's model.
    arguments : mapping
        All named arguments of `pymc.sample`, resolved.
    """

    def __init__(self, model: pm.Model, arguments: Mapping[str, Any]) -> None:
        self._model = model
        self._call = arguments
        self._chains = int(arguments["chains"])
        self._plan: Any = None
        self._arrays: dict[str, np.ndarray] = {}
        self._traces: list[Any] = []
        self._joined: list[Any] = []
        self._run: Any = None
        self._drawn = [0] * self._chains
        self._states: dict[int, State] = {}

    def add(self, segment: Segment, state: State | None = None) -> None:
        """Take the draws of a segment in; those that are there already are passed over.

        Parameters
        ----------
        segment : Segment
            Starts where the chain's draws end, or before. The first of a chain says what is to
            come.
        state : State, optional
            Where the chain stands at the segment's end.
        """
        if self._plan is None:
            self._begin(segment)
        here = self._drawn[segment.chain]
        # what does not join on is of a run that was interrupted in the middle of a segment
        if not segment.first <= here < segment.first + segment.draws:
            return
        if self._call["trace"] is None and self._call["callback"] is None:
            self._fill(segment, slice(here - segment.first, segment.draws))
        else:
            for number in range(here - segment.first, segment.draws):
                self._record(segment, number)
        self._tell_of(segment, here)
        if state is not None and state.held is not None:
            self._states[segment.chain] = state
            self._record_state(self._traces[segment.chain], state)

    def _record_state(self, trace: Any, state: State) -> None:
        """Give a trace of the user's what it keeps of the sampler."""
        if hasattr(trace, "record_sampling_state"):
            trace.record_sampling_state(_Step(self._plan, state.held.sampling_state))

    def report(self, chain: int, state: State) -> ChainReport | Phase:
        """Say where a chain stands."""
        tune = self._plan.tune
        return ChainReport(chain, "", state.drawn, tune, state.total, **vars(state.tally))

    def report_whole(self, chain: int) -> ChainReport:
        """Say of a chain that has come in whole what was told of it when it was drawn."""
        tune, total = self._plan.tune, self._drawn[chain]
        (stats,) = (of._stats for of in self._traces if of.chain == chain)
        diverging = [
            kinds["diverging"][tune:total].sum() for kinds in stats if "diverging" in kinds
        ]
        sizes = [kinds["step_size"][total - 1] for kinds in stats if "step_size" in kinds]
        return ChainReport(
            chain,
            "",
            total,
            tune,
            total,
            divergences=int(sum(diverging)),
            step_size=float(sizes[0]) if sizes else None,
        )

    def has_draws(self) -> bool:
        """Say whether there is anything that a result could be made of."""
        enough = 0 if self._keeps_tuning or self._plan is None else self._plan.tune
        return any(drawn > enough for drawn in self._drawn)

    def drawn(self, chain: int) -> int:
        """Count the draws of a chain that have come in, tuning included."""
        return self._drawn[chain]

    def shortest(self) -> int:
        """Count the draws, without tuning, that all chains have."""
        return 0 if self._plan is None else max(0, min(self._drawn) - self._plan.tune)

    def handed_over(self) -> int:
        """Count the draws, without tuning, that all chains have handed over."""
        return self.shortest()

    def values(self, names: Sequence[str], draws: int) -> dict[str, np.ndarray]:
        """Give the first draws after tuning, ``(chain, draw, *shape)`` by variable."""
        held = slice(self._plan.tune, self._plan.tune + draws)
        return {name: self._arrays[name][:, held] for name in names}

    def cut(self, draws: int) -> None:
        """Leave out what came in of each chain after so many draws, not counting tuning."""
        length = self._plan.tune + draws
        for trace in self._traces:
            chain = trace.chain
            trace.draw_idx = self._drawn[chain] = min(self._drawn[chain], length)

    @contextmanager
    def cut_to(self, draws: int) -> Iterator[None]:
        """Leave out what came in of each chain after so many draws, for as long as this lasts."""
        drawn = list(self._drawn)
        held = [(trace, trace.samples, trace._stats) for trace in self._traces]
        self.cut(draws)
        try:
            yield
        finally:
            # one that is closed lets go of what it does not count
            for trace, samples, stats in held:
                trace.samples, trace._stats = samples, stats
                trace.draw_idx = self._drawn[trace.chain] = drawn[trace.chain]

    def so_far(self) -> Drawn | None:
        """Give the draws that have come in; None where they went into a trace of the user's."""
        if not self._arrays:
            return None
        recorded = {str(rv.name) for rv in self._model.unobserved_RVs}
        arrays = {name: array for name, array in self._arrays.items() if name in recorded}
        return Drawn.of(self._drawn, self._plan.tune, arrays)

    def is_whole(self, chain: int) -> bool:
        """Say whether all draws of a chain have come in."""
        plan = self._plan
        return plan is not None and self._drawn[chain] >= plan.tune + int(self._call["draws"])

    def states(self) -> dict[int, State]:
        """Give where chains go on from before anything has come in: nowhere."""
        return {}

    def ends(self) -> dict[int, State]:
        """Give where the chains ended; nothing unless that is known of all."""
        known = all(self.is_whole(chain) and chain in self._states for chain in range(self._chains))
        return dict(self._states) if known else {}

    def part(self, chain: int, first: int) -> DataTree | None:
        """Give the draws of a chain from one on, for `add_part`.

        Parameters
        ----------
        chain : int
            The number of the chain.
        first : int
            The number of the first draw, tuning included.

        Returns
        -------
        xarray.DataTree or None
            None where there are none, where the chain could not go on after them, or where they
            cannot be written down.
        """
        plan, last = self._plan, self._drawn[chain]
        if plan is None or self._call["trace"] is not None or last <= first:
            return None
        state = self._states.get(chain)
        if state is not None and state.drawn != last:
            state = None
        if state is None and not self.is_whole(chain):
            return None
        trace = next(trace for trace in self._traces if trace.chain == chain)
        # what was not to be kept of the tuning never came in
        held = slice(first if self._keeps_tuning else min(max(first, plan.tune), last), last)
        samples = {name: array[chain, held] for name, array in self._arrays.items()}
        stats = [{k: v[first:last] for k, v in kinds.items()} for kinds in trace._stats]
        try:
            return tree_of(plan, samples, stats, first=first, state=state)
        except TypeError:
            # a step method of the user's may know what no file holds
            return None

    def add_part(self, chain: int, tree: DataTree) -> State | None:
        """Take in draws that `part` gave in another run of the same call.

        Parameters
        ----------
        chain : int
            The number of the chain.
        tree : xarray.DataTree
            The draws; they follow on those that are here, or overlap them, as those do that another
            client of the same run has kept.

        Returns
        -------
        State or None
            Where the chain goes on from; None where it is whole, or is further by now.

        Raises
        ------
        ValueError, LookupError, TypeError
            If it is none; nothing is taken in then.
        """
        draws = int(self._call["draws"])
        segments = segments_of(tree, chain, draws)
        if segments[0].first > self._drawn[chain]:
            raise ValueError(f"these draws of chain {chain} do not follow on those before")
        last, total = segments[-1].first + segments[-1].draws, segments[0].plan.tune + draws
        state = state_after(tree, chain, last, total)
        if state is None and last < total:
            raise ValueError(f"nothing says how chain {chain} goes on")
        if last <= self._drawn[chain]:
            return None
        for segment in segments:
            self.add(segment, state if segment is segments[-1] else None)
        return state if last < total else None

    def _begin(self, segment: Segment) -> None:
        plan = self._plan = segment.plan
        say(plan.said, quiet=self._call["quiet"])
        total = plan.tune + int(self._call["draws"])
        wanted = self._variables()
        names = [v.name for v in wanted]
        if self._call["trace"] is not None:
            self._run, self._traces = init_traces(
                backend=self._call["trace"],
                chains=self._chains,
                expected_length=total,
                step=_Step(plan),
                initial_point=self._point(segment, 0),
                model=self._model,
                trace_vars=None if self._call["var_names"] is None else wanted,
                tune=plan.tune,
            )
            return
        # memory that nothing is written to, such as tuning draws that nobody wants, is not taken
        self._arrays = {
            name: np.empty((self._chains, total, *plan.shapes[name]), plan.dtypes[name])
            for name in names
        }
        for chain in range(self._chains):
            trace = _Arrived(
                model=self._model,
                vars=wanted,
                fn=_recorded_elsewhere,
                var_shapes={name: plan.shapes[name] for name in names},
                var_dtypes={name: plan.dtypes[name] for name in names},
            )
            trace.samples = {name: array[chain] for name, array in self._arrays.items()}
            trace.expect(total, chain, plan.stats)
            self._traces.append(trace)

    def _variables(self) -> list[Any]:
        chosen = self._call["var_names"]
        if chosen is None:
            return list(self._model.unobserved_value_vars)
        variables = [v for v in self._model.unobserved_RVs if v.name in chosen]
        return list(self._model.replace_rvs_by_values(variables))

    def _fill(self, segment: Segment, new: slice) -> None:
        trace = self._traces[segment.chain]
        first, last = segment.first + new.start, segment.first + new.stop
        if self._keeps_tuning or last > self._plan.tune:
            for name, values in trace.samples.items():
                values[first:last] = segment.samples[name][new]
        for mine, theirs in zip(trace._stats, segment.stats, strict=True):
            for name, values in theirs.items():
                mine[name][first:last] = values[new]
        trace.draw_idx = self._drawn[segment.chain] = last

    @property
    def _keeps_tuning(self) -> bool:
        return not self._call["discard_tuned_samples"]

    def _record(self, segment: Segment, number: int) -> None:
        """Take one draw in, as PyMC does when it comes from another process."""
        chain, draw = segment.chain, segment.first + number
        trace, tuning = self._traces[chain], draw < self._plan.tune
        stats = [{k: v[number] for k, v in kinds.items()} for kinds in segment.stats]
        point = self._point(segment, number)
        if self._call["trace"] is not None:
            trace.record(point, stats, in_warmup=tuning)
        else:
            self._fill(segment, slice(number, number + 1))
        self._drawn[chain] = draw + 1
        if self._call["callback"] is not None:
            total = self._plan.tune + int(self._call["draws"])
            last = draw + 1 == total
            self._call["callback"](trace=trace, draw=Draw(chain, last, draw, tuning, stats, point))

    def _point(self, segment: Segment, number: int) -> dict[str, np.ndarray]:
        names = [v.name for v in self._model.value_vars]
        return {name: np.asarray(segment.samples[name][number]) for name in names}

    def _tell_of(self, segment: Segment, since: int) -> None:
        """Log what the sampler warned of, draw by draw."""
        for kinds in segment.stats:
            said = kinds.get("warning")
            for warning in () if said is None else said[since - segment.first :]:
                if warning:
                    log_warning_stats([{"warning": warning}])

    def finish(self, elapsed_s: float, *, without: Collection[int] = ()) -> Any:
        """Give what `pymc.sample` returns for the draws that have come in.

        Parameters
        ----------
        elapsed_s : float
            How long the sampling took, in seconds.
        without : collection of int
            Chains to leave out.

        Raises
        ------
        ValueError
            If there are none, as PyMC says it.
        """
        if self._plan is None:
            raise ValueError("Not enough samples to build a trace.")
        # the others stay: what came in of them is kept for the next run
        self._joined = [trace for trace in self._traces if trace.chain not in without]
        for trace in self._joined:
            trace.close()
        call = self._call
        asked = dict(call["idata_kwargs"] or {})
        if (
            not call["return_inferencedata"]
            or call["trace"] is not None
            or any(asked.get(name) for name in ("log_likelihood", "log_prior"))
        ):
            return self._returned(elapsed_s, checks=call["compute_convergence_checks"])
        for trace in self._joined:
            # ArviZ takes fewer draws than chains for an array that lies on its side
            trace.shown = self._chains
        result = from_tree(self._with_all_draws(to_tree(self._returned(elapsed_s, checks=False))))
        if call["compute_convergence_checks"]:
            found = run_convergence_checks(result, self._model)
            if not call["quiet"]:
                log_warnings(found)
        return result

    def _returned(self, elapsed_s: float, *, checks: bool) -> Any:
        call = self._call
        whole = call["trace"] if hasattr(call["trace"], "straces") else self._joined
        return _sample_return(
            run=self._run,
            traces=whole,
            tune=self._plan.tune,
            t_sampling=elapsed_s,
            discard_tuned_samples=call["discard_tuned_samples"],
            compute_convergence_checks=checks,
            return_inferencedata=call["return_inferencedata"],
            keep_warning_stat=call["keep_warning_stat"],
            idata_kwargs=call["idata_kwargs"] or {},
            model=self._model,
            quiet=call["quiet"],
        )

    def _with_all_draws(self, shown: DataTree) -> DataTree:
        """Put the arrays of all draws in the place of the few that PyMC was shown."""
        tune = self._plan.tune
        chosen, length = _choose_chains(self._joined, 0 if self._keeps_tuning else tune)
        chains = [int(trace.chain) for trace in chosen]
        tuned = min(tune, length)
        draws = {"posterior": slice(tuned, length), "warmup_posterior": slice(0, tuned)}
        groups = {name: child.to_dataset() for name, child in shown.children.items()}
        for group in draws.keys() & groups.keys():
            groups[group] = self._filled(groups[group], chains, draws[group])
        tree = DataTree.from_dict(groups)
        tree.attrs = dict(shown.attrs)
        return tree

    def _filled(self, shown: xr.Dataset, chains: list[int], draws: slice) -> xr.Dataset:
        # of all chains, as they lie there, without a copy
        which: Any = slice(None) if chains == list(range(self._chains)) else chains
        values = {
            name: (variable.dims, self._arrays[str(name)][which, draws], variable.attrs)
            for name, variable in shown.data_vars.items()
        }
        coords = {name: c.variable for name, c in shown.coords.items() if name != "draw"}
        coords["draw"] = xr.Variable("draw", np.arange(draws.stop - draws.start))
        ordered = {name: coords[name] for name in shown.coords}
        return xr.Dataset(values, coords=ordered, attrs=shown.attrs)


@dataclass(frozen=True)
class _Method:
    stats_dtypes_shapes: dict[str, Any]


class _Step:
    """What a trace of the user's asks of a step method that is elsewhere."""

    def __init__(self, plan: Any, sampling_state: Any = None) -> None:
        self.methods = [_Method(shapes) for shapes in plan.stats_shapes]
        self.stats_dtypes = plan.stats
        self.stats_dtypes_shapes = get_stats_dtypes_shapes_from_steps(self.methods)
        self.sampling_state = sampling_state


def _recorded_elsewhere(*_: Any, **__: Any) -> Any:
    raise TypeError("this trace came from a cluster, and records nothing more")
