"""Pandas indexes and extension arrays as JSON, exact, and back.

These are small beside the draws, so that they lie whole in the layout; a dataset beside it, for
other readers, holds their elements as text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray

from cloudposterior.cache.values import Json, decode_value, encode_value, read_zone

__all__ = [
    "decode_index",
    "decode_multi_index",
    "decode_pandas",
    "encode_multi_index",
    "encode_pandas",
    "string_dtype",
    "string_dtype_parts",
]

_MASKED_ARRAYS = (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)


def encode_pandas(values: pd.Index | ExtensionArray) -> Json:
    """Return a pandas index (of one level) or extension array as JSON.

    Raises
    ------
    TypeError
        If the type is not known, or would not come back equal.
    """
    index = values if isinstance(values, pd.Index) else _index_of(values)
    if isinstance(index.dtype, np.dtype):
        return {"numpy": encode_value(index.to_numpy())}
    coded = _encode_extension(index.array)
    again = decode_index(coded)
    if again.dtype != index.dtype or not again.equals(index):
        raise TypeError(f"pandas values of dtype {values.dtype} cannot be held exactly")
    return coded


def _encode_extension(array: Any) -> Json:
    dtype = array.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories = encode_pandas(dtype.categories)
        return {"categorical": [encode_value(array.codes), categories, bool(dtype.ordered)]}
    if isinstance(dtype, pd.PeriodDtype):
        return {
            "period": [
                encode_value(array.asi8),
                dtype.name.removeprefix("period[").removesuffix("]"),
            ]
        }
    if isinstance(dtype, pd.DatetimeTZDtype):
        return {"zoned": [encode_value(array.asi8), dtype.unit, str(dtype.tz)]}
    if isinstance(dtype, pd.IntervalDtype):
        ends = [encode_pandas(array.left), encode_pandas(array.right)]
        return {"interval": [*ends, dtype.closed]}
    if isinstance(dtype, pd.StringDtype):
        pairs = zip(array, array.isna(), strict=True)
        texts = [None if missing else str(text) for text, missing in pairs]
        return {"string": [texts, *string_dtype_parts(dtype)]}
    if isinstance(array, _MASKED_ARRAYS):
        numbers = array.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
        return {"masked": [encode_value(numbers), encode_value(np.asarray(array.isna()))]}
    raise TypeError(f"pandas values of dtype {dtype} cannot be held exactly")


def decode_pandas(coded: Json) -> Any:
    """Return the extension array, or numpy array, of which `encode_pandas` made `coded`."""
    ((kind, body),) = coded.items()
    if kind == "numpy":
        return decode_value(body)
    if kind == "categorical":
        codes, categories, ordered = body
        dtype = pd.CategoricalDtype(decode_index(categories), ordered=ordered)
        return pd.Categorical.from_codes(decode_value(codes), dtype=dtype)
    if kind == "period":
        ordinals, freq = body
        return pd.arrays.PeriodArray(decode_value(ordinals), dtype=pd.PeriodDtype(freq))
    if kind == "zoned":
        counts, unit, zone = body
        utc = pd.DatetimeIndex(decode_value(counts).view(f"M8[{unit}]")).tz_localize("UTC")
        return utc.tz_convert(read_zone(zone)).array
    if kind == "interval":
        left, right, closed = body
        lowest, highest = decode_index(left), decode_index(right)
        return pd.arrays.IntervalArray.from_arrays(lowest, highest, closed=closed)
    if kind == "string":
        texts, storage, missing = body
        return pd.array(texts, dtype=string_dtype(storage, missing))
    numbers, mask = (decode_value(part) for part in body)
    masked: Any = pd.array(numbers, dtype=_masked_dtype(numbers.dtype))
    masked[mask] = pd.NA
    return masked


def decode_index(coded: Json) -> pd.Index:
    """Return the index of which `encode_pandas` made `coded`."""
    return _index_of(decode_pandas(coded))


def _index_of(values: Any) -> pd.Index:
    # with its dtype said, pandas does not guess at what an object array may hold
    index: pd.Index = pd.Index(values, dtype=values.dtype, tupleize_cols=False)
    return index


def _masked_dtype(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "b":
        return "boolean"
    letter = {"i": "Int", "u": "UInt", "f": "Float"}[dtype.kind]
    return f"{letter}{dtype.itemsize * 8}"


def string_dtype_parts(dtype: pd.StringDtype) -> list[str]:
    """Return what `string_dtype` needs to make a pandas text dtype again."""
    missing = getattr(dtype, "na_value", pd.NA)  # pandas before 2.3 has no other
    return [dtype.storage, "NA" if missing is pd.NA else "nan"]


def string_dtype(storage: str, missing: str) -> pd.StringDtype:
    """Return a pandas text dtype; its storage does not count for equality."""
    make: Any = pd.StringDtype
    dtype: pd.StringDtype = make(storage) if missing == "NA" else make(storage, na_value=np.nan)
    return dtype


def encode_multi_index(index: pd.MultiIndex) -> Json:
    """Return a MultiIndex as JSON: levels in their own order (``unstack`` shows it) and codes."""
    return {
        "levels": [encode_pandas(level) for level in index.levels],
        "codes": [encode_value(np.asarray(codes)) for codes in index.codes],
        "names": [encode_value(name) for name in index.names],
    }


def decode_multi_index(coded: Json) -> pd.MultiIndex:
    """Return the MultiIndex of which `encode_multi_index` made `coded`."""
    levels: Any = [decode_index(level) for level in coded["levels"]]
    codes = [decode_value(codes) for codes in coded["codes"]]
    for level, numbers in zip(levels, codes, strict=True):
        # pandas looks them up without a check, in whatever lies behind the level
        if not (numbers.dtype.kind == "i" and numbers.shape == codes[0].shape == (len(numbers),)):
            raise ValueError("the codes of a MultiIndex are not numbers of one length")
        if len(numbers) and not -1 <= numbers.min() <= numbers.max() < len(level):
            raise ValueError("the codes of a MultiIndex are not within its levels")
    return pd.MultiIndex(
        levels=levels,
        codes=codes,
        names=[decode_value(name) for name in coded["names"]],
        verify_integrity=False,
    )
