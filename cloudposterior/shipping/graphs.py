"""The graph of a model: its parts under their names, and its nodes as they are computed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import pymc as pm
from pytensor.graph.basic import Variable

__all__ = ["Step", "named_parts", "nodes", "roots"]

Step = tuple[str, str | int]
"""What a part of a model is, and which one: ``("variable", "mu")``, ``("input", 0)``."""


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


def named_parts(model: pm.Model) -> Iterator[tuple[Step, Any]]:
    """Give the parts of a model that have a name.

    Parameters
    ----------
    model : pymc.Model
        Any model.

    Yields
    ------
    step : Step
        The same in every equal model.
    part : pymc.Model or pytensor.graph.basic.Variable
        The model and its parents; named variables, values, initial values and lengths of
        dimensions, as far as these are variables.
    """
    above: pm.Model | None = model
    depth = 0
    while above is not None:
        yield ("model", depth), above
        above, depth = above.parent, depth + 1
    by_kind: dict[str, Iterable[tuple[str, Any]]] = {
        "variable": model.named_vars.items(),
        "value": ((rv.name, value) for rv, value in model.rvs_to_values.items()),
        "initial value": ((rv.name, v) for rv, v in model.rvs_to_initial_values.items()),
        "length": model._dim_lengths.items(),
    }
    for kind, parts in by_kind.items():
        for name, part in parts:
            if isinstance(part, Variable):
                yield (kind, str(name)), part


def roots(model: pm.Model) -> list[Variable]:
    """List the named variables that a model holds, from which its whole graph is found.

    Parameters
    ----------
    model : pymc.Model
        Any model.

    Returns
    -------
    list of pytensor.graph.basic.Variable
        As `named_parts` gives them.
    """
    return [part for _, part in named_parts(model) if isinstance(part, Variable)]
