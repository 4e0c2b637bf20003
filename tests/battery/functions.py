"""Functions that a model calls: their defaults, closures, attributes and kinds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.tensor as pt

from tests.battery.custom import with_logp, with_potential
from tests.battery.likelihoods import moved, normal, shifted
from tests.battery.pairs import Pair, changed, contrast

LONG = np.linspace(0.0, 1.0, 3000)
OTHER = changed(LONG, 1500, 0.25)


def scaled(scale: Any) -> Callable[..., Any]:
    """Enclose a value."""

    def logp(value: Any, mu: Any) -> Any:
        return -((value - mu) ** 2) * scale

    return logp


def nested(exponent: int) -> Callable[..., Any]:
    """Enclose a function that encloses a value."""

    def power(x: Any) -> Any:
        return x**exponent

    def logp(value: Any, mu: Any) -> Any:
        return -power(value - mu)

    return logp


def recursive(base: float) -> Callable[..., Any]:
    """Enclose a function that encloses itself."""

    def factorial(n: int) -> float:
        return base if n == 0 else n * factorial(n - 1)

    def logp(value: Any, mu: Any) -> Any:
        return -value * factorial(3)

    return logp


def mutual(last: float) -> Callable[..., Any]:
    """Enclose one of two functions that call each other."""

    def even(n: int) -> float:
        return 1.0 if n == 0 else odd(n - 1)

    def odd(n: int) -> float:
        return last if n == 0 else even(n - 1)

    def logp(value: Any, mu: Any) -> Any:
        return -value * even(4)

    return logp


def with_default(scale: Any = 1.0) -> Callable[..., Any]:
    """Give a positional argument a default."""

    def logp(value: Any, mu: Any, scale: Any = scale) -> Any:
        return -(value - mu) * scale

    return logp


def with_keyword_default(scale: Any = 1.0) -> Callable[..., Any]:
    """Give a keyword-only argument a default."""

    def logp(value: Any, mu: Any, *, scale: Any = scale) -> Any:
        return -(value - mu) * scale

    return logp


def with_attribute(scale: float) -> Callable[..., Any]:
    """Keep a number as an attribute of the function, which reads it there."""

    def logp(value: Any, mu: Any) -> Any:
        return -(value - mu) * logp.scale

    logp.scale = scale
    return logp


def three(value: Any, mu: Any, scale: Any) -> Any:
    """Take one argument more than a likelihood has."""
    return -(value - mu) * scale


def two(value: Any, mu: Any, scale: Any) -> Any:
    """Take one argument more than a likelihood has, and do something else."""
    return -(mu - value) / scale


def disguised(scale: float) -> Callable[..., Any]:
    """Wrap a library function, whose name and module the wrapper then claims to have."""

    @functools.wraps(pt.mean)
    def logp(value: Any, mu: Any) -> Any:
        return -(value - mu) * scale

    return logp


class Likelihood:
    """A likelihood as a method, as a call, and as a method of the class."""

    weight = 1.0

    def __init__(self, scale: Any) -> None:
        self.scale = scale

    def __call__(self, value: Any, mu: Any) -> Any:
        return -(value - mu) * self.scale * self.weight

    def method(self, value: Any, mu: Any) -> Any:
        return -self.distance(value, mu) * self.scale

    def distance(self, value: Any, mu: Any) -> Any:
        return value - mu

    @classmethod
    def of_class(cls, value: Any, mu: Any) -> Any:
        return -(value - mu) * cls.weight

    @staticmethod
    def static(value: Any, mu: Any) -> Any:
        return -(value - mu)


class Heavy(Likelihood):
    """Differ in an attribute of the class only."""

    weight = 2.0


class Squared(Likelihood):
    """Differ in a method that another method calls."""

    def distance(self, value: Any, mu: Any) -> Any:
        return (value - mu) ** 2


def warmed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call a function until the interpreter has specialised its bytecode."""
    for _ in range(200):
        function(1.0, 0.5)
    return function


PAIRS: tuple[Pair, ...] = (
    *contrast(
        "logp",
        with_logp,
        {
            "default": (with_default(1.0), with_default(1.5)),
            "kind of a default": (with_default(1), with_default(True)),
            "default array": (with_default(LONG), with_default(OTHER)),
            "keyword default": (with_keyword_default(1.0), with_keyword_default(1.5)),
            "positional and keyword default": (with_default(1.0), with_keyword_default(1.0)),
            "attribute of the function": (with_attribute(1.0), with_attribute(2.0)),
            "closure": (scaled(1.0), scaled(1.0 + 1e-9)),
            "kind in a closure": (scaled(1), scaled(1.0)),
            "array in a closure": (scaled(LONG), scaled(OTHER)),
            "transpose in a closure": (
                scaled(LONG[:9].reshape(3, 3)),
                scaled(LONG[:9].reshape(3, 3).T),
            ),
            "variable in a closure": (scaled(pt.exp(0.5)), scaled(pt.exp(0.6))),
            "closure of a closure": (nested(2), nested(3)),
            "recursion": (recursive(1.0), recursive(2.0)),
            "mutual recursion": (mutual(0.0), mutual(0.5)),
            "partial argument": (
                functools.partial(three, scale=1.0),
                functools.partial(three, scale=2.0),
            ),
            "partial function": (
                functools.partial(three, scale=1.0),
                functools.partial(two, scale=1.0),
            ),
            "wrapper that bears another name": (disguised(1.0), disguised(2.0)),
            "wrapper and what it claims to be": (disguised(1.0), pt.mean),
            "bound method": (Likelihood(1.0).method, Likelihood(2.0).method),
            "array of a bound method": (Likelihood(LONG).method, Likelihood(OTHER).method),
            "method that a method calls": (Likelihood(1.0).method, Squared(1.0).method),
            "instance": (Likelihood(1.0), Likelihood(2.0)),
            "attribute of the class of an instance": (Likelihood(1.0), Heavy(1.0)),
            "class method": (Likelihood.of_class, Heavy.of_class),
            "class and static method": (Likelihood.of_class, Likelihood.static),
            "number of another module": (normal.logp, shifted.logp),
            "relative import of a number": (normal.logp_importing, shifted.logp_importing),
            "relative import of a module": (
                normal.logp_importing_module,
                shifted.logp_importing_module,
            ),
        },
    ),
    *contrast(
        "logp",
        with_logp,
        {
            "moved to another module": (normal.logp, moved.logp),
            "moved with a relative import": (normal.logp_importing, moved.logp_importing),
            "called before": (scaled(1.0), warmed(scaled(1.0))),
            "default made again": (with_default(LONG), with_default(LONG.copy())),
            "closure made again": (scaled(LONG), scaled(LONG.copy())),
            "closure of a closure made again": (nested(2), nested(2)),
            "recursion made again": (recursive(1.0), recursive(1.0)),
            "mutual recursion made again": (mutual(0.0), mutual(0.0)),
            "attribute made again": (with_attribute(1.0), with_attribute(1.0)),
            "variable in a closure made again": (scaled(pt.exp(0.5)), scaled(pt.exp(0.5))),
            "partial made again": (
                functools.partial(three, scale=1.0),
                functools.partial(three, scale=1.0),
            ),
            "bound method of an equal instance": (Likelihood(1.0).method, Likelihood(1.0).method),
            "equal instance": (Likelihood(LONG), Likelihood(LONG.copy())),
        },
        "same",
    ),
    *contrast(
        "potential",
        with_potential,
        {
            "closure": (functools.partial(scaled(1.0), mu=0), functools.partial(scaled(2.0), mu=0)),
            "bound method": (
                functools.partial(Likelihood(1.0).method, mu=0),
                functools.partial(Likelihood(2.0).method, mu=0),
            ),
        },
    ),
)
