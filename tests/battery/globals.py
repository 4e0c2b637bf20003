"""Values of many kinds as globals that a function reads."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import operator
import pathlib
import types
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import scipy.interpolate
import scipy.stats
import xarray as xr

from tests.battery.custom import with_logp
from tests.battery.pairs import Pair, changed, contrast, namespace

LONG = np.linspace(0.0, 1.0, 3000)
SQUARE = np.arange(9.0).reshape(3, 3)


def reading(value: Any) -> pm.Model:
    """A likelihood that reads a global with the value."""
    text = "def logp(value, mu):\n    return -(value - mu) * VALUE\n"
    return with_logp(namespace(text, VALUE=value).logp)


def objects(*entries: Any) -> np.ndarray:
    """An object array of one dimension."""
    array = np.empty(len(entries), dtype=object)
    array[:] = entries
    return array


def cyclic(value: Any) -> list[Any]:
    """A list that contains itself."""
    items = [value]
    items.append(items)
    return items


def record(price: float, name: str = "price") -> np.ndarray:
    """A structured array."""
    return np.array([(1, price), (2, 3.0)], dtype=[("count", "i8"), (name, "f8")])


class Kind(enum.Enum):
    """Two kinds of distance."""

    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"


class Tagged(np.ndarray):
    """An array that bears an attribute beside its entries."""

    tag: Any = None


def tagged(tag: Any) -> Tagged:
    """The same entries under a tag."""
    array = np.arange(3.0).view(Tagged)
    array.tag = tag
    return array


class Slotted:
    """An object without ``__dict__``."""

    __slots__ = ("scale",)

    def __init__(self, scale: float) -> None:
        self.scale = scale


class Rebuilt:
    """An object that is pickled as a call."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __reduce__(self) -> tuple[Any, ...]:
        return Rebuilt, (self.scale,)


@dataclasses.dataclass(frozen=True)
class Bounds:
    """An object that compares by value."""

    lower: float
    upper: float


PAIRS: tuple[Pair, ...] = (
    *contrast(
        "global",
        reading,
        {
            "number": (1.0, 1.0 + 1e-9),
            "integer and float": (1, 1.0),
            "integer and boolean": (1, True),
            "number and text": (1, "1"),
            "text and bytes": ("a", b"a"),
            "none and its name": (None, "None"),
            "large integer": (10**30, 10**30 + 1),
            "complex": (1 + 2j, 1 - 2j),
            "width of a number": (np.float64(0.5), np.float32(0.5)),
            "border between texts": (["ab", "c"], ["a", "bc"]),
            "nesting": ([[1, 2], [3]], [[1], [2, 3]]),
            "order of a list": ([1, 2], [2, 1]),
            "value in a mapping": ({"a": 1, "b": 2}, {"a": 1, "b": 3}),
            "key in a mapping": ({"a": 1}, {"b": 1}),
            "mapping and its pairs crossed": ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
            "kind of a key": ({1: "x"}, {"1": "x"}),
            "set": ({"a", "b", "c"}, {"a", "b", "d"}),
            "length of a queue": (collections.deque([1], 2), collections.deque([1], 3)),
            "order of an ordered mapping": (
                collections.OrderedDict(a=1, b=2),
                collections.OrderedDict(b=2, a=1),
            ),
            "list within itself": (cyclic(1), cyclic(2)),
            "range": (range(5), range(6)),
            "slice": (slice(1, 5), slice(1, 6)),
            "array in the middle": (LONG, changed(LONG, 1500, 0.25)),
            "array transposed": (SQUARE, SQUARE.T),
            "array of texts": (np.array(["a", "bc"]), np.array(["a", "bd"])),
            "array of objects": (objects("a-b", "c"), objects("a", "b-c")),
            "kind in an array of objects": (objects(1, "x"), objects("1", "x")),
            "array of lists": (objects([1], [2]), objects([1], [3])),
            "array of times": (
                np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"),
                np.array(["2020-01-01", "2020-01-03"], dtype="datetime64[D]"),
            ),
            "unit of an array of times": (
                np.array([1, 2], dtype="timedelta64[s]"),
                np.array([1, 2], dtype="timedelta64[m]"),
            ),
            "record": (record(0.5), record(0.75)),
            "field of a record": (record(0.5), record(0.5, "cost")),
            "mask of an array": (
                np.ma.masked_array([1.0, 2.0], [True, False]),
                np.ma.masked_array([1.0, 2.0], [False, True]),
            ),
            "attribute of an array": (tagged("a"), tagged("b")),
            "data type": (np.dtype("f4"), np.dtype("f8")),
            "frame": (pd.DataFrame({"a": LONG}), pd.DataFrame({"a": changed(LONG, 1500, 0.25)})),
            "column of a frame": (pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0]})),
            "index of a series": (pd.Series([1.0], [0]), pd.Series([1.0], [1])),
            "labelled array": (xr.DataArray([1.0, 2.0]), xr.DataArray([1.0, 2.5])),
            "spline": (
                scipy.interpolate.CubicSpline([0, 1, 2], [0.0, 1.0, 0.0]),
                scipy.interpolate.CubicSpline([0, 1, 2], [0.0, 1.5, 0.0]),
            ),
            "frozen distribution": (scipy.stats.norm(0, 1), scipy.stats.norm(0, 2)),
            "library function": (np.sin, np.cos),
            "ordinary library function": (np.linalg.inv, np.linalg.pinv),
            "builtin function": (min, max),
            "item getter": (operator.itemgetter(1), operator.itemgetter(2)),
            "type": (int, float),
            "member of an enumeration": (Kind.EUCLIDEAN, Kind.MANHATTAN),
            "decimal": (decimal.Decimal("1.5"), decimal.Decimal("1.6")),
            "fraction": (fractions.Fraction(1, 3), fractions.Fraction(2, 3)),
            "date": (datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)),
            "path": (pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath("a-b")),
            "bare object": (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2)),
            "slotted object": (Slotted(1.0), Slotted(2.0)),
            "dataclass": (Bounds(0.0, 1.0), Bounds(0.0, 2.0)),
            "fields of a dataclass swapped": (Bounds(0.0, 1.0), Bounds(1.0, 0.0)),
            "rebuilt object": (Rebuilt(1.0), Rebuilt(2.0)),
            "symbolic variable": (pt.exp(1.0), pt.exp(2.0)),
        },
    ),
    *contrast(
        "global",
        reading,
        {
            "set in another order": ({"a", "b", "c"}, {"c", "b", "a"}),
            "mapping made again": ({"a": [1, 2]}, {"a": [1, 2]}),
            "list within itself made again": (cyclic(1), cyclic(1)),
            "array copied": (LONG, LONG.copy()),
            "attribute of an array made again": (tagged("a"), tagged("a")),
            "frame made again": (pd.DataFrame({"a": LONG}), pd.DataFrame({"a": LONG.copy()})),
            "object made again": (Slotted(1.0), Slotted(1.0)),
            "dataclass made again": (Bounds(0.0, 1.0), Bounds(0.0, 1.0)),
            "rebuilt object made again": (Rebuilt(1.0), Rebuilt(1.0)),
            "spline made again": tuple(
                scipy.interpolate.CubicSpline([0, 1, 2], [0.0, 1.0, 0.0]) for _ in range(2)
            ),
        },
        "same",
    ),
)
