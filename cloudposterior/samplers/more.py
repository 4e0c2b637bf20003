"""Whether a run's draws are the first of a longer run's, or its chains the first of more chains.

Asked on the client, before anything is compiled. What is not known for certain is answered with no.
`tests/samplers/test_more.py` holds each answer against what PyMC draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
from pymc.pytensorf import find_rng_nodes
from pymc.step_methods import (
    NUTS,
    BinaryGibbsMetropolis,
    BinaryMetropolis,
    CategoricalGibbsMetropolis,
    DEMetropolisZ,
    HamiltonianMC,
    Metropolis,
    Slice,
)

from cloudposterior.samplers.resolve import Resolved

__all__ = ["chains_go_on", "draws_go_on"]

_STEPS = {
    NUTS,
    HamiltonianMC,
    Metropolis,
    DEMetropolisZ,
    Slice,
    BinaryMetropolis,
    BinaryGibbsMetropolis,
    CategoricalGibbsMetropolis,
}
"""Step methods that neither ask how many draws there will be, nor look at other chains.

All that they know is in their state. Those that are derived from them may do otherwise.
"""

_DRAWS_GO_ON = {None, "auto", "adapt_diag", "jitter+adapt_diag", "adapt_full", "jitter+adapt_full"}
"""Ways to initialise NUTS after which the state of a chain says all.

After `advi` and `map` the mass matrix is computed anew by whoever goes on; `advi_map` gives another
one each time; and PyMC cannot say the state of `jitter+adapt_diag_grad`.
"""

_CHAINS_GO_ON = {None, "auto", "adapt_diag", "jitter+adapt_diag", "jitter+adapt_diag_grad"}
"""Ways to initialise NUTS that make no draw depend on how many chains there are.

They do compute the mean of all chains' initial points. The diagonal mass matrix forgets it before
it is first used (after a window of 101 draws); the full one begins with it.
"""

_PLAIN = (type(None), bool, int, float, str, np.bool_, np.integer, np.floating)
_ALSO_IN_A_RESULT = {"include_transformed"}


def draws_go_on(
    model: pm.Model,
    *,
    resolved: Resolved,
    arguments: Mapping[str, Any],
    extra: Mapping[str, Any],
    settings: Mapping[str, str],
) -> bool:
    """Tell whether a longer run begins with the draws of this one, and can go on from its states.

    Parameters
    ----------
    model : pymc.Model
        The model.
    resolved : Resolved
        What PyMC would do with the call.
    arguments, extra : mapping
        The named and the other keyword arguments of `pymc.sample`; how many draws, does not matter.
    settings : mapping of str to str
        The settings of PyTensor to run with.
    """
    return resolved.init in _DRAWS_GO_ON and _is_known(model, resolved, arguments, extra, settings)


def chains_go_on(
    model: pm.Model,
    *,
    resolved: Resolved,
    arguments: Mapping[str, Any],
    extra: Mapping[str, Any],
    settings: Mapping[str, str],
) -> bool:
    """Tell whether a run of more chains has those of this one as its first.

    Parameters
    ----------
    model : pymc.Model
        The model.
    resolved : Resolved
        What PyMC would do with the call.
    arguments, extra : mapping
        The named and the other keyword arguments of `pymc.sample`; how many chains, does not
        matter.
    settings : mapping of str to str
        The settings of PyTensor to run with.
    """
    return (
        resolved.init in _CHAINS_GO_ON
        # a list of them has one for each chain
        and not isinstance(arguments["initvals"], list | tuple)
        and _is_known(model, resolved, arguments, extra, settings)
    )


def _is_known(
    model: pm.Model,
    resolved: Resolved,
    arguments: Mapping[str, Any],
    extra: Mapping[str, Any],
    settings: Mapping[str, str],
) -> bool:
    return (
        _are_steps_known(resolved)
        and _repeats(arguments, settings)
        and _is_result_of_draws(arguments)
        and all(map(_is_initial, _each(arguments["initvals"])))
        and _are_options_plain(arguments, extra)
        and not find_rng_nodes([model.logp()])
    )


def _are_steps_known(resolved: Resolved) -> bool:
    # one that was given may have been used, and then stands elsewhere than at its beginning
    known = bool(resolved.steps) and set(resolved.steps) <= _STEPS
    return resolved.sampler == "pymc" and known and not resolved.given and not resolved.together


def _repeats(arguments: Mapping[str, Any], settings: Mapping[str, str]) -> bool:
    """Tell whether a call would give the same bits once more."""
    compiling = [arguments.get("backend"), *(arguments["compile_kwargs"] or {}).values()]
    words = [*compiling, *settings.values()]
    # a generator is elsewhere after a run, and not in the same place after one of more chains
    seed = arguments["random_seed"]
    return (
        not isinstance(seed, np.random.Generator | np.random.BitGenerator)
        and settings.get("numba__fastmath") != "True"
        and all(isinstance(word, _PLAIN) for word in compiling)
        and not any(name in str(words).lower() for name in ("jax", "pytorch", "mlx"))
    )


def _is_result_of_draws(arguments: Mapping[str, Any]) -> bool:
    """Tell whether a result holds draws and their statistics, and nothing made of all of them.

    A log-likelihood that is computed of a part of the draws has other last bits.
    """
    asked = {name for name, value in (arguments["idata_kwargs"] or {}).items() if value}
    return (
        asked <= _ALSO_IN_A_RESULT
        and arguments["callback"] is None
        and arguments["trace"] is None
        and bool(arguments["return_inferencedata"])
        and not arguments["keep_warning_stat"]
    )


def _each(initvals: Any) -> list[Any]:
    return list(initvals) if isinstance(initvals, list | tuple) else [initvals]


def _is_initial(values: Any) -> bool:
    """Tell whether initial values of a chain are numbers, or the names of ways to choose them."""
    if values is None:
        return True
    return isinstance(values, dict) and all(
        (isinstance(value, np.ndarray) and not value.dtype.hasobject) or _are_numbers(value)
        for value in values.values()
    )


def _are_numbers(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_are_numbers, value))
    return value is not None and isinstance(value, _PLAIN)


def _are_options_plain(arguments: Mapping[str, Any], extra: Mapping[str, Any]) -> bool:
    """Tell whether step methods are made with numbers and words only.

    One of them is known to depend on how many chains there are: PyMC overrules ``tune`` where
    there is a single one.
    """
    given = [*extra.items(), *(arguments.get("nuts_sampler_kwargs") or {}).items()]
    within = [pair for _, value in given if type(value) is dict for pair in value.items()]
    return all(
        name != "tune" and (type(value) is dict or isinstance(value, _PLAIN))
        for name, value in [*given, *within]
    ) and not any(type(value) is dict for _, value in within)
