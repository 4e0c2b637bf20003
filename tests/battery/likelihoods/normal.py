"""A normal likelihood in parts: a global, a function that reads it, and imports when called."""

import pytensor.tensor as pt

SCALE = 2.0


def squared(value, mu):
    """Square a scaled distance."""
    return ((value - mu) / SCALE) ** 2


def logp(value, mu):
    """Read a function of this module, which reads a number of this module."""
    return -0.5 * squared(value, mu)


def logp_importing(value, mu):
    """Import a number of a sibling when called."""
    from .scales import NARROW

    return -pt.abs(value - mu) / NARROW


def logp_importing_module(value, mu):
    """Import a sibling when called, and read an attribute of it."""
    from . import scales

    return -pt.abs(value - mu) / scales.NARROW
