"""Say which part of a model or of a call could not be sent, or did not arrive."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from typing import Any

import pymc as pm
from pytensor.graph.basic import Variable

from cloudposterior.errors import ShippingError
from cloudposterior.shipping.graphs import nodes
from cloudposterior.shipping.pickling import Packer

__all__ = ["argument_at_fault", "not_arrived", "not_sent", "part_at_fault"]

Part = tuple[str, object]
"""A part in words, and the object in it that could not be pickled."""


def part_at_fault(model: pm.Model) -> Part | None:
    """Find the first part of a model that cannot be pickled.

    Parameters
    ----------
    model : pymc.Model
        A model that could not be packed.

    Returns
    -------
    (str, object) or None
        The part in words and what is in it; None if every part alone can be pickled.
    """
    named = list(model.named_vars.values())
    for name, variable in model.named_vars.items():
        others = {id(part) for part in (model, *named) if part is not variable}
        own = [
            variable,
            model.rvs_to_values.get(variable),
            model.rvs_to_initial_values.get(variable),
            model.rvs_to_transforms.get(variable),
        ]
        met = _refused(own, others)
        if met is not None:
            return f"Variable {name!r} of the model", met
    for attribute, value in vars(model).items():
        met = _refused([value], {id(part) for part in (model, *named)})
        if met is not None:
            return f"Attribute {attribute!r} of the model", met
    return None


def argument_at_fault(arguments: Mapping[str, Any], held: Collection[int]) -> Part | None:
    """Find the first argument that cannot be pickled.

    Parameters
    ----------
    arguments : mapping
        By name.
    held : collection of int
        Ids of what the reader has.

    Returns
    -------
    (str, object) or None
        As `part_at_fault`.
    """
    for name, value in arguments.items():
        met = _refused([value], held)
        if met is not None:
            return f"Argument {name!r}", met
    return None


def _refused(parts: list[Any], held: Collection[int]) -> object | None:
    """Give the object at which pickling fails."""
    packer = Packer(io.BytesIO(), lambda obj: 0 if id(obj) in held else None)
    variables = [part for part in parts if isinstance(part, Variable)]
    try:
        packer.dump((nodes(variables, stop=held), parts))
    except Exception:  # noqa: BLE001 - that it fails is known, and where is asked
        return packer.met
    return None


def not_sent(part: str, met: object, error: Exception) -> ShippingError:
    """Make the error of what could not be packed.

    Parameters
    ----------
    part : str
        What it is a part of, in words.
    met : object
        The object at fault.
    error : Exception
        What pickle said.

    Returns
    -------
    ShippingError
        To be raised from the error.
    """
    cls = met if isinstance(met, type) else type(met)
    what = "the class" if cls is met else "an object of class"
    return ShippingError(
        f"{part} cannot be sent to a worker: it holds {what} "
        f"{cls.__module__}.{cls.__qualname__}, which cannot be pickled ({error}). Locks, open "
        "files, connections and the like belong to one process: make such an object inside of "
        "the function that uses it, or give its class a `__reduce__` that makes it again."
    )


def not_arrived(part: str, error: ImportError | AttributeError) -> ShippingError:
    """Make the error of what could not be unpacked for want of a module.

    Parameters
    ----------
    part : str
        What was unpacked, in words.
    error : ImportError or AttributeError
        What importing said.

    Returns
    -------
    ShippingError
        To be raised from the error.
    """
    if isinstance(error, ImportError):
        what = f"module {error.name!r} cannot be imported here"
    else:
        what = "a module here lacks what it has on the client, so it may be of another version"
    return ShippingError(
        f"{part} cannot be unpacked on this worker: {what} ({error}). Install the module on the "
        "workers, or, if it is a file of your own, send it with `client.upload_file(...)`."
    )
