"""Draws of one chain of PyMC's own samplers as a tree that a cache can hold, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray import DataTree

from cloudposterior.samplers.protocol import Segment, State
from cloudposterior.samplers.pymc_chains import Plan
from cloudposterior.samplers.states import states_of_tree, tree_of_states

__all__ = ["segments_of", "state_after", "tree_of"]

_OBJECTS_LEFT_OUT = {"warning"}
"""Statistics of objects that PyMC takes out of a result; no file holds them."""


def tree_of(
    plan: Plan,
    samples: Mapping[str, np.ndarray],
    stats: list[dict[str, np.ndarray]],
    *,
    first: int = 0,
    state: State | None = None,
) -> DataTree | None:
    """Write draws down that follow each other.

    Parameters
    ----------
    plan : Plan
        What the chain's first segment said of it.
    samples : mapping of str to numpy.ndarray
        Values by variable, ``(draw, *shape)``; of all these draws, or of those after tuning.
    stats : list of dict
        Statistics of these draws, ``(draw,)`` by name, for each step method.
    first : int
        The number of the first draw, tuning included.
    state : State, optional
        Where the chain stands after them; None where that does not matter any more.

    Returns
    -------
    xarray.DataTree or None
        None where a statistic is of a kind that no file holds, and that would be missed.

    Raises
    ------
    TypeError
        If the state cannot be written down.
    """
    kinds = [{name: np.dtype(kind) for name, kind in one.items()} for one in plan.stats]
    objects = {name for one in kinds for name, kind in one.items() if kind.hasobject}
    if objects - _OBJECTS_LEFT_OUT:
        return None
    groups = {"samples": _dataset(samples)}
    for number, values in enumerate(stats):
        groups[f"stats_{number}"] = _dataset({k: v for k, v in values.items() if k not in objects})
    tree = DataTree.from_dict(groups)
    written = {
        "tune": plan.tune,
        "shapes": {name: list(plan.shapes[name]) for name in samples},
        "dtypes": {name: plan.dtypes[name].str for name in samples},
        "stats": [{name: kind.str for name, kind in one.items()} for one in kinds],
        "first": first,
        "draws": len(next(v for values in stats for v in values.values())),
    }
    tree.attrs["plan"] = json.dumps(written)
    if state is not None:
        tree["state"] = tree_of_states({state.chains[0]: state})
    return tree


def _dataset(values: Mapping[str, np.ndarray]) -> xr.Dataset:
    return xr.Dataset(
        {
            name: (("draw", *(f"{name}_dim_{i}" for i in range(v.ndim - 1))), v)
            for name, v in values.items()
        }
    )


def segments_of(tree: DataTree, chain: int, draws: int) -> list[Segment]:
    """Read draws that `tree_of` wrote down.

    Parameters
    ----------
    tree : xarray.DataTree
        The draws.
    chain : int
        The number of their chain.
    draws : int
        How many draws the chain has after tuning.

    Returns
    -------
    list of Segment
        Whose tuning is a segment of its own, without samples, where it was not written down.

    Raises
    ------
    ValueError, LookupError, TypeError
        If this is no such tree.
    """
    written = json.loads(tree.attrs["plan"])
    plan, first, count = _plan(written), int(written["first"]), int(written["draws"])
    if first < 0 or count < 1 or first + count > plan.tune + draws:
        raise ValueError(f"chain {chain} has not as many draws as it is said to have")
    samples = _values(tree["samples"])
    stats = [_stats(tree, number, kinds, count) for number, kinds in enumerate(plan.stats)]
    held = len(next(iter(samples.values()))) if samples else count
    tuning = min(max(plan.tune - first, 0), count)
    expected = {name: ((held, *shape), plan.dtypes[name]) for name, shape in plan.shapes.items()}
    found = {name: (values.shape, values.dtype) for name, values in samples.items()}
    if held not in (count, count - tuning) or found != expected:
        raise ValueError(f"chain {chain} is not of the form that it is said to have")
    if held == count:
        return [Segment(chain, first, count, samples, stats, plan)]
    before = [{k: v[:tuning] for k, v in one.items()} for one in stats]
    after = [{k: v[tuning:] for k, v in one.items()} for one in stats]
    segments = [
        Segment(chain, first, tuning, {}, before, plan),
        Segment(chain, first + tuning, held, samples, after, plan),
    ]
    return [segment for segment in segments if segment.draws]


def state_after(tree: DataTree, chain: int, drawn: int, total: int) -> State | None:
    """Read where a chain stands after draws that `tree_of` wrote down.

    Parameters
    ----------
    tree : xarray.DataTree
        The draws.
    chain : int
        The number of their chain.
    drawn, total : int
        How many draws it has then, and will have, tuning included.

    Returns
    -------
    State or None
        None where it was not written down.

    Raises
    ------
    ValueError
        If it is another chain's, or stands elsewhere.
    """
    written = tree.children.get("state")
    if written is None:
        return None
    (state,) = states_of_tree(written).values()
    if (state.chains, state.drawn, state.total) != ((chain,), drawn, total):
        raise ValueError(f"the state that is said to be of chain {chain} is another one")
    return state


def _plan(written: Mapping[str, Any]) -> Plan:
    return Plan(
        tune=int(written["tune"]),
        shapes={name: tuple(shape) for name, shape in written["shapes"].items()},
        dtypes={name: np.dtype(text) for name, text in written["dtypes"].items()},
        stats=[{k: np.dtype(text) for k, text in one.items()} for one in written["stats"]],
        stats_shapes=[],
        said=(),
    )


def _values(group: Any) -> dict[str, np.ndarray]:
    return {str(name): v.to_numpy() for name, v in group.to_dataset().variables.items()}


def _stats(
    tree: DataTree, number: int, kinds: Mapping[str, np.dtype[Any]], total: int
) -> dict[str, np.ndarray]:
    kept = _values(tree[f"stats_{number}"])
    stats = {
        name: np.full(total, None) if kind.hasobject else kept[name].astype(kind, copy=False)
        for name, kind in kinds.items()
    }
    if any(values.shape != (total,) for values in stats.values()):
        raise ValueError(f"the statistics are not those of {total} draws")
    return stats
