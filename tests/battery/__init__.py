"""Pairs of models of which it is known whether they are to have the same token.

The battery is data: each module holds the pairs of one subject, and ``PAIRS`` holds them all.
"""

from __future__ import annotations

from tests.battery import (
    bodies,
    constants,
    coords,
    data,
    functions,
    globals,
    gp,
    hostile,
    modules,
    nodes,
    ops,
    priors,
    refused,
    structure,
    use,
)
from tests.battery.pairs import Pair

__all__ = ["PAIRS", "Pair"]

PAIRS: tuple[Pair, ...] = (
    *constants.PAIRS,
    *priors.PAIRS,
    *coords.PAIRS,
    *data.PAIRS,
    *structure.PAIRS,
    *gp.PAIRS,
    *nodes.PAIRS,
    *ops.PAIRS,
    *bodies.PAIRS,
    *functions.PAIRS,
    *globals.PAIRS,
    *modules.PAIRS,
    *refused.PAIRS,
    *use.PAIRS,
    *hostile.PAIRS,
)
