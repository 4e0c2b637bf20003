"""Nodes of library ops: their parameters, the order of their inputs, and inner graphs of scans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.gradient
import pytensor.tensor as pt
from pytensor.scan.basic import scan

from tests.battery.pairs import Pair, changed, contrast, vary

try:
    from pytensor.conditional.op import ifelse
except ImportError:  # PyTensor 2, which PyMC 5 needs
    from pytensor.ifelse import ifelse

INDEX = np.arange(12) % 3
TARGETS = np.linspace(0.0, 1.0, 3000)


def computing(function: Callable[[pt.TensorVariable], Any]) -> pm.Model:
    """A model that sums up what the function makes of a cube of random variables."""
    with pm.Model() as model:
        x = pm.Normal("x", shape=(3, 3, 3))
        pm.Potential("p", pt.sum(pt.cast(function(x), "float64")))
    return model


def scanning(
    decay: float = 0.5,
    n_steps: int = 4,
    start: float = 0.0,
    sequence: Any = None,
    non_sequence: float = 1.0,
    backwards: bool = False,
    truncate: int = -1,
    subtract: bool = False,
) -> pm.Model:
    """A recurrence with an input at every step and a parameter."""
    sequence = TARGETS if sequence is None else sequence
    with pm.Model() as model:
        a = pm.Normal("a")

        def step(target: Any, state: Any, rate: Any, gain: Any) -> Any:
            moved = decay * state + rate * target
            return moved - gain if subtract else gain + moved

        states = scan(
            step,
            sequences=[pt.as_tensor_variable(sequence)],
            outputs_info=[pt.as_tensor_variable(np.float64(start))],
            non_sequences=[pt.as_tensor_variable(np.float64(non_sequence)), a],
            n_steps=n_steps,
            go_backwards=backwards,
            truncate_gradient=truncate,
            return_updates=False,
        )
        pm.Normal("y", states[-1], 1.0, observed=0.5)
    return model


PAIRS: tuple[Pair, ...] = (
    *contrast(
        "node",
        computing,
        {
            "function": (pt.sin, pt.cos),
            "function with one name less": (pt.exp, pt.expm1),
            "axis": (lambda x: pt.max(x, axis=0), lambda x: pt.max(x, axis=1)),
            "all axes and one": (lambda x: pt.prod(x), lambda x: pt.prod(x, axis=0)),
            "kept dimension": (
                lambda x: x - pt.sum(x, axis=0),
                lambda x: x - pt.sum(x, axis=0, keepdims=True).dimshuffle(2, 1, 0),
            ),
            "operands": (lambda x: x[0] - x[1], lambda x: x[1] - x[0]),
            "operands of a power": (lambda x: x**2.0, lambda x: 2.0**x),
            "operands of a product": (lambda x: x[0] @ x[1], lambda x: x[1] @ x[0]),
            "branches": (lambda x: pt.switch(x > 0, x, 1.0), lambda x: pt.switch(x > 0, 1.0, x)),
            "strictness of a comparison": (
                lambda x: pt.switch(x > 0, x, 1.0),
                lambda x: pt.switch(x >= 0, x, 1.0),
            ),
            "lazy branches": (
                lambda x: ifelse(x[0, 0, 0] > 0, x, -x),
                lambda x: ifelse(x[0, 0, 0] > 0, -x, x),
            ),
            "cast": (lambda x: pt.cast(x, "int32"), lambda x: pt.cast(x, "int64")),
            "dtype of a sum": (
                lambda x: pt.sum(x, axis=0, dtype="float32"),
                lambda x: pt.sum(x, axis=0),
            ),
            "start of a slice": (lambda x: x[0:2], lambda x: x[1:2]),
            "end of a slice": (lambda x: x[0:2], lambda x: x[0:3]),
            "step of a slice": (lambda x: x[0:3:1], lambda x: x[0:3:2]),
            "sign of a step": (lambda x: x[::1, 0] * x[0], lambda x: x[::-1, 0] * x[0]),
            "slice and index": (lambda x: x[0:1], lambda x: x[0]),
            "axis of an index": (lambda x: x[0], lambda x: x[:, 0]),
            "index array": (lambda x: x[INDEX], lambda x: x[changed(INDEX, 5, 0)]),
            "order of index arrays": (
                lambda x: x[[0, 1], [1, 2]],
                lambda x: x[[1, 2], [0, 1]],
            ),
            "boolean index": (
                lambda x: x[np.array([True, False, True])],
                lambda x: x[np.array([True, True, False])],
            ),
            "new axis": (lambda x: x[0, None] + x, lambda x: x[0][:, None] + x),
            "axes of a transpose": (
                lambda x: x + x.transpose(1, 0, 2),
                lambda x: x + x.transpose(0, 2, 1),
            ),
            "set and increase": (
                lambda x: pt.set_subtensor(x[0], 1.0),
                lambda x: pt.inc_subtensor(x[0], 1.0),
            ),
            "place that is set": (
                lambda x: pt.set_subtensor(x[0], 1.0),
                lambda x: pt.set_subtensor(x[1], 1.0),
            ),
            "axis of a concatenation": (
                lambda x: pt.concatenate([x, 2 * x], axis=0),
                lambda x: pt.concatenate([x, 2 * x], axis=1),
            ),
            "order of a concatenation": (
                lambda x: pt.concatenate([x, 2 * x]),
                lambda x: pt.concatenate([2 * x, x]),
            ),
            "shape": (lambda x: x.reshape((9, 3)), lambda x: x.reshape((3, 9))),
            "axis of a cumulative sum": (
                lambda x: pt.cumsum(x, axis=0),
                lambda x: pt.cumsum(x, axis=1),
            ),
            "cumulative sum and product": (
                lambda x: pt.cumsum(x, axis=0),
                lambda x: pt.cumprod(x, axis=0),
            ),
            "axis of a softmax": (
                lambda x: pt.special.softmax(x, axis=0),
                lambda x: pt.special.softmax(x, axis=1),
            ),
            "offset of a diagonal": (lambda x: pt.eye(3, k=0) * x, lambda x: pt.eye(3, k=1) * x),
            "diagonal of other axes": (
                lambda x: pt.diagonal(x, axis1=0, axis2=1),
                lambda x: pt.diagonal(x, axis1=0, axis2=2),
            ),
            "axis of a sort": (lambda x: pt.sort(x, axis=0), lambda x: pt.sort(x, axis=1)),
            "axis of the largest": (lambda x: pt.argmax(x, axis=0), lambda x: pt.argmax(x, axis=1)),
            "bounds of a clip": (lambda x: pt.clip(x, 0.0, 1.0), lambda x: pt.clip(x, 0.0, 2.0)),
            "triangle of a factor": (
                lambda x: pt.linalg.cholesky(x, lower=True),
                lambda x: pt.linalg.cholesky(x, lower=False),
            ),
            "triangle of a system": (
                lambda x: pt.linalg.solve_triangular(x, x, lower=True),
                lambda x: pt.linalg.solve_triangular(x, x, lower=False),
            ),
            "second output": (
                lambda x: pt.linalg.slogdet(x)[0],
                lambda x: pt.linalg.slogdet(x)[1],
            ),
            "subscripts": (
                lambda x: pt.einsum("ijk,kjl->il", x, x),
                lambda x: pt.einsum("ijk,kjl->li", x, x),
            ),
            "repeats": (lambda x: pt.repeat(x, 2, axis=0), lambda x: pt.repeat(x, 3, axis=0)),
            "gradient that is cut": (
                lambda x: x,
                lambda x: pytensor.gradient.disconnected_grad(x),
            ),
            "one use and two": (lambda x: x + x, lambda x: x + pt.sin(x)),
        },
    ),
    *contrast(
        "node",
        computing,
        {
            "operands alike": (lambda x: x[0] - x[1], lambda x: x[0] - x[1]),
            "index array alike": (lambda x: x[INDEX], lambda x: x[INDEX.copy()]),
            "subscripts alike": (lambda x: pt.einsum("ijk,kjl->il", x, x),) * 2,
            "factor alike": (lambda x: pt.linalg.cholesky(x, lower=True),) * 2,
        },
        "same",
    ),
    *vary(
        "scan",
        scanning,
        {
            "inner constant": dict(decay=0.6),
            "steps": dict(n_steps=5),
            "start": dict(start=1.0),
            "sequence in the middle": dict(sequence=changed(TARGETS, 1500, 0.0)),
            "non-sequence": dict(non_sequence=2.0),
            "direction": dict(backwards=True),
            "gradient steps": dict(truncate=2),
            "body": dict(subtract=True),
        },
    ),
    *vary("scan", scanning, {"built again": {}}, "same"),
)
