"""Where in a model a part of it is, said so that it is found in every equal model.

Equal models need not have equally many nodes: what one computes once and uses twice, another
computes twice, and nodes that only hand a value on count for nothing. So a part is not known by
its position among all, but by the way to it from a named variable: through which inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pymc as pm
from pytensor.compile.ops import DeepCopyOp, ViewOp
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.scalar.basic import Identity
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.random.type import RandomType

from cloudposterior.shipping.graphs import Step, named_parts

__all__ = ["Place", "Places", "find_parts"]

Place = tuple[int | None, Step]
"""The last step to a part, after the number of the place that it is made from; None: the model."""


class Places:
    """The places of the parts of a model, written down as they are asked for.

    Parameters
    ----------
    model : pymc.Model
        Any model.

    Attributes
    ----------
    asked : list of Place
        Those that were asked for, each after the one that it is reached from.
    """

    def __init__(self, model: pm.Model) -> None:
        self.asked: list[Place] = []
        self._numbers: dict[int, int] = {}
        # with the part itself: an id is good for as long as its object is
        self._steps: dict[int, tuple[object, int | None, Step]] = {}
        for step, part in named_parts(model):
            self._steps.setdefault(id(part), (part, None, step))
        queue = [part for part, *_ in self._steps.values() if isinstance(part, Variable)]
        for variable in queue:  # which grows
            for step, part in _parts_of(variable):
                if id(part) not in self._steps:
                    self._steps[id(part)] = part, id(variable), step
                    if isinstance(part, Variable):
                        queue.append(part)

    @property
    def ids(self) -> Collection[int]:
        """The ids of all parts."""
        return self._steps.keys()

    def number(self, obj: object) -> int | None:
        """Give the number of a part's place among `asked`; None for what is no part."""
        if id(obj) not in self._steps:
            return None
        way: list[int] = []
        at: int | None = id(obj)
        while at is not None and at not in self._numbers:
            way.append(at)
            at = self._steps[at][1]
        for each in reversed(way):
            _, origin, step = self._steps[each]
            self._numbers[each] = len(self.asked)
            self.asked.append((None if origin is None else self._numbers[origin], step))
        return self._numbers[id(obj)]


def find_parts(places: Sequence[Place], model: pm.Model) -> list[Any]:
    """Find parts of a model.

    Parameters
    ----------
    places : sequence of Place
        As `Places` wrote them down, of an equal model.
    model : pymc.Model
        The model.

    Returns
    -------
    list
        One part for each place.

    Raises
    ------
    LookupError
        If the model has no such place, so that it is no equal one.
    """
    named = dict(named_parts(model)) if places else {}
    parts: list[Any] = []
    for origin, step in places:
        parts.append(named[step] if origin is None else _follow(parts[origin], step))
    return parts


def _parts_of(variable: Variable) -> Iterator[tuple[Step, object]]:
    """Give what is found from a variable by one step."""
    node = variable.owner
    if isinstance(variable, SharedVariable | Constant):
        yield from ((step, part) for step in _HELD if (part := _held(variable, step)) is not None)
    elif node is not None and _is_view(node):
        yield ("behind", 0), node.inputs[0]
    elif node is not None:
        yield from ((("input", i), part) for i, part in enumerate(node.inputs))
        yield from ((("output", i), part) for i, part in enumerate(node.outputs))


def _follow(part: Any, step: Step) -> Any:
    kind, number = step
    # an equal model may have nodes here that only hand the value on
    while part.owner is not None and _is_view(part.owner):
        part = part.owner.inputs[0]
    if kind == "behind":
        return part
    if step in _HELD:
        found = _held(part, step)
    elif part.owner is not None:
        found = (part.owner.inputs if kind == "input" else part.owner.outputs)[number]
    else:
        found = None
    if found is None:
        raise LookupError(f"{part} has no {kind} {number}")
    return found


_HELD: tuple[Step, ...] = (("container", 0), ("storage", 0), ("data", 0))


def _held(variable: Variable, step: Step) -> object | None:
    """Give what a leaf of the graph holds.

    A compiled function has the storage of its shared variables, which must not become two, and
    constants, which may be large. Of random generators it has its own: their state moves, and
    what it was on the client counts.
    """
    held: dict[str, object] = {}
    if isinstance(variable, Constant):
        held = {"data": variable.data}
    elif isinstance(variable, SharedVariable) and not isinstance(variable.type, RandomType):
        container = variable.container
        storage = container.storage
        held = {"container": container, "storage": storage, "data": storage[0]}
    found = held.get(step[0])
    # a number that Python keeps one of may be anybody's
    return None if step[0] == "data" and not isinstance(found, np.ndarray) else found


def _is_view(node: Any) -> bool:
    """Tell whether a node is one that tokens do not see (`identity.graph`)."""
    if isinstance(node.op, Elemwise):
        return isinstance(node.op.scalar_op, Identity)
    return type(node.op) in (ViewOp, DeepCopyOp)
