"""The worker's program: unpack what the client packed, compute the same, and say what differs."""

from __future__ import annotations

import json
import pickle
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from dask.base import tokenize
from pymc.step_methods.state import equal_dataclass_values
from pytensor import config

import cloudposterior  # noqa: F401 - tokens
from cloudposterior.shipping import unpack_arguments, unpack_model
from tests.shipping.measure import INTERPRETED, PLAIN, measure, walk


def compare_model(data: bytes, mode: Any, expected: Any, token: str) -> dict[str, Any]:
    model = unpack_model(data)
    same_token = tokenize(model) == token
    unpack_model(data)  # a second time, to no harm
    found = measure(model, mode)
    return {
        "differ": {
            k: [str(expected[k])[:300], str(found[k])[:300]]
            for k in expected
            if found[k] != expected[k]
        },
        "refused": {k: v for k, v in found.items() if isinstance(v, str) and "Error" in v},
        "same_token": same_token,
    }


def compare_step(packed: bytes, data: bytes, states: Any, expected: Any) -> dict[str, Any]:
    model = unpack_model(packed)
    step = unpack_arguments(data, model)["step"]
    parts = step if isinstance(step, list) else [step]
    held = [v for part in parts for each in getattr(part, "methods", [part]) for v in each.vars]
    state = all(
        equal_dataclass_values(part.sampling_state, state)
        for part, state in zip(parts, states, strict=True)
    )
    return {
        "foreign": [v.name for v in held if all(v is not own for own in model.value_vars)],
        "state": state,
        "draws": [walk(part, model) for part in parts] == expected,
        "of_the_model": all(getattr(part, "_model", model) is model for part in parts),
        "type": [type(part).__name__ for part in parts],
        "extra": [getattr(part, "size", None) for part in parts],
    }


def compare_arguments(packed: bytes, data: bytes) -> dict[str, Any]:
    model = unpack_model(packed)
    found = unpack_arguments(data, model)
    b, s = found["initvals"]
    return {
        "model": found["model"] is model,
        "initvals": b is model["b"] and s is model["s"],
        "expression": found["initvals"][s].owner.inputs[0].owner.inputs[0] is b,
        "value_vars": all(
            x is y for x, y in zip(found["value_vars"], model.value_vars, strict=True)
        ),
        "data": found["data"] is model["x"],
        "mode": model.compile_logp(**found["compile_kwargs"])(model.initial_point()).shape == (),
        "callback": found["callback"](None, None) == 1.5,
        "rng": float(found["rng"].normal()) == float(np.random.default_rng(5).normal()),
        "plain": [found["draws"], found["var_names"], found["idata_kwargs"], found["named_mode"]]
        == [
            10,
            ["b"],
            {"log_likelihood": True, "coords": {"city": ["a"]}},
            {"mode": "FAST_COMPILE"},
        ],
    }


def said(compute: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        return compute(*given) | {"elapsed_s": time.perf_counter() - start}
    except Exception:
        return {"failed": traceback.format_exc()[-2500:]}


def main(path: str) -> None:
    with open(path, "rb") as file:
        models, steps, arguments = pickle.load(file)
    compiled = steps.pop("compiled")
    with config.change_flags(**PLAIN):
        report: dict[str, Any] = {"steps": {"compiled": said(compare_step, *compiled)}}
    with config.change_flags(**INTERPRETED):
        report["models"] = {name: said(compare_model, *each) for name, each in models.items()}
        report["steps"] |= {name: said(compare_step, *each) for name, each in steps.items()}
        report["arguments"] = said(compare_arguments, *arguments)
    print(json.dumps(report))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
