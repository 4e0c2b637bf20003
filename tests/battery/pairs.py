"""The shape of one entry of the battery, and the ways in which entries are written."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

Verdict = Literal["same", "different", "refused"]
Builder = Callable[[], Any]


@dataclass(frozen=True)
class Pair:
    """Two builders, and what their tokens are to be to each other."""

    name: str
    left: Builder
    right: Builder
    verdict: Verdict
    """``refused`` means that neither side has a token."""
    costly: bool = False
    """Whether the right side compiles or samples, so that once in a process is enough."""


def vary(
    subject: str,
    build: Callable[..., Any],
    changes: Mapping[str, Mapping[str, Any]],
    verdict: Verdict = "different",
) -> tuple[Pair, ...]:
    """Pair the builder as it stands with itself under each of several keyword changes."""
    return tuple(
        Pair(f"{subject}: {change}", build, partial(build, **arguments), verdict)
        for change, arguments in changes.items()
    )


def contrast(
    subject: str,
    build: Callable[..., Any],
    cases: Mapping[str, tuple[Any, Any]],
    verdict: Verdict = "different",
) -> tuple[Pair, ...]:
    """Pair what the builder makes of the first and of the second value of each case."""
    return tuple(
        Pair(f"{subject}: {case}", partial(build, left), partial(build, right), verdict)
        for case, (left, right) in cases.items()
    )


def refuse(subject: str, build: Callable[..., Any], cases: Mapping[str, Any]) -> tuple[Pair, ...]:
    """Pair the builder with itself for values of which no token can be made."""
    return tuple(
        Pair(f"{subject}: {case}", partial(build, value), partial(build, value), "refused")
        for case, value in cases.items()
    )


def changed(array: np.ndarray, at: Any, value: Any) -> np.ndarray:
    """Copy an array with one entry changed."""
    copy = array.copy()
    copy[at] = value
    return copy


def namespace(
    source: str,
    name: str = "battery_source",
    filename: str = "battery_source.py",
    blank_lines: int = 0,
    registered: bool = False,
    **values: Any,
) -> types.ModuleType:
    """Run a source text in a fresh module, so that two versions live in one process.

    Parameters
    ----------
    source
        The text of the module.
    name, filename
        What the module calls itself, and the file that its code objects name.
    blank_lines
        Empty lines put before the text, which shift its line numbers.
    registered
        Whether the module can be found in ``sys.modules`` under its name.
    **values
        Globals that the module holds before the text runs.
    """
    module = types.ModuleType(name)
    module.__dict__.update(values, __file__=filename)
    if registered:
        sys.modules[name] = module
    exec(compile("\n" * blank_lines + source, filename, "exec"), module.__dict__)
    return module
