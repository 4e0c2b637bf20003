"""Python values as JSON that brings every one back with its exact type.

``None``, booleans, text, lists, and ordinary numbers are themselves; every other value is an
object with one key, which names its type. What is not in the table is refused, since a value that
comes back as something else is worse than one that is not kept.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import re
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Json", "decode_value", "encode_value", "read_dtype", "read_zone"]

Json = Any
"""What ``json.loads`` can return."""

_INT64 = range(-(2**63), 2**63)
# Kinds of numpy dtypes whose bytes are their value.
_BYTES_ARE_VALUE = frozenset("biufcmMSU")
# `numpy.dtype.str` of an array that is not structured; other texts make dtypes of any size.
_DTYPE = re.compile(r"[<>|=]?[biufcmMSUO]\d{0,10}(\[\d{0,9}[a-zA-Z]{1,7}\])?")
_ZONE = re.compile(r"[A-Za-z0-9_+:/()-]{1,64}")
_MOST_OF_ONE_HASH = 100


def encode_value(value: object) -> Json:
    """Return `value` as JSON from which `decode_value` makes it again.

    Raises
    ------
    TypeError
        If the value is of a type that cannot be held exactly; the message names the type.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}  # type: ignore[arg-type]
    if kind is int:
        return value if value in _INT64 else {"int": hex(value)}  # type: ignore[arg-type]
    if kind is list:
        return [encode_value(item) for item in value]  # type: ignore[attr-defined]
    if kind in _ENCODERS:
        tag, encode = _ENCODERS[kind]
        return {tag: encode(value)}
    if isinstance(value, np.generic):
        return {"numpy": _encode_scalar(value)}
    raise TypeError(f"a value of type {kind.__module__}.{kind.__qualname__} cannot be held exactly")


def decode_value(coded: Json) -> Any:
    """Return the value that `encode_value` was given."""
    if isinstance(coded, list):
        return [decode_value(item) for item in coded]
    if not isinstance(coded, dict):
        return coded
    ((tag, body),) = coded.items()
    return _DECODERS[tag](body)


def _encode_items(values: Any) -> Json:
    return [encode_value(value) for value in values]


def _encode_dict(value: dict[Any, Any]) -> Json:
    return [[encode_value(key), encode_value(item)] for key, item in value.items()]


def _decode_dict(body: Json) -> dict[Any, Any]:
    items = [(decode_value(key), decode_value(item)) for key, item in body]
    _check_hashes(key for key, _ in items)
    return dict(items)


def _decode_set(body: Json) -> list[Any]:
    items = [decode_value(item) for item in body]
    _check_hashes(items)
    return items


def _check_hashes(keys: Iterable[Any]) -> None:
    """Refuse keys that were chosen to have one hash: some thousands of them take minutes."""
    most = Counter(map(hash, keys)).most_common(1)
    if most and most[0][1] > _MOST_OF_ONE_HASH:
        raise ValueError("keys of one hash, more than any result has")


def read_dtype(text: Json) -> np.dtype[Any]:
    """Return the dtype of which `text` is the ``str``.

    Raises
    ------
    ValueError
        If it is a dtype of several fields, or none.
    """
    if not (isinstance(text, str) and _DTYPE.fullmatch(text)):
        raise ValueError(f"{text!r:.100} is not the dtype of an array")
    return np.dtype(text)


def read_zone(text: Json) -> str:
    """Return the name of a time zone, which pandas would else take for the path of a file.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not (isinstance(text, str) and _ZONE.fullmatch(text)) or text.startswith("dateutil"):
        raise ValueError(f"{text!r:.100} is not the name of a time zone")
    return text


def _to_text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _encode_scalar(value: np.generic) -> Json:
    if value.dtype.kind not in _BYTES_ARE_VALUE:
        raise TypeError(f"a numpy scalar of dtype {value.dtype} cannot be held exactly")
    # numpy strips trailing NULs of fixed-length text on its way through an array
    if isinstance(value, np.str_):
        return ["str", "".join(value)]
    if isinstance(value, np.bytes_):
        return ["bytes", _to_text(bytes(value))]
    return [value.dtype.str, _to_text(value.tobytes())]


def _decode_scalar(body: Json) -> np.generic:
    dtype, text = body
    if dtype == "str":
        return np.str_(text)
    raw = base64.b64decode(text)
    if dtype == "bytes":
        return np.bytes_(raw)
    scalar: np.generic = np.frombuffer(raw, dtype=read_dtype(dtype))[0]
    return scalar


def _encode_array(value: np.ndarray[Any, Any]) -> Json:
    shape = list(value.shape)
    if value.dtype.kind == "O":
        return ["objects", shape, _encode_items(value.ravel().tolist())]
    if value.dtype.kind not in _BYTES_ARE_VALUE:
        raise TypeError(f"an array of dtype {value.dtype} cannot be held exactly")
    return [value.dtype.str, shape, _to_text(value.tobytes())]


def _decode_array(body: Json) -> np.ndarray[Any, Any]:
    dtype, shape, content = body
    if dtype == "objects":
        flat = np.empty(len(content), dtype=object)
        for position, item in enumerate(content):
            flat[position] = decode_value(item)
        return flat.reshape(shape)
    dtype, raw = read_dtype(dtype), base64.b64decode(content)
    if not raw:
        if 0 not in shape:
            raise ValueError(f"nothing is there for an array of shape {shape}")
        return np.empty(shape, dtype=dtype)
    # a bytearray makes the array writable, as the original was
    return np.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)


def _encode_zone(zone: dt.tzinfo | None) -> Json:
    if zone is None:
        return None
    if type(zone) is dt.timezone:
        return ["offset", *_encode_items(zone.__getinitargs__())]  # type: ignore[attr-defined]
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        return ["zone", zone.key]
    raise TypeError(f"a time zone of type {type(zone).__qualname__} cannot be held exactly")


def _decode_zone(body: Json) -> dt.tzinfo | None:
    if body is None:
        return None
    kind, *arguments = body
    if kind == "zone":
        return zoneinfo.ZoneInfo(read_zone(arguments[0]))
    return dt.timezone(*(decode_value(argument) for argument in arguments))


def _encode_clock(value: Any) -> Json:
    """Of a datetime or a time: the wall clock, the fold, the zone."""
    naive = value.replace(tzinfo=None, fold=0)
    return [naive.isoformat(), value.fold, _encode_zone(value.tzinfo)]


def _decode_clock(read: Callable[[str], Any]) -> Callable[[Json], Any]:
    def decode(body: Json) -> Any:
        text, fold, zone = body
        return read(text).replace(tzinfo=_decode_zone(zone), fold=fold)

    return decode


def _encode_timestamp(value: pd.Timestamp) -> Json:
    zone = None if value.tz is None else str(value.tz)
    body = [value.to_datetime64().astype(np.int64).item(), value.unit, zone]
    again = _decode_timestamp(body)
    if again != value or str(again.tz) != str(value.tz):
        raise TypeError(f"a pandas time in the zone {value.tz!r} cannot be held exactly")
    return body


def _decode_timestamp(body: Json) -> pd.Timestamp:
    count, unit, zone = body
    stamp = pd.Timestamp(np.datetime64(count, unit))
    return stamp if zone is None else stamp.tz_localize("UTC").tz_convert(read_zone(zone))


def _encode_timedelta(value: pd.Timedelta) -> Json:
    return [value.to_timedelta64().astype(np.int64).item(), value.unit]


# One line per type: the tag, the type, to JSON, from JSON.
_TABLE: list[tuple[str, type, Callable[[Any], Json], Callable[[Json], Any]]] = [
    ("tuple", tuple, _encode_items, lambda body: tuple(map(decode_value, body))),
    ("dict", dict, _encode_dict, _decode_dict),
    ("set", set, _encode_items, lambda body: set(_decode_set(body))),
    ("frozenset", frozenset, _encode_items, lambda body: frozenset(_decode_set(body))),
    ("bytes", bytes, _to_text, base64.b64decode),
    ("bytearray", bytearray, _to_text, lambda body: bytearray(base64.b64decode(body))),
    ("complex", complex, lambda v: _encode_items([v.real, v.imag]),
     lambda body: complex(*map(decode_value, body))),
    ("decimal", Decimal, str, Decimal),
    ("datetime", dt.datetime, _encode_clock, _decode_clock(dt.datetime.fromisoformat)),
    ("time", dt.time, _encode_clock, _decode_clock(dt.time.fromisoformat)),
    ("date", dt.date, dt.date.isoformat, dt.date.fromisoformat),
    ("timedelta", dt.timedelta, lambda v: [v.days, v.seconds, v.microseconds],
     lambda body: dt.timedelta(*body)),
    ("array", np.ndarray, _encode_array, _decode_array),
    ("pandas_time", pd.Timestamp, _encode_timestamp, _decode_timestamp),
    ("pandas_span", pd.Timedelta, _encode_timedelta,
     lambda body: pd.Timedelta(np.timedelta64(*body))),
    ("pandas_period", pd.Period, lambda v: [v.ordinal, v.freqstr],
     lambda body: pd.Period(ordinal=body[0], freq=body[1])),
    ("pandas_interval", pd.Interval,
     lambda v: [encode_value(v.left), encode_value(v.right), v.closed],
     lambda body: pd.Interval(decode_value(body[0]), decode_value(body[1]), closed=body[2])),
    ("pandas_nat", type(pd.NaT), lambda _: None, lambda _: pd.NaT),
    ("pandas_na", type(pd.NA), lambda _: None, lambda _: pd.NA),
]  # fmt: skip

_ENCODERS = {kind: (tag, encode) for tag, kind, encode, _ in _TABLE}
_DECODERS: dict[str, Callable[[Json], Any]] = {
    **{tag: decode for tag, _, _, decode in _TABLE},
    "float": float,
    "int": lambda body: int(body, 16),
    "numpy": _decode_scalar,
}
