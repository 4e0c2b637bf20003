"""What readers without this package see: names and attributes that every netCDF reader takes.

Nothing here is read back; the exact names and attributes are in the layout.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from cloudposterior.cache.values import encode_value

__all__ = ["attributes", "readable", "split_text", "stored_name"]

PIECE = 30_000
"""Characters per attribute: HDF5 takes 64 kB at most, and UTF-8 may need two bytes for one."""

# Read by netCDF or HDF5 themselves, or acted on by xarray when it decodes; a user's attribute of
# that name means what the user says, not that.
_TAKEN = frozenset(
    {
        "_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "_Encoding",
        "dtype", "coordinates", "calendar", "grid_mapping", "bounds", "DIMENSION_LIST",
        "REFERENCE_LIST", "CLASS", "NAME", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_nc3_strict",
        "_NCProperties",
    }
)  # fmt: skip
_TIME_UNITS = re.compile(
    r".*\bsince\b.*|days?|hours?|minutes?|seconds?|milliseconds?|microseconds?|nanoseconds?",
    re.DOTALL,
)
_INT64 = range(-(2**63), 2**63)


def stored_name(name: object, taken: Iterable[str], *, keep: bool = True) -> str:
    """Return the name of a dataset for a variable or dimension.

    Parameters
    ----------
    name : object
        The name that the user gave: any text, or another hashable.
    taken : iterable of str
        Names which this one must not equal.
    keep : bool, default True
        Whether a name that HDF5 can hold is kept.
    """
    taken = set(taken)
    if keep and isinstance(name, str) and _is_plain(name) and name not in taken:
        return name
    cleaned = re.sub(r"[^A-Za-z0-9_:]+", "_", str(name))[:60].strip("_") or "unnamed"
    digest = hashlib.sha256(repr(name).encode("utf-8", "backslashreplace")).hexdigest()
    candidates = (f"{cleaned}-{digest[:length]}" for length in range(8, 65))
    return next(candidate for candidate in candidates if candidate not in taken)


def _is_plain(name: str) -> bool:
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return False
    return (
        0 < length <= 200
        and name == name.strip()
        and name.isprintable()
        and "/" not in name
        and (name[0].isalnum() or name[0] == "_" or ord(name[0]) > 127)
        and not name.startswith("_nc4_non_coord_")
    )


def attributes(attrs: Mapping[Any, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes for a file: the user's as well as can be, and our `own` ones beside them.

    A value that netCDF cannot hold is there as text (JSON where it can be that). All values are of
    the types that `encode_value` knows.
    """
    shown: dict[str, Any] = {}
    for name, value in attrs.items():
        harmless = _as_netcdf(value)
        key = name if isinstance(name, str) and _is_plain(name) else stored_name(name, shown)
        if key in _TAKEN or key in own or key.startswith("cloudposterior_"):
            key = f"user_{key}"
        elif key == "units" and isinstance(harmless, str) and _TIME_UNITS.fullmatch(harmless):
            key = "user_units"
        if isinstance(harmless, str):
            shown.update(split_text(key, harmless))
        else:
            shown[key] = harmless
    return {**shown, **own}


def split_text(name: str, text: str) -> dict[str, str]:
    """Return `text` as one attribute, or as numbered ones where it is too long for one."""
    if len(text) <= PIECE:
        return {name: text}
    starts = range(0, len(text), PIECE)
    return {f"{name}_{number}": text[at : at + PIECE] for number, at in enumerate(starts)}


def _as_netcdf(value: Any) -> Any:
    for fits, convert in _CONVERSIONS:
        if fits(value):
            return convert(value)
    try:
        text = json.dumps(value, default=str, ensure_ascii=False, skipkeys=True)
    except ValueError:  # an integer of thousands of digits
        text = json.dumps(encode_value(value))
    return readable(text)


def readable(text: str) -> str:
    """Return `text` as HDF5 can hold it: without NUL, and in UTF-8."""
    return text.replace("\0", "\\0").encode("utf-8", "replace").decode()


def _is_number(value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return False
    if isinstance(value, np.generic):
        return value.dtype.kind in "iu" or (value.dtype.kind == "f" and value.itemsize in (4, 8))
    return isinstance(value, float) or (isinstance(value, int) and value in _INT64)


def _is_numbers(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        kind, itemsize = value.dtype.kind, value.dtype.itemsize
        plain = kind in "iu" or (kind == "f" and itemsize in (4, 8))
        return plain and value.ndim == 1 and 0 < value.nbytes <= PIECE
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= PIECE // 8
        and all(map(_is_number, value))
        and len({isinstance(item, float | np.floating) for item in value}) == 1
    )


_CONVERSIONS: list[tuple[Callable[[Any], bool], Callable[[Any], Any]]] = [
    (lambda value: isinstance(value, str), readable),
    (_is_number, lambda value: value),
    (_is_numbers, np.asarray),
    (lambda value: isinstance(value, np.ndarray), lambda v: _as_netcdf(v.tolist())),
    (lambda value: isinstance(value, np.generic), lambda v: _as_netcdf_item(v)),
]


def _as_netcdf_item(value: np.generic) -> Any:
    item = value.item()
    return str(value) if isinstance(item, np.generic) else _as_netcdf(item)
