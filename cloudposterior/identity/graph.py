"""How PyTensor graphs are written: one digest for each node, from those of its inputs.

The walk is iterative (a random walk written as a loop may be tens of thousands of nodes deep). A
node is its op, its inputs and the types of its outputs. Names of variables do not count unless
they are roots; random generators count by which of them it is, never by their state, which moves
with every draw.
"""

from __future__ import annotations

import functools

import numpy as np
from pytensor.compile.ops import DeepCopyOp, ViewOp
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, NominalVariable, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.scalar.basic import Identity, ScalarConstant
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.variable import TensorConstant

from cloudposterior.identity.arrays import digest_bytes
from cloudposterior.identity.folding import Folding
from cloudposterior.identity.ops import op_digest, type_digest
from cloudposterior.identity.walk import Stream, Walk, rule

try:  # immutable inner graphs came with PyTensor 3
    from pytensor.graph.fg import AbstractFunctionGraph as AnyFunctionGraph
except ImportError:
    AnyFunctionGraph = FunctionGraph

__all__ = ["AnyFunctionGraph", "Scope"]


class Scope:
    """A graph whose leaves have a meaning given from outside.

    Parameters
    ----------
    walk : Walk
        The walk it is part of.
    labels : dict
        Digest by ``id`` of variables that stand for themselves: the inputs of an inner graph, the
        named variables of a model. What is computed from is not looked at behind them.
    """

    def __init__(self, walk: Walk, labels: dict[int, bytes] | None = None) -> None:
        self.walk = walk
        self.labels = labels or {}
        self.folding: Folding | None = None
        self._known: dict[int, bytes] = dict(self.labels)
        self._nodes: dict[int, bytes] = {}
        self._roots: dict[int, int] = {}

    def for_held(self) -> Scope:
        """Give a scope for variables that objects hold, such as the parts of a transform.

        PyMC folds the constants in these as well (see `identity.folding`).
        """
        other = Scope(self.walk, self.labels)
        other.folding = Folding(None)
        return other

    def root(self, variable: Variable) -> bytes:
        """Digest what a labelled variable is computed from, instead of its label."""
        if id(variable) not in self.labels:
            return self.digest(variable)
        if variable.owner is None:
            return self._leaf(variable)
        for inner in variable.owner.inputs:
            self.digest(inner)
        return self._computed(variable)

    def digest(self, variable: Variable) -> bytes:
        """Digest a variable with all that it is computed from.

        Parameters
        ----------
        variable : pytensor.graph.basic.Variable
            Any variable, in a graph of any depth.

        Returns
        -------
        bytes
            16 bytes, or the label.
        """
        known = self._known
        stack = [variable]
        while stack:
            top = stack[-1]
            if id(top) in known:
                stack.pop()
            elif top.owner is None:
                known[id(stack.pop())] = self._leaf(top)
                self._folded(top)
            else:
                missing = [v for v in top.owner.inputs if id(v) not in known]
                if missing:
                    stack.extend(reversed(missing))
                else:
                    known[id(stack.pop())] = self._computed(top)
        self.walk.alive.append(variable)
        return known[id(variable)]

    def _computed(self, variable: Variable) -> bytes:
        node = variable.owner
        if _is_view(node):
            # a clone may drop it, and the value is the same
            return self._known[id(node.inputs[0])]
        folded = self._folded(variable)
        if folded is not None:
            return self._number(variable, folded)
        result = self._nodes.get(id(node))
        if result is None:
            parts = [b"node", op_digest(self.walk, node.op)]
            parts += [self._known[id(v)] for v in node.inputs]
            parts.append(b"gives")
            parts += [type_digest(self.walk, v.type) for v in node.outputs]
            result = self._nodes[id(node)] = digest_bytes(*parts)
        if len(node.outputs) == 1:
            return result
        return digest_bytes(result, variable.index.to_bytes(4, "little"))

    def _leaf(self, variable: Variable) -> bytes:
        kind = type_digest(self.walk, variable.type)
        if isinstance(variable, SharedVariable):
            return self._shared(variable, kind)
        if isinstance(variable, NominalVariable):
            return digest_bytes(b"nominal", repr(variable.id).encode(), kind)
        if isinstance(variable, TensorConstant | ScalarConstant):
            return self._number(variable, variable.data)
        if isinstance(variable, Constant):
            return digest_bytes(b"constant", kind, self._value(variable.data))
        number = self._roots.setdefault(id(variable), len(self._roots))
        self.walk.alive.append(variable)
        name = (variable.name or "").encode("utf-8", "surrogatepass")
        return digest_bytes(b"root", name, number.to_bytes(4, "little"), kind)

    def _number(self, variable: Variable, data: np.ndarray | np.generic) -> bytes:
        # dtype and static shape follow from the data
        family = type(variable.type).__name__.encode()
        return digest_bytes(b"number", family, self._value(np.asarray(data)))

    def _folded(self, variable: Variable) -> np.ndarray | np.generic | None:
        return None if self.folding is None else self.folding.value(variable)

    def _shared(self, variable: SharedVariable, kind: bytes) -> bytes:
        if isinstance(variable.type, RandomType):
            return digest_bytes(b"generator", self.walk.first_met(variable), kind)
        if getattr(variable, "default_update", None) is not None:
            raise self.walk.refuse(
                f"the shared variable {variable.name!r} has a default_update: its value changes "
                "with every evaluation, so no key can stand for it"
            )
        return digest_bytes(b"shared", kind, self._value(variable.get_value(borrow=True)))

    def _value(self, value: object) -> bytes:
        return self.walk.digest(value)


def _is_view(node: object) -> bool:
    op = node.op  # type: ignore[attr-defined]
    if isinstance(op, Elemwise):
        return isinstance(op.scalar_op, Identity)
    return type(op) in (ViewOp, DeepCopyOp)


@rule(Variable)
def _variable(obj: Variable, stream: Stream) -> None:
    walk = stream.walk
    if not isinstance(walk.held, Scope):
        walk.held = walk.scope.for_held() if isinstance(walk.scope, Scope) else Scope(walk)
    stream.put(b"variable", walk.held.digest(obj))


@rule(AnyFunctionGraph)
def _function_graph(obj: FunctionGraph, stream: Stream) -> None:
    digest = stream.walk.digest(obj, functools.partial(_put_function_graph, obj), kind="graph")
    stream.put(b"graph", digest)


def _put_function_graph(obj: FunctionGraph, stream: Stream) -> None:
    walk = stream.walk
    kinds = [type_digest(walk, v.type) for v in obj.inputs]
    scope = Scope(
        walk,
        {
            id(v): digest_bytes(b"input", number.to_bytes(4, "little"), kind)
            for number, (v, kind) in enumerate(zip(obj.inputs, kinds, strict=True))
        },
    )
    if isinstance(obj, FunctionGraph):
        scope.folding = Folding(obj)
    stream.put(b"inputs", b"".join(kinds))
    for output in obj.outputs:
        stream.put(b"output", scope.digest(output))
