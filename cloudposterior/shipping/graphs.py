"""The graph of a model: its nodes in the order they are computed, and what belongs to the model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
import pymc as pm
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable

__all__ = ["belongings", "nodes", "roots"]


def nodes(variables: Iterable[Variable], stop: Collection[int] = ()) -> list[Any]:
    """List the nodes that variables are computed by, each after those that it depends on.

    Pickle follows a graph recursively and fails on a deep one. A list in this order before it
    keeps it shallow, since each node then finds its inputs already there.

    Parameters
    ----------
    variables : iterable of pytensor.graph.basic.Variable
        Where to start.
    stop : collection of int
        Ids of variables that are not looked behind.

    Returns
    -------
    list of pytensor.graph.basic.Apply
        Each once.
    """
    order: list[Any] = []
    seen: set[int] = set()
    for variable in variables:
        stack = [_entered(variable, seen, stop)]
        while stack:
            node, inputs = stack[-1]
            below = next(inputs, None)
            if below is not None:
                stack.append(_entered(below, seen, stop))
                continue
            stack.pop()
            if node is not None:
                order.append(node)
    return order


def _entered(
    variable: Variable, seen: set[int], stop: Collection[int]
) -> tuple[Any, Iterator[Variable]]:
    node = variable.owner
    if node is None or id(node) in seen or id(variable) in stop:
        return None, iter(())
    seen.add(id(node))
    return node, iter(node.inputs)


def roots(model: pm.Model) -> list[Variable]:
    """List the variables that a model holds, in an order that a copy of it has too.

    Parameters
    ----------
    model : pymc.Model
        Any model.

    Returns
    -------
    list of pytensor.graph.basic.Variable
        Named variables, values, initial values and lengths of dimensions.
    """
    held: list[Any] = [
        *model.named_vars.values(),
        *model.rvs_to_values.values(),
        *model.rvs_to_initial_values.values(),
        *model._dim_lengths.values(),
    ]
    return [variable for variable in held if isinstance(variable, Variable)]


def belongings(model: pm.Model) -> list[object]:
    """List what belongs to a model, at positions that are the same in a copy of it.

    Parameters
    ----------
    model : pymc.Model
        Any model.

    Returns
    -------
    list
        The model and its parents, every variable of its graph, and what constants and shared
        variables hold. A compiled function has the containers of its shared variables, and these
        must not become two.
    """
    held: list[object] = []
    above: pm.Model | None = model
    while above is not None:
        held.append(above)
        above = above.parent
    for variable in _variables(model):
        held.append(variable)
        if isinstance(variable, SharedVariable):
            held += [variable.container, _data(variable.container.storage[0])]
        elif isinstance(variable, Constant):
            held.append(_data(variable.data))
    return held


def _variables(model: pm.Model) -> Iterable[Variable]:
    start = roots(model)
    found = {id(variable): variable for variable in start}
    for node in nodes(start):
        found.update((id(variable), variable) for variable in (*node.inputs, *node.outputs))
    return found.values()


def _data(value: object) -> object:
    # a number that Python keeps one of may be anybody's
    return value if isinstance(value, np.ndarray | np.random.Generator) else None
