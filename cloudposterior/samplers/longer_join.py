"""The draws that a longer run has more than an earlier one, joined on to those.

Chains of the earlier run go on from where they ended; chains that it did not have are drawn whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pymc as pm
from pymc.stats.convergence import log_warnings, run_convergence_checks
from xarray import DataTree

from cloudposterior.events import ChainReport
from cloudposterior.posterior import from_tree, to_tree
from cloudposterior.samplers.drawn import Drawn
from cloudposterior.samplers.longer import chains_of, joined_tree, later_segment
from cloudposterior.samplers.protocol import Segment, State
from cloudposterior.samplers.pymc_chains import Plan
from cloudposterior.samplers.pymc_join import PyMCJoin

__all__ = ["Earlier", "LongerJoin"]


@dataclass(frozen=True)
class Earlier:
    """The result of a run of fewer draws, or fewer chains, that is otherwise the same.

    Attributes
    ----------
    tree : xarray.DataTree
        The result.
    states : mapping of int to State
        Where each of its chains ended.
    random_seed : Any
        Its seed, as it is recorded.
    """

    tree: DataTree
    states: Mapping[int, State]
    random_seed: Any

    @property
    def chains(self) -> int:
        """How many chains it has."""
        return int(self.tree["posterior"].sizes["chain"])

    @property
    def draws(self) -> int:
        """How many draws each of them has after tuning."""
        return int(self.tree["posterior"].sizes["draw"])

    @property
    def drawn(self) -> int:
        """The same with tuning."""
        return next(iter(self.states.values())).drawn


class LongerJoin:
    """Takes the segments of a longer run in, as `PyMCJoin` does, and gives the whole result.

    Parameters
    ----------
    model : pymc.Model
        The client's model.
    arguments : mapping
        All named arguments of `pymc.sample`, resolved.
    earlier : Earlier
        What is there already.
    """

    def __init__(self, model: pm.Model, arguments: Mapping[str, Any], earlier: Earlier) -> None:
        self._model = model
        self._call = arguments
        self._earlier = earlier
        self._old = earlier.chains
        # one message and one look at the whole are enough
        quiet = {**arguments, "quiet": True, "compute_convergence_checks": False}
        more = int(arguments["draws"]) - earlier.draws
        self._later = PyMCJoin(model, {**quiet, "draws": more, "tune": 0, "chains": self._old})
        others = int(arguments["chains"]) - self._old
        self._others = PyMCJoin(model, {**quiet, "chains": others})
        self._more = more
        self._plan: Plan | None = None

    def states(self) -> dict[int, State]:
        """Give where chains go on from before anything has come in."""
        if not self._more:
            return {}
        return {c: replace(s, total=s.total + self._more) for c, s in self._earlier.states.items()}

    def ends(self) -> dict[int, State]:
        """Give where the chains ended; nothing unless that is known of all.

        Nothing, too, where there are more chains than before: their states hold the mean of all
        initial points, of which there were fewer, and PyMC goes on with one such mean only.
        """
        if self._old < int(self._call["chains"]):
            return {}
        return {chain: self._shifted(state, 1) for chain, state in self._later.ends().items()}

    def add(self, segment: Segment, state: State | None = None) -> None:
        """Take the draws of a segment in, as `PyMCJoin.add`."""
        if segment.chain >= self._old:
            others = None if state is None else replace(state, chains=(segment.chain - self._old,))
            self._others.add(replace(segment, chain=segment.chain - self._old), others)
            return
        if self._plan is None:
            self._plan = _plan_of(segment)
        later = later_segment(segment, self._plan, self._earlier.drawn)
        self._later.add(later, None if state is None else self._shifted(state, -1))

    def _shifted(self, state: State, sign: int) -> State:
        by = sign * self._earlier.drawn
        return replace(state, drawn=state.drawn + by, total=state.total + by)

    def report(self, chain: int, state: State) -> ChainReport:
        """Say where a chain stands."""
        tune = state.total - int(self._call["draws"])
        return ChainReport(chain, "", state.drawn, tune, state.total, **vars(state.tally))

    def report_whole(self, chain: int) -> ChainReport:
        """Say of a chain that is there whole what was told of it when it was drawn."""
        if chain >= self._old:
            return replace(self._others.report_whole(chain - self._old), chain=chain)
        state = self._earlier.states[chain]
        total = state.drawn + self._more
        return self.report(chain, replace(state, drawn=total, total=total))

    def has_draws(self) -> bool:
        """Say whether there is anything that a result could be made of."""
        return True

    def drawn(self, chain: int) -> int:
        """Count the draws of a chain that are there, tuning included."""
        if chain >= self._old:
            return self._others.drawn(chain - self._old)
        return self._earlier.drawn + self._later.drawn(chain)

    def is_whole(self, chain: int) -> bool:
        """Say whether all draws of a chain are there."""
        if chain >= self._old:
            return self._others.is_whole(chain - self._old)
        return self._later.drawn(chain) >= self._more

    def part(self, chain: int, first: int) -> DataTree | None:
        """Give the new draws of a chain from one on, as `PyMCJoin.part`."""
        if chain >= self._old:
            return self._others.part(chain - self._old, first)
        return self._later.part(chain, max(0, first - self._earlier.drawn))

    def add_part(self, chain: int, tree: DataTree) -> State | None:
        """Take in new draws that `part` gave in another run of the same call."""
        if chain >= self._old:
            state = self._others.add_part(chain - self._old, tree)
            return None if state is None else replace(state, chains=(chain,))
        state = self._later.add_part(chain, tree)
        return None if state is None else self._shifted(state, 1)

    def so_far(self) -> Drawn | None:
        """Give no draws to look at: the new ones alone say little."""
        return None

    def finish(self, elapsed_s: float, *, without: Collection[int] = ()) -> Any:
        """Give what `pymc.sample` returns.

        Of a run that was stopped, chains that go on are cut to the shortest; chains that the
        earlier run did not have are left out unless they are whole.

        Parameters
        ----------
        elapsed_s : float
            How long the sampling took, in seconds.
        without : collection of int
            Chains that failed.
        """
        tree = self._earlier.tree
        if self._more:
            going_on = [chain for chain in range(self._old) if chain not in without]
            tree = chains_of(tree, going_on)
            shortest = min(self._later.drawn(chain) for chain in going_on)
            if shortest:
                # for the result alone: all that came in is kept for the next run
                with self._later.cut_to(shortest):
                    later = to_tree(self._later.finish(elapsed_s, without=without))
                tree = joined_tree(tree, later, along="draw")
        new = range(self._old, int(self._call["chains"]))
        lacking = [chain - self._old for chain in new if not self.is_whole(chain)]
        if len(lacking) < len(new):
            others = to_tree(self._others.finish(elapsed_s, without=lacking))
            tree = joined_tree(tree, others, along="chain")
        result = from_tree(tree)
        if self._call["compute_convergence_checks"]:
            found = run_convergence_checks(result, self._model)
            if not self._call["quiet"]:
                log_warnings(found)
        return result


def _plan_of(segment: Segment) -> Plan:
    """Read off a segment what the first one of its chain has said."""
    return Plan(
        tune=0,
        shapes={name: values.shape[1:] for name, values in segment.samples.items()},
        dtypes={name: np.asarray(values).dtype for name, values in segment.samples.items()},
        stats=[{name: values.dtype for name, values in of.items()} for of in segment.stats],
        stats_shapes=[],
        said=(),
    )
