"""Numpy arrays as netCDF can hold them, and back, with dtype and every element as they were.

Each kind of array has one codec. What lies in the file is also what others read: the attributes
beside it follow the CF conventions, so that xarray shows a date as a date without this package.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cloudposterior.cache.values import Json, decode_value, encode_value, read_dtype

__all__ = ["Array", "Form", "Stored", "decode_array", "encode_array", "stored_form"]

Array = np.ndarray[Any, np.dtype[Any]]

_CF_UNITS = {
    "D": "days", "h": "hours", "m": "minutes", "s": "seconds",
    "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds",
}  # fmt: skip
_NAT = np.iinfo(np.int64).min
_NANOSECONDS = 2**63 - 1
_MOST_DIMS = 32
_MISSING_TYPES = (type(None), float, type(pd.NA), type(pd.NaT))


@dataclass(frozen=True)
class Stored:
    """An array as it lies in the file.

    Attributes
    ----------
    data : numpy.ndarray
        What the dataset holds; of dtype object where it is text.
    codec : dict
        How `decode_array` makes the original of it.
    attrs : dict
        For readers without this package, after the CF conventions.
    extra_dim : str or None
        The name to give to a last dimension that the original does not have.
    fill : int or None
        The value that stands for a missing one.
    """

    data: Array
    codec: dict[str, Json]
    attrs: dict[str, Any] = field(default_factory=dict)
    extra_dim: str | None = None
    fill: int | None = None


def encode_array(array: Array) -> Stored:
    """Return how `array` lies in the file.

    Raises
    ------
    TypeError
        If the dtype, or an element of an object array, cannot be held exactly.
    """
    dtype = array.dtype
    codec: dict[str, Json] = {"dtype": dtype.str}
    if dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize in (4, 8)):
        return Stored(array, {"kind": "plain", **codec})
    if dtype.kind == "b":
        return Stored(array.view(np.int8), {"kind": "bool", **codec}, {"dtype": "bool"})
    if dtype.kind == "f" and dtype.itemsize == 2:
        # netCDF has no half floats; every one of them is a single float as well
        return Stored(array.astype(np.float32), {"kind": "cast", **codec})
    if dtype.kind == "c" and dtype.itemsize in (8, 16):
        return Stored(_split_complex(array), {"kind": "complex", **codec}, extra_dim="real_imag")
    if dtype.kind in "mM":
        return _encode_time(array, codec)
    if dtype.kind == "S":
        return _encode_bytes(array, codec)
    if dtype.kind in "UO":
        return _encode_objects(array.astype(object), codec)
    raise TypeError(f"an array of dtype {dtype} cannot be held exactly")


@dataclass(frozen=True)
class Form:
    """How an array must lie in the file, by its codec.

    Attributes
    ----------
    dtype : numpy.dtype or None
        Of the dataset, in the byte order of this machine; None for text.
    shape : tuple of int
        Of the dataset.
    decoded_bytes : int
        The size of the array that is made of it, less the text of objects.
    is_number_by_number : bool
        Whether each element is made of one number, so that a part can be made of a part.
    """

    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    decoded_bytes: int
    is_number_by_number: bool = False

    @property
    def count(self) -> int:
        """How many elements the dataset has."""
        return math.prod(self.shape)

    @property
    def stored_bytes(self) -> int:
        """The size of the dataset, less its text, before it is compressed."""
        return self.count * (_REFERENCE_BYTES if self.dtype is None else self.dtype.itemsize)


_REFERENCE_BYTES = 16
"""What an element of a dataset of text takes beside the text."""

# The kinds of codecs: which kinds of dtypes each is for, and what its dataset is of.
_FORMS: dict[str, tuple[str, Any]] = {
    "plain": ("iuf", lambda dtype: dtype),
    "bool": ("b", lambda _: np.dtype(np.int8)),
    "cast": ("f", lambda _: np.dtype(np.float32)),
    "time": ("mM", lambda _: np.dtype(np.int64)),
    "complex": ("c", lambda dtype: np.dtype(f"f{dtype.itemsize // 2}")),
    "bytes": ("S", lambda _: np.dtype("S1")),
    "text": ("UO", lambda _: None),
    "json": ("UO", lambda _: None),
}


_BY_NUMBER = {"plain", "bool", "cast"}


def stored_form(codec: dict[str, Json], shape: Json) -> Form:
    """Return the form of the dataset of which `decode_array` makes an array.

    What a codec says is not trusted: nothing is made of it but by this form.

    Raises
    ------
    ValueError
        If there is no such codec, or no such shape.
    """
    kinds, stored = _FORMS[codec["kind"]]
    dtype = read_dtype(codec["dtype"])
    if dtype.kind not in kinds:
        raise ValueError(f"a codec {codec['kind']!r} is not for dtype {dtype}")
    if not isinstance(shape, list) or len(shape) > _MOST_DIMS:
        raise ValueError("a shape is not a list of few numbers")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{shape} is no shape")
    added = {"complex": (2,), "bytes": (max(dtype.itemsize, 1),)}.get(codec["kind"], ())
    decoded_bytes = math.prod(shape) * dtype.itemsize
    return Form(stored(dtype), (*shape, *added), decoded_bytes, codec["kind"] in _BY_NUMBER)


def decode_array(data: Array, codec: dict[str, Json], shape: tuple[int, ...]) -> Array:
    """Return the array of which `encode_array` made `data`."""
    kind, dtype = codec["kind"], read_dtype(codec["dtype"])
    if 0 in shape:
        return np.empty(shape, dtype=dtype)
    if kind in ("time", "complex", "bytes"):
        native = np.ascontiguousarray(data)
        if kind == "time":
            native = native.view(dtype.newbyteorder("="))
        elif kind == "complex":
            native = native.view(dtype.newbyteorder("=")).reshape(shape)
        else:
            native = native.view(f"S{data.shape[-1]}").reshape(shape)
        return native.reshape(shape).astype(dtype, copy=False)
    if kind == "text" and "empty" in codec:
        data = _put_back_missing(data, decode_value(codec["empty"]))
    elif kind == "json":
        data = _map_objects(data, lambda text: decode_value(json.loads(text)))
    return data.reshape(shape).astype(dtype, copy=False)


def _split_complex(array: Array) -> Array:
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    real = np.dtype(f"f{native.dtype.itemsize // 2}")
    return native.reshape(-1).view(real).reshape((*array.shape, 2))


def _encode_time(array: Array, codec: dict[str, Json]) -> Stored:
    counts = array.astype(array.dtype.newbyteorder("="), copy=False).view(np.int64)
    missing = np.isnat(array)
    fill = int(_NAT) if missing.any() else None
    return Stored(counts, {"kind": "time", **codec}, _cf_time(array, counts[~missing]), fill=fill)


def _cf_time(array: Array, counts: Array) -> dict[str, Any]:
    """Return the attributes by which others see dates; none for what xarray fails to decode."""
    unit, step = np.datetime_data(array.dtype)
    if step != 1 or unit not in _CF_UNITS:
        return {}
    # it goes through nanoseconds, which reach from 1678 to 2262
    limit = int(np.array(_NANOSECONDS, "m8[ns]").astype(f"m8[{unit}]").astype(np.int64))
    if counts.size and max(-int(counts.min()), int(counts.max())) >= limit:
        return {}
    if array.dtype.kind == "m":
        return {"units": _CF_UNITS[unit], "dtype": f"timedelta64[{unit}]"}
    return {"units": f"{_CF_UNITS[unit]} since 1970-01-01", "calendar": "proleptic_gregorian"}


def _encode_bytes(array: Array, codec: dict[str, Json]) -> Stored:
    # netCDF-C knows no fixed-length strings: single characters along one more dimension, as xarray
    length = max(array.dtype.itemsize, 1)
    whole = np.ascontiguousarray(array, dtype=f"S{length}").reshape(-1)
    letters = whole.view("S1").reshape((*array.shape, length))
    return Stored(letters, {"kind": "bytes", **codec}, extra_dim=f"string{length}")


def _encode_objects(array: Array, codec: dict[str, Json]) -> Stored:
    items = array.reshape(-1).tolist()
    texts = [item for item in items if type(item) is str]
    missing = [item for item in items if type(item) is not str]
    if _is_clean("".join(texts)):
        if not missing:
            return Stored(array, {"kind": "text", **codec})
        if "" not in texts and _are_one_missing_value(missing):
            codec = {"kind": "text", "empty": encode_value(missing[0]), **codec}
            return Stored(_map_objects(array, lambda v: v if type(v) is str else ""), codec)
    coded = _map_objects(array, lambda item: json.dumps(encode_value(item), allow_nan=False))
    return Stored(coded, {"kind": "json", **codec})


def _is_clean(text: str) -> bool:
    """Whether HDF5 gives the text back: it ends strings at a NUL, and holds UTF-8 only."""
    if "\0" in text:
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _are_one_missing_value(items: list[Any]) -> bool:
    kind = type(items[0])
    return (
        kind in _MISSING_TYPES
        and all(type(item) is kind for item in items)
        and (kind is not float or all(item != item for item in items))
    )


def _put_back_missing(data: Array, missing: Any) -> Array:
    return _map_objects(data, lambda text: missing if text == "" else text)


def _map_objects(array: Array, change: Any) -> Array:
    changed = np.empty(array.size, dtype=object)
    for position, item in enumerate(array.reshape(-1).tolist()):
        changed[position] = change(item)
    return changed.reshape(array.shape)
