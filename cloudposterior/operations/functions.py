"""PyMC's functions that a block answers, as they were before any block was opened."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pymc as pm
import pymc.smc
import pymc.stats
import pymc.tuning
import pymc.variational

from cloudposterior.samplers.pymc import SAMPLE

__all__ = ["EXTRAS", "Function", "functions"]

EXTRAS = "pymc_extras.fit"


@dataclass(frozen=True)
class Function:
    """A function that runs on a model.

    Attributes
    ----------
    name : str
        What a block knows it by: its name, after that of its package where that is not PyMC.
    own : callable
        The function itself.
    places : tuple of module
        Where users find it.
    """

    name: str
    own: Callable[..., Any]
    places: tuple[ModuleType, ...]

    @property
    def attribute(self) -> str:
        """Its name in its modules."""
        return self.name.rpartition(".")[2]

    def model_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Give the model that a call names; None where it leaves that to its context."""
        if "model" in kwargs:
            return kwargs["model"]
        names = list(inspect.signature(self.own).parameters)
        place = names.index("model") if "model" in names else len(args)
        return args[place] if place < len(args) else None


_MODULES = (pm, pm.sampling, pm.stats, pm.smc, pm.tuning, pm.variational)


def _of_pymc(own: Callable[..., Any]) -> Function:
    name = own.__name__
    modules = dict.fromkeys((*_MODULES, sys.modules[own.__module__]))
    # by name: others may have put theirs there before
    return Function(name, own, tuple(module for module in modules if name in vars(module)))


_PYMC = tuple(
    _of_pymc(own)
    for own in (
        SAMPLE,
        pm.sampling.sample_prior_predictive,
        pm.sampling.sample_posterior_predictive,
        pm.sampling.compute_deterministics,
        pm.stats.compute_log_likelihood,
        pm.stats.compute_log_prior,
        pm.smc.sample_smc,
        pm.variational.fit,
        pm.tuning.find_MAP,
    )
)


def functions() -> dict[str, Function]:
    """Give all of them by name; that of pymc_extras, where that has been imported."""
    found = {function.name: function for function in _PYMC}
    extras = sys.modules.get("pymc_extras")
    # while it is being imported it has none yet
    if extras is not None and hasattr(extras, "fit"):
        found[EXTRAS] = _extras(extras)
    return found


_known_extras: dict[str, Function] = {}


def _extras(module: ModuleType) -> Function:
    # the first time nobody has swapped it
    return _known_extras.setdefault(EXTRAS, Function(EXTRAS, module.fit, (module,)))
