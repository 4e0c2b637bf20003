"""How a PyMC model is written: component by component, in the order they were defined.

A component stands for one named variable, dimension or order. In its graph the other named
variables of the model stand as names only, so a component changes when its own definition does,
and the difference of two models can be told from their components.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
from pytensor.graph.basic import Variable
from pytensor.tensor.variable import TensorVariable

from cloudposterior.identity.arrays import digest_bytes
from cloudposterior.identity.graph import Scope
from cloudposterior.identity.ops import replaced_rules
from cloudposterior.identity.walk import Stream, Walk, rule

__all__ = [
    "MODEL_FIELDS",
    "AnyModel",
    "Component",
    "components",
    "model_digest",
    "model_walk",
    "token_of",
    "tokens_of",
    "without_data",
]

# Every attribute of a model, on both generations of PyMC; a test fails when PyMC adds one. What is
# not listed was put there by a subclass or by the user, and is walked as it is.
MODEL_FIELDS = {
    "name",
    "check_bounds",
    "named_vars",
    "named_vars_to_dims",
    "rvs_to_values",
    "values_to_rvs",
    "rvs_to_transforms",
    "rvs_to_initial_values",
    "free_RVs",
    "observed_RVs",
    "deterministics",
    "potentials",
    "data_vars",
    "_coords",
    "_dim_lengths",
    # not part of what is sampled: the way up, and functions that print
    "_parent",
    "str_repr",
    "_repr_latex_",
    "_pytensor_config",
    # compiled functions of a frozen model
    "_cache",
}
AnyModel: type = getattr(pm.model.core, "BaseModel", pm.Model)
"""What models of both generations have in common; newer PyMC also has a `FrozenModel`."""

_ORDERS = ("free_RVs", "observed_RVs", "deterministics", "potentials", "data_vars")


@dataclass(frozen=True)
class Component:
    """One part of a model that can change by itself.

    Attributes
    ----------
    kind : str
        ``"free"``, ``"observed"``, ``"deterministic"``, ``"potential"``, ``"data"``, ``"coord"``,
        ``"order"`` or ``"model"``.
    name : str
        The variable or dimension.
    aspects : tuple of (str, bytes)
        What of it, with a digest of 16 bytes each: ``graph``, ``dims``, ``value``...
    """

    kind: str
    name: str
    aspects: tuple[tuple[str, bytes], ...]

    def digest(self) -> bytes:
        """Digest the whole component."""
        parts = [self.kind.encode(), self.name.encode("utf-8", "surrogatepass")]
        for aspect, digest in self.aspects:
            parts += [aspect.encode(), digest]
        return digest_bytes(*parts)


def model_walk(model: pm.Model) -> Walk:
    """Start a walk in which this model's variables are known by their names."""
    walk = Walk()
    walk.models.append(model)
    walk.scope = Scope(walk, _labels(model))
    return walk


def _labels(model: pm.Model) -> dict[int, bytes]:
    labels: dict[int, bytes] = {}
    for name, variable in model.named_vars.items():
        labels.setdefault(id(variable), digest_bytes(b"variable", _text(name)))
    for rv, value in model.rvs_to_values.items():
        if value.owner is None and isinstance(value, TensorVariable) and not _is_data(value):
            labels.setdefault(id(value), digest_bytes(b"value of", _text(rv.name or "")))
    return labels


def _is_data(variable: Variable) -> bool:
    return hasattr(variable, "data") or hasattr(variable, "get_value")


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def components(model: pm.Model, walk: Walk | None = None) -> list[Component]:
    """Take a model apart into its components.

    Parameters
    ----------
    model : pymc.Model
        Any model.
    walk : Walk, optional
        A walk from `model_walk` to go on with; None starts one.

    Returns
    -------
    list of Component
        In the order of definition, which the draws of a seed depend on.

    Raises
    ------
    TokenError
        When a part has no readable value.
    """
    walk = walk or model_walk(model)
    scope = walk.scope
    assert isinstance(scope, Scope)
    parts = [_whole(model, walk)]
    kinds = _kinds(model)
    for name, variable in model.named_vars.items():
        walk.begin(name)
        with walk.at(f"{name!r}"):
            kind = kinds.get(id(variable), "other")
            aspects = tuple(_aspects(model, name, variable, walk, scope))
            parts.append(Component(kind, name, aspects))
    parts += _coords(model, walk, scope)
    parts += [_order(model, field) for field in _ORDERS]
    return parts


def _whole(model: pm.Model, walk: Walk) -> Component:
    # a model also has its variables as attributes, by their names without its own
    variables = {id(variable) for variable in model.named_vars.values()}
    extras = {
        name: value
        for name, value in sorted(vars(model).items())
        if name not in MODEL_FIELDS and id(value) not in variables
    }
    with walk.at("attributes of the model"):
        settings = walk.value(
            (type(model), model.name, bool(model.check_bounds), extras, replaced_rules())
        )
    return Component("model", "", (("settings", settings),))


def _kinds(model: pm.Model) -> dict[int, str]:
    kinds = {}
    for field, kind in zip(
        _ORDERS, ("free", "observed", "deterministic", "potential", "data"), strict=True
    ):
        kinds.update({id(variable): kind for variable in getattr(model, field)})
    return kinds


def _aspects(
    model: pm.Model, name: str, variable: Variable, walk: Walk, scope: Scope
) -> Iterator[tuple[str, bytes]]:
    yield "graph", scope.root(variable)
    yield "dims", walk.value(model.named_vars_to_dims.get(name))
    if variable in model.rvs_to_values:
        value = model.rvs_to_values[variable]
        with walk.at("value"):
            yield "value", digest_bytes(_text(value.name or ""), scope.root(value))
    if variable in model.rvs_to_transforms:
        with walk.at("transform"):
            yield "transform", walk.value(model.rvs_to_transforms[variable])
    if variable in model.rvs_to_initial_values:
        with walk.at("initial value"):
            yield "initval", walk.value(model.rvs_to_initial_values[variable])


def _coords(model: pm.Model, walk: Walk, scope: Scope) -> Iterator[Component]:
    for dim, values in model._coords.items():
        # no variable has such a name
        walk.begin(f"\0dim {dim}")
        with walk.at(f"coord {dim!r}"):
            length = model._dim_lengths.get(dim)
            aspects = [("values", _coord_digest(walk, values))]
            if length is not None:
                aspects.append(("length", _length(length, scope, walk)))
            yield Component("coord", dim, tuple(aspects))


def _length(length: object, scope: Scope, walk: Walk) -> bytes:
    return scope.digest(length) if isinstance(length, Variable) else walk.value(length)


# What the array of a result's coordinate holds, whether it was given as Python's or numpy's.
_COORD_DTYPES = {int: np.dtype("i8"), float: np.dtype("f8"), bool: np.dtype("?")}


def _coord_digest(walk: Walk, values: object) -> bytes:
    """Digest coordinate values, which come as a tuple that may be a million long.

    Those of one type go through a typed array.
    """
    listed: tuple[Any, ...] = values if isinstance(values, tuple) else ()
    kinds = set(map(type, listed))
    kind = kinds.pop() if len(kinds) == 1 else type(None)
    if issubclass(kind, str):
        # an array of objects: one of text drops trailing NULs
        return walk.value(np.array([*map(str, listed), None], dtype=object)[:-1])
    dtype = _COORD_DTYPES.get(kind)
    if issubclass(kind, np.datetime64 | np.timedelta64):
        # each has a unit of its own, and an array would convert them to one
        units = {value.dtype for value in listed}
        dtype = units.pop() if len(units) == 1 else None
    elif issubclass(kind, np.number | np.bool_):
        dtype = np.dtype(kind)
    if dtype is not None:
        try:
            return walk.value(np.fromiter(listed, dtype, len(listed)))
        except OverflowError:  # integers beyond 64 bits
            pass
    return walk.value(values)


def _order(model: pm.Model, field: str) -> Component:
    names = [_text(v.name or "") for v in getattr(model, field)]
    return Component("order", field, (("names", digest_bytes(*names)),))


def token_of(parts: list[Component]) -> str:
    """Give 32 hex digits for a model that was taken apart."""
    return digest_bytes(b"model", *(part.digest() for part in parts)).hex()


def tokens_of(model: pm.Model) -> tuple[str, str]:
    """Give the tokens of a model with and without the values of its `pymc.Data`.

    A model that has none gets tokens that no other has.
    """
    try:
        parts = components(model, model_walk(model))
    except Exception:  # noqa: BLE001  (why there is none has been said where it counts)
        return (uuid.uuid4().hex,) * 2
    return token_of(parts), token_of(without_data(model, parts))


def without_data(model: pm.Model, parts: list[Component]) -> list[Component]:
    """Put kind and shape in the place of the values of `pymc.Data`, which can change by themselves.

    Parameters
    ----------
    model : pymc.Model
        The model.
    parts : list of Component
        Its components.

    Returns
    -------
    list of Component
        Equal for two models whose compiled functions are the same.
    """
    return [_without_values(model, part) for part in parts]


def _without_values(model: pm.Model, part: Component) -> Component:
    variable = model.named_vars.get(part.name)
    aspects = dict(part.aspects)
    if part.kind == "data" and hasattr(variable, "set_value"):
        value = np.asarray(variable.get_value(borrow=True))
        aspects["graph"] = digest_bytes(_text(str(value.dtype)), _text(str(value.shape)))
    elif part.kind == "observed" and (data := _observed_data(model, variable)) is not None:
        # what it is observed as has a component of its own
        aspects["value"] = digest_bytes(b"data", _text(data))
    return Component(part.kind, part.name, tuple(aspects.items()))


def _observed_data(model: pm.Model, variable: Variable) -> str | None:
    """Name the `pymc.Data` that a variable is observed as; None where it is something else."""
    value = model.rvs_to_values.get(variable)
    named = (data for data in model.data_vars if data is value and hasattr(data, "set_value"))
    return next((str(data.name) for data in named), None)


def model_digest(model: pm.Model, walk: Walk | None = None) -> bytes:
    """Digest a whole model.

    Parameters
    ----------
    model : pymc.Model
        Any model.
    walk : Walk, optional
        As for `components`.

    Returns
    -------
    bytes
        16 bytes.
    """
    return bytes.fromhex(token_of(components(model, walk)))


@rule(AnyModel)
def _model(obj: pm.Model, stream: Stream) -> None:
    walk = stream.walk
    for position, model in enumerate(walk.models):
        if model is obj:
            # a function of the model that reads the model
            stream.text(b"this model", str(position))
            return
    inner = model_walk(obj)
    inner.models = [*walk.models, obj]
    inner.trail = walk.trail
    stream.put(b"model", model_digest(obj, inner))
