"""How tables and labelled arrays are written: pandas, xarray, and sparse matrices.

By what they hold, not by what pickle takes: caches and accessors come and go with use.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse
import xarray as xr

from cloudposterior.identity.objects import write_array
from cloudposterior.identity.walk import Stream, rule

__all__: list[str] = []

_SPARSE_FIELDS = ("data", "indices", "indptr", "coords", "offsets", "rows")


@rule(pd.Index, pd.Series, pd.api.extensions.ExtensionArray)
def _pandas_values(obj: pd.Index | pd.Series, stream: Stream) -> None:
    stream.text(b"pandas", repr(obj.dtype))
    stream.write(type(obj))
    if isinstance(obj, pd.Series):
        stream.write(obj.index)
    stream.write(list(getattr(obj, "names", [getattr(obj, "name", None)])))
    stream.write(dict(getattr(obj, "attrs", {})))
    stream.write(str(getattr(obj, "freq", None)))
    if isinstance(obj.dtype, pd.CategoricalDtype):
        values = obj.cat if isinstance(obj, pd.Series) else obj
        stream.write(np.asarray(values.categories))
        stream.write(np.asarray(values.codes))
        stream.write(bool(values.ordered))
    elif isinstance(obj.dtype, np.dtype):
        write_array(np.asarray(obj), stream)
    else:
        write_array(np.asarray(obj, dtype=object), stream)


@rule(pd.DataFrame)
def _pandas_frame(obj: pd.DataFrame, stream: Stream) -> None:
    stream.put(b"frame")
    stream.write(type(obj))
    stream.write(obj.columns)
    stream.write(obj.index)
    stream.write(dict(obj.attrs))
    for position in range(obj.shape[1]):
        stream.write(obj.iloc[:, position].array)


@rule(pd.arrays.NumpyExtensionArray)
def _pandas_numpy(obj: pd.arrays.NumpyExtensionArray, stream: Stream) -> None:
    write_array(obj.to_numpy(), stream)


@rule(scipy.sparse.spmatrix, scipy.sparse.sparray)
def _sparse(obj: scipy.sparse.spmatrix, stream: Stream) -> None:
    # not its dictionary: flags in it say what was found out about the order of indices so far
    stream.text(b"sparse", f"{type(obj).__name__} {obj.format} {obj.shape}")
    if obj.format == "dok":
        obj = obj.tocoo()
    fields = {name: getattr(obj, name) for name in _SPARSE_FIELDS if hasattr(obj, name)}
    if not fields:
        raise stream.walk.refuse(f"no rule for a sparse array of format {obj.format!r}")
    stream.write(fields)


@rule(xr.Variable)
def _labelled_variable(obj: xr.Variable, stream: Stream) -> None:
    stream.put(b"variable of xarray")
    for part in (tuple(obj.dims), obj.to_numpy(), dict(obj.attrs)):
        stream.write(part)


@rule(xr.DataArray, xr.Dataset)
def _labelled(obj: xr.DataArray | xr.Dataset, stream: Stream) -> None:
    # not what pickle takes: accessors and caches come and go with use
    stream.put(b"xarray")
    stream.write(type(obj))
    stream.write(getattr(obj, "name", None))
    stream.write(dict(obj.attrs))
    if isinstance(obj, xr.DataArray):
        stream.write(obj.variable)
    else:
        stream.write({name: values.variable for name, values in obj.data_vars.items()})
    stream.write({name: values.variable for name, values in obj.coords.items()})
    stream.write({name: index.names for name, index in obj.indexes.items()})


@rule(xr.DataTree)
def _tree(obj: xr.DataTree, stream: Stream) -> None:
    stream.put(b"tree")
    stream.write({node.path: node.to_dataset(inherit=False) for node in obj.subtree})
