"""A whole chain of PyMC's own samplers as a tree that a cache can hold, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray import DataTree

from cloudposterior.samplers.protocol import Segment
from cloudposterior.samplers.pymc_chains import Plan

__all__ = ["segments_of", "tree_of"]

_OBJECTS_LEFT_OUT = {"warning"}
"""Statistics of objects that PyMC takes out of a result; no file holds them."""


def tree_of(
    plan: Plan, samples: Mapping[str, np.ndarray], stats: list[dict[str, np.ndarray]]
) -> DataTree | None:
    """Write a chain down.

    Parameters
    ----------
    plan : Plan
        What the chain's first segment said of it.
    samples : mapping of str to numpy.ndarray
        Values by variable, ``(draw, *shape)``; the last draws of the chain, or all.
    stats : list of dict
        Statistics of all draws, ``(draw,)`` by name, for each step method.

    Returns
    -------
    xarray.DataTree or None
        None where a statistic is of a kind that no file holds, and that would be missed.
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
    }
    tree.attrs["plan"] = json.dumps(written)
    return tree


def _dataset(values: Mapping[str, np.ndarray]) -> xr.Dataset:
    return xr.Dataset(
        {
            name: (("draw", *(f"{name}_dim_{i}" for i in range(v.ndim - 1))), v)
            for name, v in values.items()
        }
    )


def segments_of(tree: DataTree, chain: int, draws: int) -> list[Segment]:
    """Read a chain that `tree_of` wrote down.

    Parameters
    ----------
    tree : xarray.DataTree
        The chain.
    chain : int
        Its number.
    draws : int
        How many draws it should have after tuning.

    Returns
    -------
    list of Segment
        Whose tuning is a segment of its own, without samples, where it was not written down.

    Raises
    ------
    ValueError, LookupError, TypeError
        If this is no such tree.
    """
    plan = _plan(json.loads(tree.attrs["plan"]))
    total = plan.tune + draws
    samples = _values(tree["samples"])
    stats = [_stats(tree, number, kinds, total) for number, kinds in enumerate(plan.stats)]
    held = len(next(iter(samples.values()))) if samples else total
    first = total - held
    expected = {name: ((held, *shape), plan.dtypes[name]) for name, shape in plan.shapes.items()}
    found = {name: (values.shape, values.dtype) for name, values in samples.items()}
    if first not in (0, plan.tune) or found != expected:
        raise ValueError(f"chain {chain} is not of the form that it is said to have")
    if first == 0:
        return [Segment(chain, 0, total, samples, stats, plan)]
    tuning = [{k: v[:first] for k, v in one.items()} for one in stats]
    rest = [{k: v[first:] for k, v in one.items()} for one in stats]
    return [
        Segment(chain, 0, first, {}, tuning, plan),
        Segment(chain, first, held, samples, rest),
    ]


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
