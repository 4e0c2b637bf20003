"""Ops of the user's own, and what distinguishes two nodes of library ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.tensor.random.op import RandomVariable

from tests.battery.globals import objects, tagged
from tests.battery.pairs import Pair, changed, contrast, namespace, vary

LONG = np.linspace(0.0, 1.0, 3000)
OTHER = changed(LONG, 1500, 0.25)


class Elementwise(Op):
    """Ops of one input whose output is like it."""

    def make_node(self, x: Any) -> Apply:
        x = pt.as_tensor_variable(x)
        return Apply(self, [x], [x.type()])

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        outputs[0][0] = np.asarray(self.compute(inputs[0]))


class Scale(Elementwise):
    """Say in ``__props__`` what distinguishes two ops."""

    __props__ = ("factor",)

    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def compute(self, x: Any) -> Any:
        return x * self.factor


class ScaleAndMore(Scale):
    """Hold more than ``__props__`` says."""

    def __init__(self, factor: Any = 1.0, more: Any = None) -> None:
        super().__init__(factor)
        self.more = more

    def compute(self, x: Any) -> Any:
        return x * self.factor + self.more


class Plain(Elementwise):
    """Say nothing in ``__props__``."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def compute(self, x: Any) -> Any:
        return x * self.state


class Inner(Plain):
    """Keep the state under a name that a library might give to a cache."""

    def __init__(self, state: Any) -> None:
        self._cache = self.fn = state

    def compute(self, x: Any) -> Any:
        return x * self._cache


class Slotted(Elementwise):
    """Keep the state in a slot."""

    __slots__ = ("state",)
    __props__ = ()

    def __init__(self, state: Any) -> None:
        self.state = state

    def compute(self, x: Any) -> Any:
        return x * self.state


class Calling(Elementwise):
    """Hold a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.compute = function


def enclosing(state: Any) -> Op:
    """Make an op of a class whose method encloses the state."""

    class Enclosing(Elementwise):
        __props__ = ()

        def compute(self, x: Any) -> Any:
            return x * state

    return Enclosing()


def classed(state: Any, power: int = 1) -> Op:
    """Make an op of a class that bears the state, below a class that bears the power."""

    class Power(Elementwise):
        __props__ = ()
        exponent = power

        def compute(self, x: Any) -> Any:
            return x**self.exponent * self.state

    class Classed(Power):
        pass

    Classed.state = state
    return Classed()


TEXT = """
SCALE = {}
class Reading(Elementwise):
    __props__ = ()
    def compute(self, x):
        return {}
"""


def written(scale: float = 1.0, expression: str = "x * SCALE", **options: Any) -> Op:
    """Make an op of a class that is given as text, and reads a global."""
    text = TEXT.format(scale, expression)
    return namespace(text, Elementwise=Elementwise, **options).Reading()


def applying(op: Op) -> pm.Model:
    """A model with a potential made by the op."""
    with pm.Model() as model:
        pm.Potential("p", op(pm.Normal("x")))
    return model


def from_graph(factor: float = 2.0, swap: bool = False, negative: bool = False) -> pm.Model:
    """A model with an op that encloses a graph."""
    x, y = pt.dscalars("x", "y")
    inner = factor * x - y
    op = OpFromGraph([y, x] if swap else [x, y], [-inner if negative else inner])
    with pm.Model() as model:
        pm.Potential("p", op(pm.Normal("a"), pm.Normal("b")))
    return model


def user_distribution(spread: float = 1.0, power: int = 2, start: float = 0.0) -> pm.Model:
    """A distribution by classes of the user's: draws, density and support point."""

    class ShiftedRV(RandomVariable):
        name = "shifted"
        signature = "()->()"
        dtype = "floatX"

        @classmethod
        def rng_fn(cls, rng: np.random.Generator, mu: Any, size: Any) -> Any:
            return rng.normal(mu, spread, size)

    class Shifted(pm.Continuous):
        rv_op = ShiftedRV()

        @classmethod
        def dist(cls, mu: Any, **options: Any) -> Any:
            return super().dist([pt.as_tensor_variable(mu)], **options)

        def logp(value: Any, mu: Any) -> Any:
            return -((value - mu) ** power)

        def support_point(rv: Any, size: Any, mu: Any) -> Any:
            return mu + start

    with pm.Model() as model:
        Shifted("x", 0.5)
    return model


PAIRS: tuple[Pair, ...] = (
    *contrast(
        "op",
        applying,
        {
            "property": (Scale(1.0), Scale(2.0)),
            "kind of a property": (Scale(1), Scale(1.0)),
            "boolean property": (Scale(1), Scale(True)),
            "beside the properties": (ScaleAndMore(more=1.0), ScaleAndMore(more=2.0)),
            "class of equal properties": (Scale(1.0), ScaleAndMore(1.0)),
            "without properties": (Plain(1.0), Plain(2.0)),
            "array": (Plain(LONG), Plain(OTHER)),
            "array transposed": (Plain(LONG.reshape(50, 60)), Plain(LONG.reshape(60, 50).T)),
            "array of objects": (Plain(objects("a-b", "c")), Plain(objects("a", "b-c"))),
            "attribute of an array": (Plain(tagged("a")), Plain(tagged("b"))),
            "mapping": (Plain({"a": {"b": 1}}), Plain({"a": {"b": 2}})),
            "state named as a cache": (Inner(1.0), Inner(2.0)),
            "slot": (Slotted(1.0), Slotted(2.0)),
            "function": (Calling(lambda x: x + 1), Calling(lambda x: x + 2)),
            "closure of a method": (enclosing(1.0), enclosing(2.0)),
            "array in the closure of a method": (enclosing(LONG), enclosing(OTHER)),
            "attribute of the class": (classed(1.0), classed(2.0)),
            "attribute of the base class": (classed(1.0), classed(1.0, power=2)),
            "body of a method": (written(expression="x + 1"), written(expression="x + 2")),
            "global of a method": (written(1.0), written(2.0)),
            "op in an op": (Plain(Scale(1.0)), Plain(Scale(2.0))),
            "variable in an op": (Plain(pt.exp(1.0)), Plain(pt.exp(2.0))),
        },
    ),
    *contrast(
        "op",
        applying,
        {
            "property made again": (Scale(1.5), Scale(1.5)),
            "array made again": (Plain(LONG), Plain(LONG.copy())),
            "mapping made again": (Plain({"a": {"b"}}), Plain({"a": {"b"}})),
            "slot made again": (Slotted(1.0), Slotted(1.0)),
            "class made again": (enclosing(1.0), enclosing(1.0)),
            "class and its base made again": (classed(1.0), classed(1.0)),
            "class written again": (written(), written()),
            "class at another place": (
                written(),
                written(blank_lines=9, filename="other.py", name="other"),
            ),
            "variable in an op made again": (Plain(pt.exp(1.0)), Plain(pt.exp(1.0))),
        },
        "same",
    ),
    *contrast(
        "bare op",
        lambda op: op,
        {
            "property": (Scale(1.0), Scale(2.0)),
            "without properties": (Plain(1.0), Plain(2.0)),
            "library op": (pt.exp, pt.log),
        },
    ),
    *contrast("bare op", lambda op: op, {"made again": (Plain(1.0), Plain(1.0))}, "same"),
    *vary(
        "op from a graph",
        from_graph,
        {
            "inner constant": dict(factor=2.5),
            "inner inputs swapped": dict(swap=True),
            "inner op": dict(negative=True),
        },
    ),
    *vary("op from a graph", from_graph, {"built again": {}}, "same"),
    *vary(
        "user distribution",
        user_distribution,
        {
            "draws": dict(spread=2.0),
            "density": dict(power=4),
            "support point": dict(start=1.0),
        },
    ),
    *vary("user distribution", user_distribution, {"built again": {}}, "same"),
)
