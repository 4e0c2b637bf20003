"""Planned groups as a netCDF4 file."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import h5netcdf
import h5py
import numpy as np

from cloudposterior.cache.arrays import Array, Stored
from cloudposterior.cache.hdf5 import CHUNK_BYTES
from cloudposterior.cache.layout import Group
from cloudposterior.cache.outside import stored_name
from cloudposterior.cache.sink import Sink

__all__ = ["write_netcdf"]

_SAMPLE_BYTES = 1 << 16
# Below this size a chunk's bookkeeping, and a filter's set-up when reading, outweigh the gain.
_WORTH_TRYING_BYTES = 1 << 14


def write_netcdf(
    target: BinaryIO, groups: list[Group], root_attrs: Mapping[str, Any], *, compress: bool = True
) -> None:
    """Write a netCDF4 file.

    Parameters
    ----------
    target : file object
        Open for writing and reading, without a buffer, and empty.
    groups : list of Group
        Parents before their children.
    root_attrs : mapping
        Attributes to add to the root group.
    compress : bool, default True
        Whether arrays are compressed for which that pays.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    sink = Sink(target)
    with h5netcdf.File(sink, "w", locking=False) as file:
        for group in groups:
            _write_group(file, group, compress=compress)
            sink.check()
        file.attrs.update(root_attrs)
    sink.check()


def _write_group(file: Any, group: Group, *, compress: bool) -> None:
    place = file if group.path == "/" else file.create_group(group.path)
    for name, size in group.dims.items():
        place.dimensions[name] = size
    taken = {dataset.name for dataset in group.datasets} | group.dims.keys()
    # a dimension's own variable first: made later, it makes HDF5 link all the others anew
    for dataset in sorted(group.datasets, key=lambda dataset: dataset.dims != (dataset.name,)):
        stored, names = dataset.stored, dataset.dims
        if stored.extra_dim is not None:
            extra = stored_name(stored.extra_dim, taken)
            if extra not in place.dimensions:
                place.dimensions[extra] = stored.data.shape[-1]
            names = (*names, extra)
        is_text = stored.data.dtype.kind == "O"
        variable = place.create_variable(
            dataset.name,
            names,
            dtype=h5py.string_dtype() if is_text else stored.data.dtype,
            data=stored.data,
            fillvalue=None if stored.fill is None else stored.data.dtype.type(stored.fill),
            **(_filters(stored) if compress else {}),
        )
        variable.attrs.update(dataset.attrs)
    place.attrs.update(group.attrs)


def _filters(stored: Stored) -> dict[str, Any]:
    """Return how to compress an array, or nothing where that does not pay twofold."""
    data = stored.data
    if data.dtype.kind == "O" or data.nbytes < _WORTH_TRYING_BYTES:
        return {}
    sample = _sample(data)
    if len(zlib.compress(sample, 1)) * 2 > len(sample):
        return {}
    chunks = _chunk_shape(data.shape, data.dtype.itemsize)
    return {"chunks": chunks, "compression": "gzip", "compression_opts": 1, "shuffle": True}


def _sample(data: Array) -> bytes:
    """Return some 64 kB of the elements, taken from four places."""
    flat = data.reshape(-1)
    count = min(len(flat), _SAMPLE_BYTES // data.dtype.itemsize)
    starts = np.linspace(0, len(flat) - count // 4, num=4, dtype=np.int64)
    return b"".join(flat[start : start + count // 4].tobytes() for start in starts)


def _chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return chunks of one chain (the first of several dimensions) by up to about 1 MB.

    Where the first dimension has many short rows, as none of chains, these are taken together.
    """
    chunks = list(shape)
    if len(shape) > 1:
        row_bytes = math.prod(shape[1:]) * itemsize
        chunks[0] = max(1, min(shape[0], _WORTH_TRYING_BYTES // row_bytes))
    for axis in range(len(chunks)):
        excess = math.prod(chunks) * itemsize / CHUNK_BYTES
        if excess > 1:
            chunks[axis] = max(1, int(chunks[axis] / excess))
    return tuple(chunks)
