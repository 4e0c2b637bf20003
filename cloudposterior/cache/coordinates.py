"""The indexes of a dataset's coordinates as JSON, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.indexes import PandasIndex, PandasMultiIndex

from cloudposterior.cache import indexes
from cloudposterior.cache.arrays import Array
from cloudposterior.cache.values import Json, decode_value, encode_value, read_dtype

__all__ = ["decode_indexes", "encode_indexes"]


def encode_indexes(dataset: xr.Dataset) -> tuple[list[Json], set[Hashable]]:
    """Return the indexes as JSON, and the names of coordinates that are wholly held by it.

    Raises
    ------
    TypeError
        If an index is not one of pandas.
    """
    coded: list[Json] = []
    in_layout: set[Hashable] = set()
    for index, variables in dataset.xindexes.group_by_index():
        names = [encode_value(name) for name in variables]
        if type(index) is PandasMultiIndex:
            dtypes = index.level_coords_dtype
            levels = {encode_value(name): _dtype_text(dtypes[name]) for name in index.index.names}
            multi = indexes.encode_multi_index(index.index)
            spec: Json = {"multi": multi, "level_dtypes": levels}
            in_layout.update(variables)
        elif type(index) is PandasIndex:
            spec = _encode_index(index.index)
            spec["dtype"] = _dtype_text(index.coord_dtype)
            if "exact" in spec:
                in_layout.update(variables)
        else:
            kind = type(index).__qualname__
            raise TypeError(f"the index {kind} of {list(variables)} cannot be held exactly")
        coded.append({"names": names, "dim": encode_value(index.dim), **spec})
    return coded, in_layout


def _dtype_text(dtype: Any) -> str | None:
    """Return a numpy dtype as text; a pandas dtype follows from its index."""
    return dtype.str if isinstance(dtype, np.dtype) else None


def _encode_index(index: pd.Index) -> dict[str, Json]:
    name = {"name": encode_value(index.name)}
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step], **name}
    if isinstance(index.dtype, np.dtype):
        return {"numpy": index.dtype.str, **name}
    if isinstance(index.dtype, pd.StringDtype):
        return {"string": indexes.string_dtype_parts(index.dtype), **name}
    return {"exact": indexes.encode_pandas(index), **name}


def decode_indexes(
    coded: list[Json], arrays: Mapping[Hashable, Array]
) -> tuple[dict[Hashable, xr.Variable], dict[Hashable, xr.Index]]:
    """Return the coordinates that have an index, and their indexes, by name.

    Parameters
    ----------
    coded : list
        What `encode_indexes` returned first.
    arrays : mapping of name to numpy.ndarray
        The values of those coordinates that lie in a dataset.
    """
    variables: dict[Hashable, xr.Variable] = {}
    by_name: dict[Hashable, xr.Index] = {}
    for spec in coded:
        names = [decode_value(name) for name in spec["names"]]
        index: PandasIndex
        if "multi" in spec:
            levels = indexes.decode_multi_index(spec["multi"])
            dtypes = {name: read_dtype(text) for name, text in spec["level_dtypes"].items() if text}
            index = PandasMultiIndex(
                levels, decode_value(spec["dim"]), level_coords_dtype=dtypes or None
            )
        else:
            dtype = spec["dtype"] and read_dtype(spec["dtype"])
            index = PandasIndex(
                _decode_index(spec, arrays.get(names[0])), decode_value(spec["dim"]), dtype
            )
        made = index.create_variables({name: xr.Variable((), 0) for name in names})
        variables.update(made)
        by_name.update(dict.fromkeys(made, index))
    return variables, by_name


def _decode_index(spec: Json, values: Array | None) -> pd.Index:
    name = decode_value(spec["name"])
    if "range" in spec:
        start, stop, step = spec["range"]
        index = pd.RangeIndex(start, stop, step, name=name)
        if values is None or len(index) != len(values):  # it takes no room, but all made of it does
            raise ValueError(f"a range of {len(index)} is not that of its dataset")
        return index
    if "exact" in spec:
        return indexes.decode_index(spec["exact"]).rename(name)
    if "string" in spec:
        dtype: Any = indexes.string_dtype(*spec["string"])
    else:
        dtype = read_dtype(spec["numpy"])
    if values is not None and isinstance(dtype, np.dtype) and dtype.kind == "O":
        values = values.astype(object)
    return pd.Index(values, dtype=dtype, name=name, tupleize_cols=False)
