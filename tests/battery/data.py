"""Data that may be exchanged after the model is built, and minibatches of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm

from tests.battery.pairs import Pair, changed, vary

X = np.linspace(-2.0, 2.0, 3000)
Y = 1.0 + 2.0 * X
INDEX = np.arange(3000) % 7
OTHER = changed(X, 1500, 0.125)


def regression(
    x: Any = X,
    y: Any = Y,
    x_name: str = "x",
    dims: str | None = None,
    labels: Any = None,
    observed_data: bool = True,
) -> pm.Model:
    """A line through points that are given as ``pm.Data``."""
    with pm.Model(coords=None if labels is None else {"point": labels}) as model:
        covariate = pm.Data(x_name, x, dims=dims)
        response = pm.Data("y_data", y, dims=dims) if observed_data else y
        a = pm.Normal("a")
        b = pm.Normal("b")
        pm.Normal("y", a + b * covariate, 1.0, observed=response, dims=dims)
    return model


def regression_then(*values: dict[str, Any]) -> pm.Model:
    """The regression, with each of the given values set in turn."""
    model = regression()
    for value in values:
        with model:
            pm.set_data(value)
    return model


def labelled_then(labels: Any, x: Any, back: bool = False) -> pm.Model:
    """A regression on three labelled points, whose points and labels are exchanged."""
    start, start_labels = np.arange(3.0), ["a", "b", "c"]
    with pm.Model(coords={"point": start_labels}) as model:
        covariate = pm.Data("x", start, dims="point")
        pm.Deterministic("line", pm.Normal("b") * covariate, dims="point")
        pm.set_data({"x": x}, coords={"point": labels})
        if back:
            pm.set_data({"x": start}, coords={"point": start_labels})
    return model


def indexed(index: Any = INDEX, swap: bool = False) -> pm.Model:
    """Two data variables of one length, used in different places."""
    with pm.Model() as model:
        first = pm.Data("first", index)
        second = pm.Data("second", INDEX[::-1])
        if swap:
            first, second = second, first
        a = pm.Normal("a", shape=7)
        pm.Normal("y", a[first] - 2.0 * a[second], 1.0, observed=Y)
    return model


def unused(value: float = 1.0, name: str = "kept") -> pm.Model:
    """A data variable that nothing reads, but that is stored beside the posterior."""
    with pm.Model() as model:
        pm.Normal("x")
        pm.Data(name, np.array([value, 2.0]))
    return model


def minibatch(x: Any = X, y: Any = Y, batch_size: int = 50, total_size: int = 3000) -> pm.Model:
    """A regression on random subsets of its points."""
    x_batch, y_batch = pm.Minibatch(x, y, batch_size=batch_size)
    with pm.Model() as model:
        b = pm.Normal("b")
        pm.Normal("y", b * x_batch, 1.0, observed=y_batch, total_size=total_size)
    return model


def held(kind: str = "data") -> pm.Model:
    """A covariate that is a constant, or ``pm.Data``, or neither is named."""
    with pm.Model() as model:
        x = pm.Data("x", X) if kind == "data" else X
        pm.Normal("y", pm.Normal("b") * x, 1.0, observed=Y)
    return model


PAIRS: tuple[Pair, ...] = (
    *vary(
        "data",
        regression,
        {
            "entry in the middle": dict(x=OTHER),
            "entry by 1e-9": dict(x=changed(X, 1500, X[1500] + 1e-9)),
            "response": dict(y=changed(Y, 1500, 0.0)),
            "reversed": dict(x=X[::-1]),
            "name": dict(x_name="covariate"),
            "dtype": dict(x=X.astype("float32")),
            "dims": dict(dims="point", labels=np.arange(3000)),
            "response as a constant": dict(observed_data=False),
        },
    ),
    *vary(
        "data",
        regression,
        {"built again": {}, "from lists": dict(x=X.tolist(), y=Y.tolist())},
        "same",
    ),
    Pair(
        "set_data: entry in the middle",
        regression,
        lambda: regression_then({"x": OTHER}),
        "different",
    ),
    Pair(
        "set_data: response",
        regression,
        lambda: regression_then({"y_data": changed(Y, 1500, 0.0)}),
        "different",
    ),
    Pair(
        "set_data: other length",
        regression,
        lambda: regression_then({"x": X[:5], "y_data": Y[:5]}),
        "different",
    ),
    Pair(
        "set_data: back to the first value",
        regression,
        lambda: regression_then({"x": OTHER}, {"x": X}),
        "same",
    ),
    Pair(
        "set_data: back to the first length",
        regression,
        lambda: regression_then({"x": X[:5], "y_data": Y[:5]}, {"x": X, "y_data": Y}),
        "same",
    ),
    Pair(
        "set_data: to the value of another model",
        lambda: regression(x=OTHER),
        lambda: regression_then({"x": OTHER}),
        "same",
    ),
    Pair(
        "set_data: one order or the other",
        lambda: regression_then({"x": OTHER}, {"y_data": X}),
        lambda: regression_then({"y_data": X}, {"x": OTHER}),
        "same",
    ),
    Pair(
        "set_data: labels",
        lambda: labelled_then(["d", "e"], np.arange(2.0)),
        lambda: labelled_then(["d", "f"], np.arange(2.0)),
        "different",
    ),
    Pair(
        "set_data: order of labels",
        lambda: labelled_then(["d", "e"], np.arange(2.0)),
        lambda: labelled_then(["e", "d"], np.arange(2.0)),
        "different",
    ),
    Pair(
        "set_data: values under the same labels",
        lambda: labelled_then(["d", "e"], np.arange(2.0)),
        lambda: labelled_then(["d", "e"], np.array([1.0, 0.0])),
        "different",
    ),
    Pair(
        "set_data: another length with labels",
        lambda: labelled_then(["d", "e"], np.arange(2.0)),
        lambda: labelled_then(["d", "e", "f"], np.arange(3.0)),
        "different",
    ),
    Pair(
        "set_data: labels and values back again",
        lambda: labelled_then(["a", "b", "c"], np.arange(3.0)),
        lambda: labelled_then(["d", "e"], np.arange(2.0), back=True),
        "same",
    ),
    *vary(
        "data as index",
        indexed,
        {
            "entry in the middle": dict(index=changed(INDEX, 1500, 6 - INDEX[1500])),
            "two data variables swapped": dict(swap=True),
        },
    ),
    *vary("data as index", indexed, {"built again": {}}, "same"),
    *vary("unused data", unused, {"value": dict(value=1.5), "name": dict(name="kept_2")}),
    *vary("unused data", unused, {"built again": {}}, "same"),
    *vary("covariate", held, {"data and constant": dict(kind="constant")}),
    *vary(
        "minibatch",
        minibatch,
        {
            "entry in the middle": dict(x=OTHER),
            "response": dict(y=changed(Y, 1500, 0.0)),
            "batch size": dict(batch_size=51),
            "total size": dict(total_size=3001),
        },
    ),
    *vary("minibatch", minibatch, {"built again": {}}, "same"),
)
