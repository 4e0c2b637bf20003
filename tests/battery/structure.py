"""What a model is made of: which variables, under which names, in which order, and how linked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.compile.ops import view_op

from tests.battery.pairs import Pair, vary


def defined(order: str = "abc", observed: str = "yz") -> pm.Model:
    """Independent variables and observed ones, defined in the given order."""
    with pm.Model() as model:
        for name in order:
            pm.Normal(name)
        for name in observed:
            pm.Normal(name, model["a"], 1.0, observed=0.5)
    return model


def named(
    model_name: str = "", variable: str = "x", nested: str | None = None, deep: str | None = None
) -> pm.Model:
    """A variable in a model that may have a name, and may lie in another one."""
    with pm.Model(name=model_name) as model:
        if nested is None:
            pm.Normal(variable)
        else:
            with pm.Model(name=nested):
                if deep is None:
                    pm.Normal(variable)
                else:
                    with pm.Model(name=deep):
                        pm.Normal(variable)
    return model


def penalised(
    names: Sequence[str] = ("first", "second", "third"), weights: Sequence[float] = (1.0, 2.0, 3.0)
) -> pm.Model:
    """A model with potentials, whose sum depends on their order by rounding."""
    with pm.Model() as model:
        x = pm.Normal("x")
        for name, weight in zip(names, weights, strict=True):
            pm.Potential(name, -weight * x**2)
    return model


def derived(
    kind: str = "plain", name: str = "y", factor: float = 2.0, registered: bool = True
) -> pm.Model:
    """A deterministic that is read by the likelihood, or not registered at all."""
    with pm.Model() as model:
        x = pm.Normal("x")
        y = factor * x
        if registered:
            y = pm.Deterministic(name, y)
        pm.Normal("z", {"plain": y, "beside": factor * x, "raw": x}[kind], 1.0, observed=0.5)
    return model


def linked(first: str = "a", second: str = "b") -> pm.Model:
    """Two variables of one distribution, either of which may be read twice."""
    with pm.Model() as model:
        pm.Normal("a")
        pm.Normal("b")
        pm.Deterministic("difference", model[first] - model[second])
    return model


def hierarchy(parent: str = "mu", offset: bool = False) -> pm.Model:
    """A group effect under one of two parents, centred or not."""
    with pm.Model() as model:
        pm.Normal("mu")
        pm.Normal("nu")
        if offset:
            pm.Deterministic("effect", model[parent] + pm.Normal("raw", shape=3))
        else:
            pm.Normal("effect", model[parent], 1.0, shape=3)
    return model


def seen(which: str | None = "y", value: float = 0.5) -> pm.Model:
    """Two equal variables, one of which is observed."""
    with pm.Model() as model:
        for name in "xy":
            pm.Normal(name, observed=value if name == which else None)
    return model


def causal() -> pm.Model:
    """A confounder, a cause and an effect, with nothing known."""
    with pm.Model() as model:
        z = pm.Normal("z")
        x = pm.Normal("x", z, 1.0)
        pm.Normal("y", x + z, 1.0)
    return model


def intervened(**values: Any) -> pm.Model:
    """The causal model under ``pm.do``."""
    return pm.do(causal(), {name: np.asarray(value) for name, value in values.items()})


def informed(**values: Any) -> pm.Model:
    """The causal model under ``pm.observe``."""
    return pm.observe(causal(), {name: np.asarray(value) for name, value in values.items()})


def viewed(times: int = 0) -> pm.Model:
    """A potential of a variable seen through any number of views, which change nothing."""
    with pm.Model() as model:
        x = pm.Normal("x")
        for _ in range(times):
            x = view_op(x)
        pm.Potential("p", -(x**2))
    return model


def anonymous(sign: float = 1.0, order: int = 1) -> pm.Model:
    """A potential over random draws that have no name and are resampled at every evaluation."""
    with pm.Model() as model:
        x = pm.Normal("x")
        noise = [pm.Normal.dist(0.0, 1.0), pm.Normal.dist(sign, 2.0)][::order]
        pm.Deterministic("noisy", x + noise[0] - noise[1])
    return model


def repeated(independent: bool = True) -> pm.Model:
    """The difference of two draws, or of one draw and itself."""
    with pm.Model() as model:
        first = pm.Normal.dist(0.0, 1.0)
        second = pm.Normal.dist(0.0, 1.0) if independent else first
        pm.Deterministic("difference", first - second)
    return model


def graph(exponent: float = 2.0, first: str = "x") -> pt.TensorVariable:
    """A bare graph over two free roots, outside any model."""
    x, y = pt.dvector(first), pt.dvector("y")
    return pt.sum(x**exponent - y)


def root(kind: str = "vector", dtype: str = "float64", **options: Any) -> pt.TensorVariable:
    """A bare root variable."""
    return getattr(pt, kind)("x", dtype=dtype, **options)


PAIRS: tuple[Pair, ...] = (
    *vary(
        "definition",
        defined,
        {
            "two free variables swapped": dict(order="bac"),
            "all free variables turned": dict(order="cba"),
            "observed variables swapped": dict(observed="zy"),
            "one more": dict(order="abcd"),
            "one less": dict(order="ab"),
            "another name": dict(order="abd"),
            "one observed less": dict(observed="y"),
        },
    ),
    *vary("definition", defined, {"built again": {}}, "same"),
    *vary(
        "name",
        named,
        {
            "of the variable": dict(variable="x_1"),
            "of the model": dict(model_name="radon"),
            "of an inner model": dict(nested="inner"),
            "of a model within an inner model": dict(nested="inner", deep="deep"),
        },
    ),
    Pair(
        "name: two models in either order",
        partial(named, model_name="one", nested="two"),
        partial(named, model_name="two", nested="one"),
        "different",
    ),
    Pair(
        "name: of inner models alike",
        partial(named, model_name="one", nested="two"),
        partial(named, model_name="one", nested="two"),
        "same",
    ),
    *vary(
        "potential",
        penalised,
        {
            "weight": dict(weights=(1.0, 2.0, 3.5)),
            "name": dict(names=("first", "second", "last")),
            "order": dict(names=("third", "second", "first"), weights=(3.0, 2.0, 1.0)),
            "weights swapped": dict(weights=(2.0, 1.0, 3.0)),
            "one less": dict(names=("first", "second"), weights=(1.0, 2.0)),
            "none": dict(names=(), weights=()),
        },
    ),
    *vary("potential", penalised, {"built again": {}}, "same"),
    *vary(
        "deterministic",
        derived,
        {
            "factor": dict(factor=2.5),
            "name": dict(name="y_1"),
            "not registered": dict(registered=False),
            "not read": dict(kind="raw"),
        },
    ),
    Pair(
        "deterministic: factor of one that is not read",
        partial(derived, kind="raw"),
        partial(derived, kind="raw", factor=2.5),
        "different",
    ),
    *vary("deterministic", derived, {"built again": {}}, "same"),
    *vary(
        "link",
        linked,
        {
            "operands swapped": dict(first="b", second="a"),
            "one operand twice": dict(second="a"),
            "the other operand twice": dict(first="b"),
        },
    ),
    *vary(
        "hierarchy",
        hierarchy,
        {"other parent": dict(parent="nu"), "not centred": dict(offset=True)},
    ),
    *vary(
        "observing",
        seen,
        {
            "another variable": dict(which="x"),
            "no variable": dict(which=None),
            "another value": dict(value=0.5 + 1e-9),
        },
    ),
    Pair("do: nothing and something", causal, partial(intervened, x=1.0), "different"),
    Pair("do: value", partial(intervened, x=1.0), partial(intervened, x=2.0), "different"),
    Pair("do: variable", partial(intervened, x=1.0), partial(intervened, z=1.0), "different"),
    Pair("do: alike", partial(intervened, x=1.0), partial(intervened, x=1.0), "same"),
    Pair("observe: nothing and something", causal, partial(informed, y=1.0), "different"),
    Pair("observe: value", partial(informed, y=1.0), partial(informed, y=1.5), "different"),
    Pair("observe: variable", partial(informed, y=1.0), partial(informed, x=1.0), "different"),
    Pair("observe: alike", partial(informed, y=1.0), partial(informed, y=1.0), "same"),
    Pair("do and observe", partial(intervened, x=1.0), partial(informed, x=1.0), "different"),
    *vary("view", viewed, {"one": dict(times=1), "two": dict(times=2)}, "same"),
    *vary("unnamed draws", anonymous, {"parameter": dict(sign=-1.0), "order": dict(order=-1)}),
    *vary("unnamed draws", anonymous, {"built again": {}}, "same"),
    *vary("draws", repeated, {"one draw used twice": dict(independent=False)}),
    *vary("draws", repeated, {"built again": {}}, "same"),
    *vary("graph", graph, {"exponent": dict(exponent=3.0)}),
    *vary("graph", graph, {"built again": {}}, "same"),
    *vary(
        "root",
        root,
        {
            "rank": dict(kind="matrix"),
            "dtype": dict(dtype="float32"),
            "static shape": dict(shape=(3,)),
        },
    ),
    *vary("root", root, {"built again": {}}, "same"),
)
