"""How PyMC's step methods are written into a token: what they were made with, and all they hold.

The functions that a step compiles follow from the model, and its random generator is set anew for
each chain; both are left out. What is left are the arguments of its constructor, its attributes,
and its `sampling_state`, which PyMC made to continue a chain elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pymc.model.core import ValueGradFunction
from pymc.pytensorf import PointFunc
from pymc.step_methods.compound import BlockedStep, CompoundStep
from pymc.step_methods.hmc.integration import CpuLeapfrogIntegrator
from pymc.step_methods.hmc.quadpotential import QuadPotential
from pytensor.compile import Function

from cloudposterior.identity.walk import Stream, rule

__all__: list[str] = []

_SET_FOR_EACH_CHAIN = {"rng", "random_seed"}
_COMPILED = (Function, PointFunc, ValueGradFunction, CpuLeapfrogIntegrator, np.random.Generator)


@rule(CompoundStep)
def _compound(obj: CompoundStep, stream: Stream) -> None:
    stream.put(b"compound step")
    stream.write(type(obj))
    stream.write(dict(_held(obj)))


@rule(BlockedStep)
def _step(obj: BlockedStep, stream: Stream) -> None:
    stream.put(b"step")
    stream.write(type(obj))
    arguments, keywords = obj.__getnewargs_ex__()
    stream.write(list(arguments))
    stream.write({k: v for k, v in sorted(keywords.items()) if k not in _SET_FOR_EACH_CHAIN})
    stream.write(dict(_state(obj.sampling_state)))
    stream.write(dict(_held(obj)))


@rule(QuadPotential)
def _potential(obj: QuadPotential, stream: Stream) -> None:
    stream.put(b"potential")
    stream.write(type(obj))
    stream.write(dict(_held(obj)))


def _state(state: Any) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(vars(state).items()):
        if name not in _SET_FOR_EACH_CHAIN:
            yield name, dict(_state(value)) if hasattr(value, "__dataclass_fields__") else value


def _held(obj: object) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(vars(obj).items()):
        # the arguments of the constructor are written apart
        if name != "_BlockedStep__newargs" and not _is_compiled(value):
            yield name, value


def _is_compiled(value: object) -> bool:
    if isinstance(value, list | tuple) and value:
        return all(isinstance(item, _COMPILED) for item in value)
    return isinstance(value, _COMPILED)
