"""From a function and what it is called with to a call: one table of all operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pymc as pm

from cloudposterior.operations.call import Call, FunctionCall
from cloudposterior.operations.densities import Deterministics, LogDensity
from cloudposterior.operations.draws import SMC, ExtrasFit
from cloudposterior.operations.fitted import Fit
from cloudposterior.operations.functions import EXTRAS, functions
from cloudposterior.operations.optimum import MaximumAPosteriori
from cloudposterior.operations.predictive import PosteriorPredictive, PriorPredictive
from cloudposterior.operations.sample import SampleCall
from cloudposterior.operations.until import Target

__all__ = ["make_call"]

_CALLS: dict[str, type[FunctionCall]] = {
    "sample_prior_predictive": PriorPredictive,
    "sample_posterior_predictive": PosteriorPredictive,
    "compute_log_likelihood": LogDensity,
    "compute_log_prior": LogDensity,
    "compute_deterministics": Deterministics,
    "sample_smc": SMC,
    "fit": Fit,
    "find_MAP": MaximumAPosteriori,
    EXTRAS: ExtrasFit,
}


def make_call(
    name: str,
    model: pm.Model,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    on_cluster: bool,
    until: Target | None = None,
) -> Call:
    """Make the call of a function on a model.

    Parameters
    ----------
    name : str
        As `functions` names it.
    model : pymc.Model
        The model.
    args, kwargs
        What it is called with.
    on_cluster : bool
        Whether a cluster runs it.
    until : Target, optional
        What ends `pymc.sample` before its last draw; others have none.

    Raises
    ------
    TypeError
        As the function raises it.
    """
    if name not in _CALLS:
        return SampleCall(model, args, kwargs, on_cluster=on_cluster, until=until)
    return _CALLS[name](functions()[name], model, args, kwargs, on_cluster=on_cluster)
