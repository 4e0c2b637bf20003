"""A result and what was drawn later of the same run, as the one result that PyMC would have given.

Whether they belong together is for `more` to say; here it is checked that they fit.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from xarray import DataTree

from cloudposterior.samplers.protocol import Segment
from cloudposterior.samplers.pymc_chains import Plan

__all__ = ["ATTRIBUTES_OF_A_RUN", "chains_of", "joined_tree", "later_segment"]

ATTRIBUTES_OF_A_RUN = ("created_at", "sampling_time")
"""Attributes in which a joined result differs from that of one run.

It was made when its later part was, and its sampling took as long as that of both parts together.
"""

_NOT_DRAWN = ("observed_data", "constant_data")


def joined_tree(first: DataTree, later: DataTree, *, along: Literal["draw", "chain"]) -> DataTree:
    """Join two results of the same model.

    Parameters
    ----------
    first : xarray.DataTree
        Draws ``[0, n)`` of chains ``[0, c)``.
    later : xarray.DataTree
        Along ``draw``: draws ``[n, N)`` of the same chains; its tuning, if it has any, is left out.
        Along ``chain``: draws ``[0, n)`` of the chains ``[c, C)``. Its draws and chains may be
        numbered from zero.
    along : {"draw", "chain"}
        What there is more of.

    Returns
    -------
    xarray.DataTree
        Groups and variables in the order of `first`. What has no draws is that of `later`.

    Raises
    ------
    ValueError
        If they do not fit: other groups, variables, types, shapes or coordinates.
    """
    kept = {name for name in first.children if along == "draw" and name.startswith("warmup_")}
    drawn = {name for name in first.children if name not in (*_NOT_DRAWN, *kept)}
    lacking = drawn - set(later.children)
    if lacking:
        raise ValueError(f"the later part has no {', '.join(sorted(lacking))}")
    groups: dict[str, xr.Dataset] = {}
    for name, child in first.children.items():
        dataset = child.to_dataset()
        if name in drawn:
            groups[name] = _joined(dataset, later[name].to_dataset(), along, name)
        else:
            whole = dataset if name in kept else later.children.get(name, child).to_dataset()
            groups[name] = whole.copy()
    _add_times(groups, first, later)
    tree = DataTree.from_dict(groups)
    tree.attrs = {**first.attrs, **later.attrs}
    return tree


def _joined(first: xr.Dataset, later: xr.Dataset, along: str, group: str) -> xr.Dataset:
    _check_fit(first, later, along, group)
    length = first.sizes[along] + later.sizes[along]
    variables: dict[Hashable, xr.Variable] = {}
    for name, variable in first.variables.items():
        if name == along:
            numbers = np.arange(length, dtype=variable.dtype)
            variables[name] = xr.Variable(along, numbers, variable.attrs)
        elif along in variable.dims:
            axis = variable.dims.index(along)
            parts = [of.variables[name].to_numpy() for of in (first, later)]
            joined = np.concatenate(parts, axis=axis)
            variables[name] = xr.Variable(variable.dims, joined, variable.attrs)
        else:
            variables[name] = variable
    coords = {name: variables[name] for name in first.coords}
    data = {name: variables[name] for name in first.data_vars}
    # what a run says of itself is of the later one, but how it was tuned
    attrs = {**first.attrs, **later.attrs}
    if "tuning_steps" in first.attrs:
        attrs["tuning_steps"] = first.attrs["tuning_steps"]
    return xr.Dataset(data, coords=coords, attrs=attrs)


def _check_fit(first: xr.Dataset, later: xr.Dataset, along: str, group: str) -> None:
    """Refuse parts that cannot be of one run."""
    numbers = first[along].to_numpy() if along in first.coords else None
    if numbers is None or not np.array_equal(numbers, np.arange(first.sizes[along])):
        raise ValueError(f"the first part lacks a {along} in {group}")
    if set(first.variables) != set(later.variables):
        raise ValueError(f"the parts have other variables in {group}")
    for name, variable in first.variables.items():
        other = later.variables[name]
        if _form(variable, along) != _form(other, along):
            raise ValueError(f"the parts do not fit in {group}/{name}")
        if along not in variable.dims and name in first.coords and not _are_equal(variable, other):
            raise ValueError(f"the parts have other coordinates in {group}/{name}")


def _form(variable: xr.Variable, along: str) -> tuple[Any, ...]:
    sizes = {dim: size for dim, size in variable.sizes.items() if dim != along}
    return variable.dims, variable.dtype, sizes


def _are_equal(one: xr.Variable, other: xr.Variable) -> bool:
    equal: bool = one.equals(other)  # type: ignore[no-untyped-call]
    return equal


def _add_times(groups: Mapping[str, xr.Dataset], first: DataTree, later: DataTree) -> None:
    """Say in each group, as PyMC does, how long the sampling of the whole result took."""
    times = [tree["posterior"].attrs.get("sampling_time") for tree in (first, later)]
    known = [float(seconds) for seconds in times if seconds is not None]
    for dataset in groups.values():
        if "sampling_time" in dataset.attrs:
            dataset.attrs["sampling_time"] = sum(known)


def chains_of(tree: DataTree, chains: Sequence[int]) -> DataTree:
    """Give some chains of a result, by their places.

    Parameters
    ----------
    tree : xarray.DataTree
        The result.
    chains : sequence of int
        Which; all of them give the result as it is.
    """
    if list(chains) == list(range(tree["posterior"].sizes["chain"])):
        return tree
    groups = {name: child.to_dataset() for name, child in tree.children.items()}
    some = DataTree.from_dict(
        {
            name: of.isel(chain=list(chains)) if "chain" in of.dims else of
            for name, of in groups.items()
        }
    )
    some.attrs = dict(tree.attrs)
    return some


def later_segment(segment: Segment, plan: Plan, before: int) -> Segment:
    """Give a segment of a chain as one of a run that begins later, and does not tune.

    `PyMCJoin` for a call of no tuning, and so many draws fewer, takes it, and gives what
    `joined_tree` takes.

    Parameters
    ----------
    segment : Segment
        Draws of a chain that went on from where another run had left it.
    plan : Plan
        What the chain's first segment said of it.
    before : int
        How many draws the chain had then, tuning included.
    """
    return replace(segment, first=segment.first - before, plan=replace(plan, tune=0, said=()))
