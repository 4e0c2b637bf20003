"""The normal likelihood again, moved to other lines, with other things around it.

Nothing here changes what ``logp`` does: neither the name of the module nor the line numbers nor
a number that ``logp`` does not read.
"""

import pytensor.tensor as pt

UNRELATED = [1, 2, 3]
SCALE = 2.0


def unrelated():
    """Do nothing that the likelihood would read."""
    return UNRELATED


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
