"""A tree as a plan of datasets and one JSON layout, and the exact tree out of the two again.

Others read the datasets alone; this package reads each dataset as bare numbers or text and does
with it what the layout says, so that no convention of netCDF can alter a user's data.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pandas.api.extensions import ExtensionArray

from cloudposterior.cache import indexes
from cloudposterior.cache.arrays import Array, Stored, decode_array, encode_array
from cloudposterior.cache.coordinates import decode_indexes, encode_indexes
from cloudposterior.cache.outside import attributes, readable, stored_name
from cloudposterior.cache.values import Json, decode_value, encode_value

__all__ = ["Dataset", "Group", "plan_tree", "rebuild_tree"]


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
        data = data.compute()
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


def rebuild_tree(layout: Json, read: Callable[[str], Array]) -> xr.DataTree:
    """Return the tree of which `plan_tree` made `layout`.

    Parameters
    ----------
    layout : dict
        The layout.
    read : callable
        Gives the content of a dataset by its path in the file, e.g. ``"/posterior/mu"``.
    """
    groups = {group["path"]: _rebuild_group(group, read) for group in layout["groups"]}
    tree = xr.DataTree.from_dict(groups)
    tree.name = decode_value(layout["name"])
    return tree


def _rebuild_group(group: Json, read: Callable[[str], Array]) -> xr.Dataset:
    prefix = group["stored"].rstrip("/")
    arrays = {
        decode_value(coded["name"]): _rebuild_values(coded, prefix, read)
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


def _rebuild_values(coded: Json, prefix: str, read: Callable[[str], Array]) -> Any:
    codec, shape = coded["codec"], tuple(coded["shape"])
    if codec["kind"] == "pandas":
        return indexes.decode_pandas(codec["values"])
    # nothing lies in a dataset without elements
    data = np.empty(0) if 0 in shape else read(f"{prefix}/{coded['stored']}")
    return decode_array(data, codec, shape)
