"""Modules as text, in which a function reads what lies in the module, directly or not."""

from __future__ import annotations

import pymc as pm

from tests.battery.custom import with_logp
from tests.battery.pairs import Pair, contrast, namespace

SETTINGS = """
class Settings:
    class inner:
        scale = {}
    unused = {}
def logp(value, mu):
    return -(value - mu) * Settings.inner.scale
"""
CHAIN = """
WEIGHT = {}
def weigh(x):
    return x * WEIGHT
def distance(value, mu):
    return weigh(value - mu)
def logp(value, mu):
    return -distance(value, mu)
"""
RECURSIVE = """
def depth(x, n):
    return x if n == 0 else {} * depth(x, n - 1)
def logp(value, mu):
    return depth(value - mu, 3)
"""
MUTUAL = """
def even(n):
    return 1.0 if n == 0 else odd(n - 1)
def odd(n):
    return {} if n == 0 else even(n - 1)
def logp(value, mu):
    return value * even(4)
"""
UNUSED = """
import numpy as np
UNUSED = {}
def unused(x):
    return x + UNUSED
def logp(value, mu):
    return -(value - mu)
"""
MODULE = """
import {} as library
def logp(value, mu):
    return library.sin(value - mu)
"""
WITHIN = """
def logp(value, mu):
    def distance(x):
        return [SCALE * i for i in x]
    return distance(value)
SCALE = {}
"""
DEFINED_LATER = """
def logp(value, mu):
    return undefined(value) if False else SCALE * value
SCALE = {}
"""
SHADOWED = """
def logp(value, mu):
    return abs(value - mu)
{}
"""
DECORATED = """
def scaling(scale):
    def decorate(function):
        def decorated(value, mu):
            return scale * function(value, mu)
        return decorated
    return decorate
@scaling({})
def logp(value, mu):
    return value - mu
"""
PROPERTY = """
class Settings:
    @property
    def scale(self):
        return {}
settings = Settings()
def logp(value, mu):
    return (value - mu) * settings.scale
"""
INHERITED = """
class Base:
    def scale(self):
        return {}
class Settings(Base):
    pass
def logp(value, mu):
    return (value - mu) * Settings().scale()
"""
METACLASS = """
class Meta(type):
    @property
    def scale(cls):
        return {}
class Settings(metaclass=Meta):
    pass
def logp(value, mu):
    return (value - mu) * Settings.scale
"""


def texts(text: str, left: str, right: str) -> tuple[str, str]:
    """Fill the gaps of a text in two ways."""
    gaps = text.count("{}")
    return text.format(*[left] * gaps), text.format(*[right] * gaps)


def running(text: str) -> pm.Model:
    """A likelihood that is the function ``logp`` of a module with the text."""
    return with_logp(namespace(text).logp)


PAIRS: tuple[Pair, ...] = (
    *contrast(
        "module",
        running,
        {
            "number two functions away": texts(CHAIN, "1.0", "2.0"),
            "attribute of a class in a class": (
                SETTINGS.format(1.0, 0),
                SETTINGS.format(2.0, 0),
            ),
            "recursion": texts(RECURSIVE, "1.0", "2.0"),
            "mutual recursion": texts(MUTUAL, "0.0", "0.5"),
            "library of one name": texts(MODULE, "math", "numpy"),
            "read by a function within": texts(WITHIN, "1.0", "2.0"),
            "beside an undefined name": texts(DEFINED_LATER, "1.0", "2.0"),
            "shadowed builtin": texts(SHADOWED, "", "abs = len"),
            "argument of a decorator": texts(DECORATED, "1.0", "2.0"),
            "property": texts(PROPERTY, "1.0", "2.0"),
            "inherited method": texts(INHERITED, "1.0", "2.0"),
            "metaclass": texts(METACLASS, "1.0", "2.0"),
        },
    ),
    *contrast(
        "module",
        running,
        {
            "two functions away made again": texts(CHAIN, "1.0", "1.0"),
            "recursion made again": texts(RECURSIVE, "1.0", "1.0"),
            "mutual recursion made again": texts(MUTUAL, "0.5", "0.5"),
            "unused number": texts(UNUSED, "1.0", "2.0"),
            "undefined name made again": texts(DEFINED_LATER, "1.0", "1.0"),
            "property made again": texts(PROPERTY, "1.0", "1.0"),
            "inherited method made again": texts(INHERITED, "1.0", "1.0"),
            "metaclass made again": texts(METACLASS, "1.0", "1.0"),
        },
        "same",
    ),
)
