"""What is written down of a request, so that a later one can be told why it differs.

The token says only whether two requests are the same. The manifest keeps, for each component of
the model and each option, its digest and enough to say in words what changed: numbers as they
are, arrays as a sketch of a few bytes for each value.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pymc as pm
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.random.type import RandomType

from cloudposterior.identity.folding import constant_value
from cloudposterior.identity.model import Component

__all__ = ["Option", "describe", "sketch"]

Manifest = dict[str, Any]
_SKETCHED_VALUES = 4096
_SHOWN_VALUES = 4


@dataclass(frozen=True)
class Option:
    """One argument of a call that its result depends on.

    Attributes
    ----------
    name : str
        Name of the argument.
    digest : str
        Hex digits.
    text : str
        The value for a person to read; shortened where it is long.
    """

    name: str
    digest: str
    text: str


def describe(
    model: pm.Model,
    parts: list[Component],
    options: tuple[Option, ...],
    versions: Mapping[str, str],
) -> Manifest:
    """Write down what a request was made of.

    Parameters
    ----------
    model : pymc.Model
        The model.
    parts : list of Component
        Its components.
    options : tuple of Option
        What of the call its result depends on.
    versions : mapping of str to str
        Version by distribution.

    Returns
    -------
    dict
        Values that JSON can hold.
    """
    return {
        "components": [_component(model, part) for part in parts],
        "options": {option.name: asdict(option) for option in options},
        "versions": dict(versions),
    }


def _component(model: pm.Model, part: Component) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": part.kind,
        "name": part.name,
        "aspects": {aspect: digest.hex() for aspect, digest in part.aspects},
    }
    variable = model.named_vars.get(part.name)
    if part.kind == "coord":
        row["values"] = _coord(model, part.name)
    elif part.kind in ("order", "model"):
        row["names"] = [v.name for v in getattr(model, part.name)] if part.name else []
    elif variable is not None:
        row.update(_variable(model, variable))
    return row


def _coord(model: pm.Model, dim: str) -> dict[str, Any] | None:
    values = model._coords.get(dim)
    if values is None:
        return None
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return sketch(array)


def _variable(model: pm.Model, variable: Variable) -> dict[str, Any]:
    row: dict[str, Any] = {}
    named = {id(v) for v in model.named_vars.values()} - {id(variable)}
    if isinstance(variable, SharedVariable):
        row["data"] = _leaf(variable)
        return row
    if variable in model.rvs_to_values:
        row["parameters"] = dict(_parameters(model, variable))
        row["distribution"] = _distribution_name(variable)
        value = model.rvs_to_values[variable]
        row["observed"] = next(iter(_arrays(value, named)), None)
    parameters = variable.owner.inputs if row and variable.owner is not None else []
    named |= {id(v) for v in parameters if v.owner is None}
    row["constants"] = list(_arrays(variable, named))
    return row


def _distribution_name(variable: Variable) -> str:
    op = variable.owner.op if variable.owner else None
    name = getattr(op, "_print_name", None) or (type(op).__name__.removesuffix("RV"),)
    return str(name[0])


def _parameters(model: pm.Model, variable: Variable) -> Iterator[tuple[str, Any]]:
    """Name the parameters of a distribution as its `logp` does, with what they are."""
    node = variable.owner
    if node is None or not hasattr(node.op, "dist_params"):
        return
    inputs = node.op.dist_params(node)
    names = _parameter_names(type(node.op), len(inputs))
    for name, value in zip(names, inputs, strict=True):
        yield name, _parameter(model, value)


def _parameter_names(op_class: type, count: int) -> list[str]:
    for candidate in vars(pm).values():
        if getattr(candidate, "rv_type", None) is op_class and hasattr(candidate, "logp"):
            names = list(inspect.signature(candidate.logp).parameters)[1:]
            if len(names) == count:
                return names
    return [f"parameter {number + 1}" for number in range(count)]


def _parameter(model: pm.Model, value: Variable) -> Any:
    while value.owner is not None and not _is_named(model, value) and _is_reshaped(value):
        value = value.owner.inputs[0]
    if _is_named(model, value):
        return {"text": value.name}
    constant = constant_value(value)
    return sketch(constant) if constant is not None else _leaf(value) or {"text": "an expression"}


def _is_named(model: pm.Model, value: Variable) -> bool:
    return model.named_vars.get(value.name) is value


def _is_reshaped(value: Variable) -> bool:
    return isinstance(value.owner.op, DimShuffle | Alloc)


def _arrays(variable: Variable, named: set[int]) -> Iterator[dict[str, Any]]:
    """Sketch the constants that a variable is computed from, down to the next named variables."""
    seen: set[int] = set()
    stack = [variable]
    while stack:
        top = stack.pop()
        if id(top) in seen or (id(top) in named and top is not variable):
            continue
        seen.add(id(top))
        if top.owner is not None:
            stack.extend(reversed(top.owner.inputs))
            continue
        leaf = _leaf(top)
        if leaf is not None:
            yield leaf


def _leaf(variable: Variable) -> dict[str, Any] | None:
    if isinstance(variable, SharedVariable) and not isinstance(variable.type, RandomType):
        value = variable.get_value(borrow=True)
    elif isinstance(variable, Constant):
        value = variable.data
    else:
        return None
    return sketch(value) if isinstance(value, np.ndarray | np.generic | int | float) else None


def sketch(value: Any) -> dict[str, Any]:
    """Sketch an array so that two sketches tell how many values differ.

    Parameters
    ----------
    value : array_like
        Any shape.

    Returns
    -------
    dict
        ``shape``, ``dtype``, ``text`` (the values, if few), and ``marks``: two bytes for each
        value, or for each of 4096 blocks of a larger array, in base64.
    """
    array = np.asarray(value)
    text = ", ".join(_shown(item) for item in array.ravel()[:_SHOWN_VALUES].tolist())
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "text": text if array.size <= _SHOWN_VALUES else "",
        "marks": base64.b64encode(_marks(array.ravel()).tobytes()).decode(),
    }


def _shown(item: Any) -> str:
    return repr(item).removesuffix(".0") if isinstance(item, float) else str(item)


def _marks(flat: np.ndarray) -> np.ndarray:
    if flat.size > _SKETCHED_VALUES:
        blocks = [
            _mark(block.tobytes()) for block in np.array_split(_bytes(flat), _SKETCHED_VALUES)
        ]
        return np.array(blocks, dtype="<u2")
    marks = (_mark(repr(item).encode()) for item in flat.tolist())
    return np.fromiter(marks, dtype="<u2", count=flat.size)


def _bytes(flat: np.ndarray) -> np.ndarray:
    if not flat.dtype.hasobject:
        return np.ascontiguousarray(flat)
    return np.array([_mark(repr(item).encode()) for item in flat.tolist()], dtype="<u2")


def _mark(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=2).digest(), "little")
