"""The registrations that make `dask.base.tokenize` read PyMC models and PyTensor graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymc as pm
from dask.base import normalize_token
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.type import Type

from cloudposterior.identity.graph import AnyFunctionGraph
from cloudposterior.identity.model import AnyModel, model_digest
from cloudposterior.identity.walk import Walk

__all__ = ["register"]


def _normalize_model(model: pm.Model) -> tuple[str, str]:
    return "pymc.Model", model_digest(model).hex()


def _normalize_part(part: object) -> tuple[str, str]:
    return "pytensor", Walk().value(part).hex()


def _normalize_apply(node: Apply) -> tuple[str, list[tuple[str, str]]]:
    return "pytensor.Apply", [_normalize_part(v) for v in node.outputs]


def register() -> None:
    """Register how Dask makes tokens of PyMC models and of PyTensor variables, graphs and ops.

    Dask remembers for each class what it found for it, so a subclass that was tokenized before
    would keep its old way: subclasses that exist are registered one by one.
    """
    for base, function in (
        (AnyModel, _normalize_model),
        (Variable, _normalize_part),
        (Op, _normalize_part),
        (Type, _normalize_part),
        (AnyFunctionGraph, _normalize_part),
        (Apply, _normalize_apply),
    ):
        for cls in _family(base):
            normalize_token.register(cls, function)


def _family(base: Any) -> Iterator[Any]:
    yield base
    for cls in type.__subclasses__(base):
        yield from _family(cls)
