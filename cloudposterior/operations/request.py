"""A request: a call with everything that its result depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import pymc as pm
from dask.base import tokenize

from cloudposterior.identity.manifest import Manifest, Option, describe
from cloudposterior.identity.model import Component

__all__ = ["OPERATION", "Request", "make_request"]

OPERATION = "operation"
"""The option that names what is not `pymc.sample`."""


@dataclass(frozen=True)
class Request:
    """What is looked up, and the name under which it is kept.

    Attributes
    ----------
    token : str
        32 hex digits; two requests share it only if their results cannot differ.
    model_name : str
        Name of the directory that entries of this model share.
    label : str
        The readable parameters, e.g. ``"draws1000_tune1000_chains4"``.
    versions : mapping of str to str
        Version by distribution.
    manifest : callable
        Makes the manifest, which only saving and explaining need.
    """

    token: str
    model_name: str
    label: str
    versions: Mapping[str, str]
    manifest: Callable[[], Manifest]


class _Call(Protocol):
    name: str
    model: pm.Model


def make_request(
    call: _Call,
    parts: list[Component],
    options: tuple[Option, ...],
    versions: Mapping[str, str],
    label: str,
) -> Request:
    """Make the request of a call.

    Parameters
    ----------
    call : object
        The operation, with its ``name`` and its ``model``.
    parts : list of Component
        The model, taken apart.
    options : tuple of Option
        What of the call its result depends on.
    versions : mapping of str to str
        Version by distribution.
    label : str
        The readable parameters.

    Returns
    -------
    Request
        With its token.
    """
    token = tokenize(
        ["cloudposterior", call.name],
        [part.digest().hex() for part in parts],
        [[option.name, option.digest] for option in options],
        sorted([name, version] for name, version in versions.items()),
    )
    name = call.model.name or _made_up_name(call.model)
    return Request(
        token, name, label, versions, lambda: describe(call.model, parts, options, versions)
    )


def _made_up_name(model: pm.Model) -> str:
    """Name an unnamed model after its free variables."""
    return "-".join(str(rv.name) for rv in model.free_RVs) or "model"
