"""What of a call is part of its request."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from typing import Any

import dask.config
import numpy as np

from cloudposterior.identity.manifest import Option
from cloudposterior.identity.walk import Walk
from cloudposterior.samplers.pymc import draw_settings

__all__ = ["names_of", "option", "plain", "settings_for", "version", "versions_of"]


def plain(value: Any) -> Any:
    """Give equal values one form: numpy numbers as Python's, dictionaries in one order."""
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        return value.item()
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {key: plain(value[key]) for key in sorted(value)}
    return value


def names_of(names: Any) -> list[Any] | None:
    """Give names one form, whatever holds them; None asks for all."""
    if names is None or isinstance(names, str):
        return names if names is None else [names]
    return list(names)


def option(name: str, value: Any, walk: Walk) -> Option:
    """Write an argument down, with a text to read."""
    with walk.at(f"argument {name!r}"):
        digest = walk.value(value)
    # an address in memory says nothing to anybody
    text = type(value).__name__ if " at 0x" in repr(value) else repr(value)
    return Option(name, digest.hex(), text if len(text) <= 80 else f"{text[:77]}...")


def settings_for(*, on_cluster: bool) -> dict[str, str]:
    """Give the settings of PyTensor that a call runs with, here or on a cluster."""
    settings = draw_settings()
    if on_cluster and "numba__fastmath" in settings:
        fast = dask.config.get("cloudposterior.cluster.numba-fastmath")
        settings["numba__fastmath"] = str(bool(fast))
    return settings


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Give the installed version of each distribution."""
    return {name: version(name) for name in distributions}


def version(name: str) -> str:
    """Give the installed version of a distribution, or say that there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
