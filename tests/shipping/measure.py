"""What a model computes, measured in the same way on the client and on the worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
from pytensor.compile.mode import Mode

# Compiling by C or numba takes seconds a model: the rest goes by Python.
PYTHON = Mode(linker="py", optimizer="fast_run")
PLAIN = {"numba__fastmath": False}
INTERPRETED = {"linker": "py", **PLAIN}
NO_RULE = (NotImplementedError, ValueError, AttributeError, TypeError)


def measure(model: pm.Model, mode: Any = PYTHON) -> dict[str, Any]:
    """Everything that is to be equal bit for bit."""
    point = model.initial_point(random_seed=1)
    found: dict[str, Any] = {
        "names": [*model.named_vars],
        "order": [v.name for v in (*model.free_RVs, *model.observed_RVs, *model.value_vars)],
        "dims": repr(model.named_vars_to_dims),
        "coords": repr({k: (v, type(v[0]) if v else None) for k, v in model.coords.items()}),
        "point": bits(point),
        "logp": bits(model.compile_logp(mode=mode, random_seed=1)(point)),
        "gradient": attempt(lambda: model.compile_dlogp(mode=mode, random_seed=1)(point)),
        "transforms": [type(t).__name__ for t in model.rvs_to_transforms.values()],
    }
    drawn = [*model.basic_RVs, *model.deterministics]
    found["draws"] = attempt(lambda: pm.draw(drawn, draws=2, random_seed=1, mode=mode))
    return found


def attempt(compute: Callable[[], Any]) -> Any:
    """Give a result as bits, or which error there was."""
    try:
        return bits(compute())
    except NO_RULE as error:
        return type(error).__name__
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]


def bits(value: Any) -> Any:
    """Give what distinguishes two results."""
    if isinstance(value, dict):
        return {name: bits(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [bits(each) for each in value]
    array = np.asarray(value)
    return f"{array.dtype} {array.shape} {array.tobytes().hex()}"


def walk(step: Any, model: pm.Model, draws: int = 12) -> Any:
    """Step from the initial point with a given generator."""
    rng = np.random.default_rng(3)
    if hasattr(step, "setup_chain"):
        step.setup_chain(rng, 100, 100)
    else:
        step.set_rng(rng)
    point, drawn = model.initial_point(random_seed=1), []
    for _ in range(draws):
        point, _stats = step.step(point)
        drawn.append(bits(point))
    return drawn
