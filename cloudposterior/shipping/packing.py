"""Models and arguments as bytes, and errors that say what could not be sent."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Mapping
from typing import Any

import pymc as pm

from cloudposterior.errors import ShippingError
from cloudposterior.identity.ops import replaced_rules
from cloudposterior.shipping.faults import argument_at_fault, not_arrived, not_sent, part_at_fault
from cloudposterior.shipping.graphs import nodes, roots
from cloudposterior.shipping.pickling import PROTOCOL, Packer, Unpacker
from cloudposterior.shipping.places import Places, find_parts

__all__ = ["pack_arguments", "pack_model", "unpack_arguments", "unpack_model"]

# PyTensor and cloudpickle keep tables that threads share: one thread unpacks at a time.
_unpacking = threading.RLock()


def pack_model(model: pm.Model) -> bytes:
    """Write a model as bytes for another process with the same packages.

    Parameters
    ----------
    model : pymc.Model
        Any model. What was compiled for it stays behind.

    Returns
    -------
    bytes
        A pickle, about as long as the data of the model. Read it only where it comes from one's
        own client: reading a pickle runs what it says.

    Raises
    ------
    ShippingError
        If a part of the model cannot be pickled (the message names the variable), or if a rule of
        PyMC's own was replaced in this process, which a worker would not know of.
    """
    replaced = replaced_rules()
    if replaced:
        raise ShippingError(
            f"{replaced[0][0]} was registered in this process, in place of what the installed "
            "release computes, and workers would compute with the release's. Register it for an "
            "op class of your own, derived from this one, and use that in the model."
        )
    file = io.BytesIO()
    packer = Packer(file)
    try:
        packer.dump((nodes(roots(model)), model))
    except Exception as error:
        part = part_at_fault(model) or ("The model", packer.met)
        raise not_sent(*part, error) from error
    return file.getvalue()


def unpack_model(data: bytes) -> pm.Model:
    """Read what `pack_model` wrote.

    Parameters
    ----------
    data : bytes
        From one's own client only.

    Returns
    -------
    pymc.Model
        A copy of the model. Classes that came with it have their rules registered; a class that
        came before is the same class again.

    Raises
    ------
    ShippingError
        If something is not importable here that was where the model was packed.
    """
    with _unpacking:
        try:
            _order, model = Unpacker(io.BytesIO(data)).load()
        except (ImportError, AttributeError) as error:
            raise not_arrived("The model", error) from error
    return model


def pack_arguments(arguments: Mapping[str, Any], model: pm.Model) -> bytes:
    """Write the arguments of a call on a model as bytes.

    Parameters
    ----------
    arguments : mapping
        By name. Whatever in them belongs to the model is not copied: it will be the worker's
        model's. Step methods are sent with their state, and with the graphs that they compiled.
    model : pymc.Model
        The model of the call.

    Returns
    -------
    bytes
        A pickle, of which the same is to be said as of a model's.

    Raises
    ------
    ShippingError
        If an argument cannot be pickled; the message names it.
    """
    places = Places(model)
    file = io.BytesIO()
    packer = Packer(file, places.number)
    try:
        packer.dump(dict(arguments))
    except Exception as error:
        part = argument_at_fault(arguments, places.ids) or ("The arguments", packer.met)
        raise not_sent(*part, error) from error
    # arguments that have nothing of the model, as most do, fit any
    signature = _signature(model) if places.asked else None
    return pickle.dumps((signature, places.asked, file.getvalue()), PROTOCOL)


def unpack_arguments(data: bytes, model: pm.Model) -> dict[str, Any]:
    """Read what `pack_arguments` wrote.

    Parameters
    ----------
    data : bytes
        From one's own client only.
    model : pymc.Model
        A model equal to the one that the arguments were packed for. What in them belongs to the
        model will be this one's.

    Returns
    -------
    dict
        By name. Step methods are compiled again here, which takes its time.

    Raises
    ------
    ShippingError
        If the arguments refer to parts that this model has not, or something is not importable
        here.
    """
    signature, places, packed = Unpacker(io.BytesIO(data)).load()
    try:
        if signature is not None and signature != _signature(model):
            raise LookupError("other variables")
        parts = find_parts(places, model)
    except LookupError as error:
        raise ShippingError(
            f"These arguments were packed for another model than the one given ({error}): unpack "
            "the model that they were packed with, and give that."
        ) from error
    with _unpacking:
        try:
            arguments: dict[str, Any] = Unpacker(io.BytesIO(packed), parts).load()
        except (ImportError, AttributeError) as error:
            raise not_arrived("An argument", error) from error
    return arguments


def _signature(model: pm.Model) -> list[tuple[str, str]]:
    """Give what tells most models that are not equal; lengths may differ in those that are."""
    return [
        (str(name), f"{getattr(v.type, 'dtype', '')} {getattr(v.type, 'ndim', '')}")
        for name, v in model.named_vars.items()
    ]
