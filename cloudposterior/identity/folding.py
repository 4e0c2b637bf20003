"""Folding of constants in inner graphs that PyMC 5 may have folded in place.

There `Model.logp` rewrites the inner graph of an op that the model shares: what was computed from
constants is a constant afterwards. So that such a model has one token before and after, the same
parts are evaluated here. PyTensor 3 freezes inner graphs, and nothing of this happens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.null_type import NullType
from pytensor.graph.traversal import io_toposort
from pytensor.tensor.basic import Alloc
from pytensor.tensor.random.type import RandomType

from cloudposterior.identity.origin import named_origin

__all__ = ["Folding", "constant_value"]


_FEW_NODES = 20


class Folding:
    """The values of those variables of a graph that depend on constants alone.

    Parameters
    ----------
    graph : pytensor.graph.fg.FunctionGraph or None
        An inner graph, which is only read; None for variables that are in none.
    """

    def __init__(self, graph: FunctionGraph | None) -> None:
        self._graph = graph
        self._values: dict[int, Any] = {}
        self._alive: list[Apply] = []

    def value(self, variable: Variable) -> np.ndarray | np.generic | None:
        """Evaluate a variable, whose inputs were asked for before.

        Returns
        -------
        numpy.ndarray, numpy.generic or None
            None when it is no number, or when PyTensor would not fold it.
        """
        if isinstance(variable, Constant):
            self._values[id(variable)] = variable.data
            return _number(variable.data)
        node = variable.owner
        if node is None or any(id(v) not in self._values for v in node.inputs):
            return None
        if id(variable) not in self._values and self._may_fold(node):
            results = _evaluate(node, [self._values[id(v)] for v in node.inputs])
            self._alive.append(node)
            self._values.update((id(v), r) for v, r in zip(node.outputs, results, strict=False))
        return _number(self._values.get(id(variable)))

    def _may_fold(self, node: Apply) -> bool:
        kinds = [v.type for v in (*node.inputs, *node.outputs)]
        return (
            bool(node.inputs)
            and not any(isinstance(kind, RandomType | NullType) for kind in kinds)
            # the user's own may count its calls
            and named_origin(type(node.op)) is not None
            and self._would_fold(node)
        )

    def _would_fold(self, node: Apply) -> bool:
        # of a constant broadcast PyTensor may also drop the broadcast, which comes to the same
        return type(node.op) is Alloc or bool(node.op.do_constant_folding(self._graph, node))


def constant_value(variable: Variable) -> np.ndarray | np.generic | None:
    """Evaluate an expression of few constants; None for any other variable."""
    nodes = list(io_toposort([], [variable])) if variable.owner is not None else []
    if len(nodes) > _FEW_NODES:
        return None
    folding = Folding(None)
    for node in nodes:
        for inner in (*node.inputs, *node.outputs):
            folding.value(inner)
    return folding.value(variable)


def _number(value: object) -> np.ndarray | np.generic | None:
    return value if isinstance(value, np.ndarray | np.generic) else None


def _evaluate(node: Apply, inputs: list[Any]) -> list[Any]:
    # in Python, op by op: compiling takes longer than the whole token
    storage = {variable: [value] for variable, value in zip(node.inputs, inputs, strict=True)}
    storage.update({variable: [None] for variable in node.outputs})
    computed = {variable: [True] for variable in node.inputs}
    computed.update({variable: [False] for variable in node.outputs})
    try:
        node.op.prepare_node(node, storage, computed, "py")
        node.op.make_py_thunk(node, storage, computed, [])()
    except Exception:  # noqa: BLE001  (an op that fails here fails for PyTensor too, which goes on)
        return []
    return [storage[variable][0] for variable in node.outputs]
