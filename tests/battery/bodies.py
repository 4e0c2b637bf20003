"""The bodies of functions, given as text, so that two versions live in one process."""

from __future__ import annotations

import textwrap
from typing import Any

import pymc as pm

from tests.battery.custom import (
    with_dist,
    with_logcdf,
    with_logp,
    with_potential,
    with_random,
    with_simulator,
    with_support_point,
)
from tests.battery.pairs import Pair, contrast, namespace


def source(body: str, arguments: str = "value, mu", **options: Any) -> Any:
    """Make a likelihood whose body is given as text."""
    body = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return namespace(f"import numpy as np\ndef logp({arguments}):\n{body}\n", **options).logp


SPAN_WIDE = """
try:
    a = abs(value)
    b = abs(mu)
except ValueError:
    a = b = 0.0
return a - b
"""
SPAN_NARROW = """
a = abs(value)
try:
    b = abs(mu)
except ValueError:
    a = b = 0.0
return a - b
"""
CAUGHT = """
try:
    return 1 / mu
except {}:
    return 0
"""
PLAIN = "return -(value - mu) ** 2"

PAIRS: tuple[Pair, ...] = (
    *contrast(
        "body of logp",
        with_logp,
        {
            "operator": (source("return value + mu"), source("return value - mu")),
            "operands": (source("return value - mu"), source("return mu - value")),
            "name of a method": (source("return value.sum()"), source("return value.prod()")),
            "attribute of a module": (source("return np.sin(mu)"), source("return np.cos(mu)")),
            "constant": (source("return value * 2.0"), source("return value * 2.5")),
            "integer and float": (source("return value * 1"), source("return value * 1.0")),
            "integer and boolean": (source("return value * 1"), source("return value * True")),
            "sign of zero": (source("return value * 0.0"), source("return value * -0.0")),
            "constants in a tuple": (
                source("return value * (1, 2)[mu]"),
                source("return value * (1, 2.0)[mu]"),
            ),
            "constants in a set": (
                source("return value in {'a', 'b', 'c'}"),
                source("return value in {'a', 'b', 'd'}"),
            ),
            "text and bytes": (source("return 'a'"), source("return b'a'")),
            "no value and its name": (source("return None"), source("return 'None'")),
            "range of a comprehension": (
                source("return sum(value ** i for i in range(3))"),
                source("return sum(value ** i for i in range(4))"),
            ),
            "condition in a comprehension": (
                source("return [i for i in value if i > 0]"),
                source("return [i for i in value if i < 0]"),
            ),
            "lambda within": (
                source("return (lambda x: x + 1)(value)"),
                source("return (lambda x: x + 2)(value)"),
            ),
            "default within": (
                source("return (lambda x=1: x)(value)"),
                source("return (lambda x=2: x)(value)"),
            ),
            "import within": (
                source("from math import sin as f; return f(mu)"),
                source("from math import cos as f; return f(mu)"),
            ),
            "module imported within": (
                source("import math as m; return m.sin(mu)"),
                source("import cmath as m; return m.sin(mu)"),
            ),
            "caught exception": (
                source(CAUGHT.format("ValueError")),
                source(CAUGHT.format("KeyError")),
            ),
            "what a try block covers": (source(SPAN_WIDE), source(SPAN_NARROW)),
            "order of arguments": (source(PLAIN), source(PLAIN, arguments="mu, value")),
            "kind of argument": (
                source("return args[0]", arguments="*args"),
                source("return args[0]", arguments="args, mu"),
            ),
        },
    ),
    *contrast(
        "body of logp",
        with_logp,
        {
            "made again": (source(PLAIN), source(PLAIN)),
            "line numbers": (source(PLAIN), source(PLAIN, blank_lines=17)),
            "file name": (source(PLAIN), source(PLAIN, filename="another/file.py")),
            "module name": (source(PLAIN), source(PLAIN, name="another_module")),
            "module registered": (source(PLAIN), source(PLAIN, name="kept", registered=True)),
            "module not registered and main": (source(PLAIN), source(PLAIN, name="__main__")),
            "set of names": (source("return value in {'a', 'b', 'c'}"),) * 2,
        },
        "same",
    ),
    *contrast(
        "random",
        with_random,
        {
            "body": (
                source("return rng.normal(mu)", arguments="mu, rng=None, size=None"),
                source("return rng.laplace(mu)", arguments="mu, rng=None, size=None"),
            ),
            "none": (None, source("return rng.normal(mu)", arguments="mu, rng=None, size=None")),
        },
    ),
    *contrast(
        "logcdf", with_logcdf, {"body": (source("return value"), source("return value * 2"))}
    ),
    *contrast(
        "support point",
        with_support_point,
        {
            "body": (
                source("return mu", arguments="rv, size, mu"),
                source("return mu + 1", arguments="rv, size, mu"),
            )
        },
    ),
    *contrast(
        "dist",
        with_dist,
        {
            "body": (
                lambda mu, size: pm.Normal.dist(mu, 1.0, size=size),
                lambda mu, size: pm.Normal.dist(mu, 2.0, size=size),
            ),
            "order of operations": (
                lambda mu, size: pm.math.exp(pm.Normal.dist(mu, 1.0, size=size)) + 1.0,
                lambda mu, size: pm.math.exp(pm.Normal.dist(mu, 1.0, size=size) + 1.0),
            ),
        },
    ),
    *contrast(
        "dist",
        with_dist,
        {"made again": (lambda mu, size: pm.Normal.dist(mu, 1.0, size=size),) * 2},
        "same",
    ),
    *contrast(
        "simulator",
        with_simulator,
        {
            "body": (
                source("return rng.normal(mu)", arguments="rng, mu, size"),
                source("return rng.laplace(mu)", arguments="rng, mu, size"),
            )
        },
    ),
    *contrast(
        "potential",
        with_potential,
        {"body": (source("return value + 1", "value"), source("return value + 2", "value"))},
    ),
    *contrast(
        "potential",
        with_potential,
        {"body made again": (source("return value + 1", "value"),) * 2},
        "same",
    ),
)
