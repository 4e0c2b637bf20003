"""What `pymc.sample` would do with its arguments: the one file that knows PyMC's internals.

`tests/samplers/test_pymc.py` fails when PyMC changes what is used here.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Mapping
from typing import Any

import pymc as pm
import pytensor
from pymc.sampling.mcmc import assign_step_methods
from pymc.step_methods import NUTS, STEP_METHODS
from pymc.vartypes import discrete_types
from pytensor.compile.mode import get_mode

__all__ = [
    "ANY_COMPILER",
    "PREFERS_NUTPIE",
    "SAMPLE",
    "assigns_by_structure",
    "compiles_just_in_time",
    "cpu_count",
    "default_chains",
    "default_tune",
    "draw_settings",
    "may_use_nutpie",
    "sampler_packages",
    "uses_only_nuts",
]

SAMPLE = pm.sampling.mcmc.sample
"""PyMC's own `sample`, as it was before any block was opened."""

_PARAMETERS = inspect.signature(SAMPLE).parameters
PREFERS_NUTPIE = _PARAMETERS["nuts_sampler"].default is None


def default_chains(cores: int | None) -> int:
    """Resolve ``chains=None`` as PyMC does: at least two, else one for each of up to four cores."""
    if cores is None:
        cores = min(4, cpu_count())
    return max(2, cores)


def cpu_count() -> int:
    """Count the cores as PyMC does."""
    counter = getattr(pm.sampling.mcmc, "_cpu_count", None)
    return int(counter()) if counter is not None else os.cpu_count() or 1


def default_tune(step: object) -> int | None:
    """Resolve ``tune=None`` for PyMC's own samplers.

    Parameters
    ----------
    step : object
        The ``step`` argument of the call.

    Returns
    -------
    int or None
        Number of tuning steps; None where it depends on which steps PyMC will assign.
    """
    default = _PARAMETERS["tune"].default
    if default is not None:
        return int(default)
    asked = [getattr(method, "default_tune_steps", None) for method in STEP_METHODS]
    return 1000 if step is None and not any(asked) else None


def may_use_nutpie(model: pm.Model, call: Mapping[str, Any]) -> bool:
    """Tell whether PyMC may choose nutpie, as far as the arguments alone show.

    Parameters
    ----------
    model : pymc.Model
        The model to be sampled.
    call : mapping
        All arguments of the call.

    Returns
    -------
    bool
        False: PyMC's own sampler for certain. True: nutpie, if `uses_only_nuts`.
    """
    return (
        PREFERS_NUTPIE
        and importlib.util.find_spec("nutpie") is not None
        and call["step"] is None
        and call["init"] == "auto"
        and bool(call["return_inferencedata"])
        and call["trace"] is None
        and call["callback"] is None
        and (call["initvals"] is None or isinstance(call["initvals"], dict))
        and _compiles_for_nutpie(call)
        and not any(rv.dtype in discrete_types for rv in model.free_RVs)
    )


def _compiles_for_nutpie(call: Mapping[str, Any]) -> bool:
    return compiles_just_in_time(
        (call.get("compile_kwargs") or {}).get("mode") or call.get("backend")
    )


def compiles_just_in_time(mode: Any) -> bool:
    """Tell whether Numba or JAX compiles in a mode; None is the one that PyTensor is set to."""
    linker = get_mode("cvm" if mode == "c" else mode).linker
    return type(linker).__name__ in ("NumbaLinker", "JAXLinker")


def uses_only_nuts(model: pm.Model) -> bool:
    """Tell whether PyMC would assign NUTS to every variable (differentiates the model: slow)."""
    provided, selected = assign_step_methods(model, None, methods=STEP_METHODS)
    return not provided and len(selected) == 1 and issubclass(next(iter(selected)), NUTS)


def assigns_by_structure(model: pm.Model) -> bool:
    """Tell whether the steps that PyMC assigns depend on no value of `pymc.Data`.

    To assign steps to discrete variables it evaluates what they are made from, such as the number
    of categories; and what step methods of others look at, nobody knows.
    """
    discrete = any(value.dtype in discrete_types for value in model.value_vars)
    return not discrete and all(of.__module__.split(".")[0] == "pymc" for of in STEP_METHODS)


def sampler_packages(sampler: str) -> tuple[str, ...]:
    """Name the distributions whose versions a run depends on."""
    return {
        "pymc": (),
        "nutpie": ("nutpie",),
        "numpyro": ("numpyro", "jax"),
        "blackjax": ("blackjax", "jax"),
    }.get(sampler, ())


ANY_COMPILER = "any"
"""The setting ``cxx`` where there is a compiler."""

_SETTINGS = (
    "floatX",
    "cast_policy",
    "mode",
    "linker",
    "optimizer",
    "optimizer_excluding",
    "optimizer_including",
    "numba__fastmath",
    "gcc__cxxflags",
    "openmp",
)


def draw_settings() -> dict[str, str]:
    """Read the settings of PyTensor that the draws depend on.

    Of ``cxx`` they say whether there is a compiler: without one PyTensor leaves to NumPy what it
    compiles to C else, and the two round otherwise. Where it is installed does not matter.
    """
    config = pytensor.config
    settings = {name: str(getattr(config, name)) for name in _SETTINGS if hasattr(config, name)}
    return {**settings, "cxx": ANY_COMPILER if config.cxx else ""}
