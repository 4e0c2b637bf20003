"""Dims and coords: what the labels are, of which kind, in what order, and which axis bears them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pymc as pm

from tests.battery.pairs import Pair, contrast, vary


def labelled(labels: Any, dim: str = "group") -> pm.Model:
    """One vector along one labelled dimension."""
    with pm.Model(coords={dim: labels}) as model:
        pm.Normal("x", dims=dim)
    return model


def crossed(
    dims: Any = ("row", "column"), rows: Any = ("a", "b"), columns: Any = ("c", "d")
) -> pm.Model:
    """A square array along two dimensions of the same length."""
    with pm.Model(coords={"row": rows, "column": columns}) as model:
        pm.Normal("x", dims=dims, shape=(2, 2))
    return model


def deterministic(dims: Any = "row") -> pm.Model:
    """A deterministic along one of two dimensions of the same length."""
    with pm.Model(coords={"row": ["a", "b"], "column": ["c", "d"]}) as model:
        x = pm.Normal("x", shape=2)
        pm.Deterministic("twice", 2.0 * x, dims=dims)
    return model


def observed_along(dims: Any = "row", shift: float = 0.0) -> pm.Model:
    """An observed variable along one of two dimensions of the same length."""
    with pm.Model(coords={"row": ["a", "b"], "column": ["c", "d"]}) as model:
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=np.array([0.0, shift]), dims=dims)
    return model


def counted(length: int = 3, dim: str = "group") -> pm.Model:
    """A dimension that has a length and no labels."""
    with pm.Model() as model:
        model.add_coord(dim, length=length)
        pm.Normal("x", dims=dim)
    return model


def added(labels: Any, later: bool = True) -> pm.Model:
    """A dimension that is given with the model, or added to it later."""
    with pm.Model(coords=None if later else {"group": labels}) as model:
        if later:
            model.add_coord("group", labels)
        pm.Normal("x", dims="group")
    return model


def objects(*labels: Any) -> np.ndarray:
    """An object array of one dimension, whatever its entries are."""
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array


LONG = np.arange(3000)
SWAPPED = np.concatenate([LONG[:1500], [1501, 1500], LONG[1502:]])
WORDS = [f"county {i}" for i in range(3000)]

PAIRS: tuple[Pair, ...] = (
    *contrast(
        "coords",
        labelled,
        {
            "one name": (["a", "b", "c"], ["a", "b", "d"]),
            "order of names": (["a", "b", "c"], ["b", "a", "c"]),
            "case of a name": (["a", "b"], ["A", "b"]),
            "trailing blank": (["a", "b"], ["a ", "b"]),
            "composed and decomposed letters": (["\u00e9", "b"], ["e\u0301", "b"]),
            "names and numbers": ([1, 2], ["1", "2"]),
            "integers and floats": ([1, 2], [1.0, 2.0]),
            "integers and booleans": ([0, 1], [False, True]),
            "one number": ([1, 2, 3], [1, 2, 4]),
            "order of numbers": ([1, 2, 3], [3, 2, 1]),
            "numbers by 1e-9": ([0.1, 0.2], [0.1, 0.2 + 1e-9]),
            "two in the middle of many": (LONG, SWAPPED),
            "one name in the middle of many": (WORDS, [*WORDS[:1500], "other", *WORDS[1501:]]),
            "dashes between names": (objects("a-b", "c"), objects("a", "b-c")),
            "quotes between names": (["a', 'b", "c"], ["a", "b', 'c"]),
            "commas between names": (["a,b", "c"], ["a", "b,c"]),
            "an empty name": (["", "ab"], ["a", "b"]),
            "names moved over a border": (["ab", "c"], ["a", "bc"]),
            "dates": (
                pd.date_range("2020-01-01", periods=3),
                pd.date_range("2020-01-02", periods=3),
            ),
            "steps between dates": (
                pd.date_range("2020-01-01", periods=3, freq="D"),
                pd.date_range("2020-01-01", periods=3, freq="h"),
            ),
            "dates and their text": (
                pd.date_range("2020-01-01", periods=2),
                ["2020-01-01", "2020-01-02"],
            ),
            "one nanosecond": (
                np.array(["2020-01-01T00:00:00.000000000"], dtype="datetime64[ns]"),
                np.array(["2020-01-01T00:00:00.000000001"], dtype="datetime64[ns]"),
            ),
            "durations": (pd.to_timedelta([1, 2], unit="D"), pd.to_timedelta([1, 3], unit="D")),
            "tuples": (objects(("a", 1), ("b", 2)), objects(("a", 2), ("b", 1))),
            "kind inside tuples": (objects(("a", 1), ("b", 2)), objects(("a", "1"), ("b", "2"))),
            "border inside tuples": (objects(("a", "bc")), objects(("ab", "c"))),
            "mixed kinds": (objects("a", 1, 2.5), objects("a", "1", 2.5)),
            "none and its name": (objects(None, "a"), objects("None", "a")),
            "one more label": (["a", "b"], ["a", "b", "c"]),
            "empty and one label": ([], ["a"]),
        },
    ),
    *contrast(
        "coords",
        labelled,
        {
            "list and tuple": (["a", "b"], ("a", "b")),
            "list and array of names": (["a", "b"], np.array(["a", "b"])),
            "list and object array of names": (["a", "b"], objects("a", "b")),
            "list and index of names": (["a", "b"], pd.Index(["a", "b"], dtype=object)),
            "list and array of integers": ([3, 1, 2], np.array([3, 1, 2])),
            "list and range": ([0, 1, 2], range(3)),
            "list and array of floats": ([0.5, 1.5], np.array([0.5, 1.5])),
            "dates made twice": (
                pd.date_range("2020-01-01", periods=3),
                pd.date_range("2020-01-01", periods=3),
            ),
            "tuples alike": (objects(("a", 1), ("b", 2)), objects(("a", 1), ("b", 2))),
            "none alike": (objects(None, "a"), objects(None, "a")),
            "empty alike": ([], []),
            "many alike": (WORDS, list(WORDS)),
        },
        "same",
    ),
    Pair(
        "coords: name of the dimension",
        lambda: labelled(["a", "b"], "group"),
        lambda: labelled(["a", "b"], "county"),
        "different",
    ),
    *vary(
        "dims",
        crossed,
        {
            "swapped": dict(dims=("column", "row")),
            "none": dict(dims=None),
            "labels swapped": dict(rows=("c", "d"), columns=("a", "b")),
        },
    ),
    *vary("dims", crossed, {"list and tuple": dict(dims=["row", "column"])}, "same"),
    *vary(
        "dims of a deterministic",
        deterministic,
        {"moved": dict(dims="column"), "none": dict(dims=None)},
    ),
    *vary(
        "dims of an observed variable",
        observed_along,
        {"moved": dict(dims="column"), "none": dict(dims=None), "value": dict(shift=1e-9)},
    ),
    *vary(
        "length of a dimension", counted, {"one more": dict(length=4), "name": dict(dim="group_2")}
    ),
    *vary("length of a dimension", counted, {"built again": {}}, "same"),
    Pair(
        "coords: added later",
        lambda: added(["a", "b"]),
        lambda: added(["a", "b"], later=False),
        "same",
    ),
)
