"""What a model is: from its graph to a token that changes whenever a result could."""

from __future__ import annotations

# whole, and first: its modules do not wait for another thread that is halfway through
import pymc  # noqa: F401

from cloudposterior.identity import classes, functions, graph, objects, ops, tables
from cloudposterior.identity.model import AnyModel, Component, components, model_digest, model_walk
from cloudposterior.identity.registration import register

__all__ = [
    "AnyModel",
    "Component",
    "classes",
    "components",
    "functions",
    "graph",
    "model_digest",
    "model_walk",
    "objects",
    "ops",
    "register",
    "tables",
]

register()
