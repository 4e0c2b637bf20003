"""A tree as a plan of datasets and one JSON layout, and the exact tree out of the two again.

Others read the datasets alone; this package reads each dataset as bare numbers or text and does
with it what the layout says, so that no convention of netCDF can alter a user's data.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pandas.api.extensions import ExtensionArray

from cloudposterior.cache import indexes
from cloudposterior.cache.arrays import (
    Array,
    Form,
    Stored,
    decode_array,
    encode_array,
    stored_form,
)
from cloudposterior.cache.coordinates import decode_indexes, encode_indexes
from cloudposterior.cache.hdf5 import check_ratio
from cloudposterior.cache.outside import attributes, readable, stored_name
from cloudposterior.cache.values import Json, decode_value, encode_value

__all__ = ["Dataset", "Group", "Read", "check_layout", "plan_tree", "rebuild_tree"]

Read = Callable[[str, str, Form], Array]
"""Gives the content of a dataset by its group's path, its name, and the form that it must have."""

# A result has some ten groups. Each costs time, and the deeper the more.
_MOST_GROUPS = 4096
_MOST_DEPTH = 64


@dataclass(frozen=True)
class Dataset:
    """One dataset to write: its name, its dimensions' names, its content."""

    name: str
    dims: tuple[str, ...]
    stored: Stored
    attrs: dict[str, Any]


@dataclass(frozen=True)
class Group:
    """One group to write: its path, the sizes of its dimensions, its attributes and datasets."""

    path: str
    dims: dict[str, int]
    attrs: dict[str, Any]
    datasets: list[Dataset]


def plan_tree(tree: xr.DataTree) -> tuple[list[Group], Json]:
    """Return what to write for `tree`, and the layout by which `rebuild_tree` makes it again.

    Raises
    ------
    TypeError
        If something cannot be held exactly; the message names group, variable and attribute.
    """
    if tree.parent is not None:
        tree = tree.copy()  # a root of its own, with the coordinates that it inherits
    groups, coded = [], []
    paths = {"/": "/"}
    for node in tree.subtree:
        if node.parent is not None:
            paths[node.path] = _child_path(paths[node.parent.path], node, node.parent)
        with _named(f"group {node.path!r}"):
            group, layout = _plan_group(node, paths[node.path])
        groups.append(group)
        coded.append(layout)
    return groups, {"name": encode_value(tree.name), "groups": coded}


def _child_path(path: str, node: xr.DataTree, parent: xr.DataTree) -> str:
    siblings = [name for name in parent.children if name != node.name]
    return f"{path.rstrip('/')}/{stored_name(node.name, siblings)}"


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Say in an error where in the tree it arose."""
    try:
        yield
    except RecursionError:
        raise TypeError(f"{place}: nested too deeply, or within itself") from None
    except TypeError as error:
        raise TypeError(f"{place}: {error}") from error


def _encode_attrs(attrs: Mapping[Any, Any]) -> Json:
    coded = []
    for name, value in attrs.items():
        with _named(f"attribute {name!r}"):
            coded.append([encode_value(name), encode_value(value)])
    return coded


def _decode_attrs(coded: Json) -> dict[Any, Any]:
    return {decode_value(name): decode_value(value) for name, value in coded}


def _plan_group(node: xr.DataTree, path: str) -> tuple[Group, Json]:
    dataset = node.to_dataset(inherit=False)
    coded_attrs = _encode_attrs(dataset.attrs)
    coded_indexes, in_layout = encode_indexes(dataset)
    children = list(node.children)
    dims: dict[Hashable, str] = {}
    for dim in dataset.sizes:
        dims[dim] = stored_name(dim, [*children, *dims.values()])
    taken = {*children, *dims.values()}
    datasets, coded = [], []
    for name, variable in dataset.variables.items():
        with _named(f"variable {name!r}"):
            if variable.dims == (name,):
                stored = dims[name]
            else:
                stored = stored_name(name, taken, keep=name not in dims)
            taken.add(stored)
            planned, layout = _plan_variable(name, variable, stored, dims, name in in_layout)
        coded.append({**layout, "coord": name in dataset.coords})
        datasets.append(planned)
    group = Group(
        path=path,
        dims={dims[dim]: size for dim, size in dataset.sizes.items()},
        attrs=attributes(dataset.attrs, _coordinates(coded)),
        datasets=datasets,
    )
    return group, {
        "path": node.path,
        "attrs": coded_attrs,
        "stored": path,
        "variables": coded,
        "indexes": coded_indexes,
    }


def _coordinates(coded: Json) -> dict[str, str]:
    """Tell xarray, by its convention, which variables beside the dimensions' are coordinates."""
    names = [v["stored"] for v in coded if v["coord"] and v["dims"] != [v["name"]]]
    text = " ".join(name for name in names if " " not in name)
    return {"coordinates": text} if text else {}


def _plan_variable(
    name: Hashable,
    variable: xr.Variable,
    stored_as: str,
    dims: Mapping[Hashable, str],
    in_layout: bool,
) -> tuple[Dataset, Json]:
    coded = {
        "name": encode_value(name),
        "stored": stored_as,
        "dims": [encode_value(dim) for dim in variable.dims],
        "shape": list(variable.shape),
        "attrs": _encode_attrs(variable.attrs),
    }
    values = variable.to_index() if in_layout else _loaded(variable)
    if isinstance(values, np.ndarray):
        stored = encode_array(values)
        coded["codec"] = stored.codec
    else:
        stored = _shown(values)
        if not in_layout:
            coded["codec"] = {"kind": "pandas", "values": indexes.encode_pandas(values)}
    own = {} if stored_as == name else {"cloudposterior_name": readable(str(name))}
    attrs = attributes(variable.attrs, {**stored.attrs, **own})
    return Dataset(stored_as, tuple(dims[dim] for dim in variable.dims), stored, attrs), coded


def _loaded(variable: xr.Variable) -> Any:
    """Return the values as a numpy array or a pandas extension array, computed where lazy."""
    if isinstance(variable, xr.IndexVariable):
        is_numpy = isinstance(variable.dtype, np.dtype)
        return np.asarray(variable.values) if is_numpy else variable.to_index().array
    data = variable.data
    if hasattr(data, "__dask_graph__"):
        data = data.compute(scheduler="threads")
    if type(data) is np.ndarray or isinstance(data, ExtensionArray):
        return data
    if isinstance(data, np.generic):  # dask computes an array without dimensions to a scalar
        return np.asarray(data)
    raise TypeError(f"data of type {type(data).__qualname__} cannot be held exactly")


def _shown(values: pd.Index | ExtensionArray) -> Stored:
    """Return what other readers see of values that the layout holds."""
    if isinstance(values.dtype, np.dtype) and values.dtype.kind != "O":
        return encode_array(np.asarray(values))
    texts = np.empty(len(values), dtype=object)
    texts[:] = [readable(str(item)) for item in values]
    return Stored(texts, codec={})


def check_layout(layout: Json, data_bytes: int | None = None) -> int:
    """Refuse a layout whose tree would take more than its file can hold.

    A layout may be made up to do harm. So what it asks for is added up before anything is read.

    Parameters
    ----------
    layout : dict
        The layout.
    data_bytes : int, optional
        The size of the HDF5 data; None where it is not written yet.

    Returns
    -------
    int
        How many bytes its arrays take.

    Raises
    ------
    ValueError
        If the tree is too large or too deep, or the layout is none.
    """
    groups = layout["groups"]
    _check_paths([group["path"] for group in groups])
    _check_depth([group["stored"] for group in groups])
    stored, taken, decoded = set(), 0, 0
    for group in groups:
        for coded in group["variables"]:
            if "codec" in coded and coded["codec"]["kind"] != "pandas" and 0 not in coded["shape"]:
                stored.add((group["stored"], coded["stored"]))
                taken += 1
                form = stored_form(coded["codec"], coded["shape"])
                decoded += max(form.stored_bytes, form.decoded_bytes)
    if len(stored) < taken:  # one dataset would be read again and again
        raise ValueError("two variables have one dataset")
    if data_bytes is not None:
        check_ratio(decoded, data_bytes)
    return decoded


def _check_paths(paths: list[str]) -> None:
    if len(paths) > _MOST_GROUPS:
        raise ValueError(f"{len(paths)} groups, of at most {_MOST_GROUPS}")
    known = set()
    for path in paths:
        # a missing parent would be made, and its parents: thousands of groups by one path
        if path != "/" and path.rpartition("/")[0] not in known:
            raise ValueError(f"the group {path[:100]!r} comes before its parent")
        known.add(path.rstrip("/"))
    _check_depth(paths)


def _check_depth(paths: list[str]) -> None:
    if any(path.count("/") > _MOST_DEPTH for path in paths):
        raise ValueError(f"groups within groups, more than {_MOST_DEPTH} deep")


def rebuild_tree(layout: Json, read: Read) -> xr.DataTree:
    """Return the tree of which `plan_tree` made `layout`.

    Parameters
    ----------
    layout : dict
        The layout, which `check_layout` has found right.
    read : callable
        Gives the content of a dataset, e.g. of ``("/posterior", "mu", form)``.
    """
    groups = {group["path"]: _rebuild_group(group, read) for group in layout["groups"]}
    tree = xr.DataTree.from_dict(groups)
    tree.name = decode_value(layout["name"])
    return tree


def _rebuild_group(group: Json, read: Read) -> xr.Dataset:
    arrays = {
        decode_value(coded["name"]): _rebuild_values(coded, group["stored"], read)
        for coded in group["variables"]
        if "codec" in coded
    }
    indexed, by_name = decode_indexes(group["indexes"], arrays)
    data: dict[Hashable, xr.Variable] = {}
    coords: dict[Hashable, xr.Variable] = {}
    for coded in group["variables"]:
        name = decode_value(coded["name"])
        variable = indexed.get(name)
        if variable is None:
            dims = [decode_value(dim) for dim in coded["dims"]]
            variable = xr.Variable(dims, arrays[name])
        variable.attrs = _decode_attrs(coded["attrs"])
        (coords if coded["coord"] else data)[name] = variable
    return xr.Dataset(
        data, xr.Coordinates(coords, indexes=by_name), attrs=_decode_attrs(group["attrs"])
    )


def _rebuild_values(coded: Json, group: str, read: Read) -> Any:
    codec = coded["codec"]
    if codec["kind"] == "pandas":
        return indexes.decode_pandas(codec["values"])
    form = stored_form(codec, coded["shape"])
    if coded["coord"]:
        # an index is made of it at once
        form = replace(form, is_number_by_number=False)
    # nothing lies in a dataset without elements
    data = np.empty(0) if 0 in coded["shape"] else read(group, coded["stored"], form)
    return decode_array(data, codec, tuple(coded["shape"]))
