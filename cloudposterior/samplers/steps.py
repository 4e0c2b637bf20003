"""How PyMC's step methods are written into a token: what they were made with, and their state.

The functions that a step compiles follow from the model; its random generator is set anew for each
chain. What is left are the arguments of its constructor and its `sampling_state`, which PyMC made
to continue a chain elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pymc.step_methods.compound import BlockedStep, CompoundStep

from cloudposterior.identity.walk import Stream, rule

__all__: list[str] = []

_SET_FOR_EACH_CHAIN = {"rng", "random_seed"}
_PLAIN = (bool, int, float, complex, str, type(None), np.ndarray, np.generic)


@rule(CompoundStep)
def _compound(obj: CompoundStep, stream: Stream) -> None:
    stream.put(b"compound step")
    stream.write(type(obj))
    stream.write(list(obj.methods))


@rule(BlockedStep)
def _step(obj: BlockedStep, stream: Stream) -> None:
    stream.put(b"step")
    stream.write(type(obj))
    arguments, keywords = obj.__getnewargs_ex__()
    stream.write(list(arguments))
    stream.write({k: v for k, v in sorted(keywords.items()) if k not in _SET_FOR_EACH_CHAIN})
    stream.write(dict(_state(obj.sampling_state)))
    stream.write({name: value for name, value in sorted(vars(obj).items()) if _is_plain(value)})


def _state(state: Any) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(vars(state).items()):
        if name not in _SET_FOR_EACH_CHAIN:
            yield name, dict(_state(value)) if hasattr(value, "__dataclass_fields__") else value


def _is_plain(value: object) -> bool:
    return isinstance(value, _PLAIN)
