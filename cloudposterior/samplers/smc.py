"""Chains of `pymc.sample_smc`, one by one: the one file that knows how PyMC draws and joins them.

PyMC's function is called each time: on a worker it draws one of its chains, on the client it finds
all chains drawn. So seeds, kernels, statistics and checks are PyMC's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pymc.smc.sampling as smc

from cloudposterior.samplers.doors import doors

__all__ = ["SMCChain", "draw_chain", "join_chains"]

SAMPLE_SMC = smc.sample_smc
"""PyMC's own, as it was before any block was opened."""


@dataclass(frozen=True)
class SMCChain:
    """What a kernel of PyMC has at the end of a chain.

    Attributes
    ----------
    points : numpy.ndarray
        The draws of all variables, one flat point in a row.
    shapes : mapping
        What PyMC knows of the shape of each variable.
    variables : tuple of str
        Names of the variables, in the order of `points`.
    stats, settings : mapping
        Statistics of each stage; what the kernel was set to.
    """

    points: np.ndarray
    shapes: Mapping[str, Any]
    variables: tuple[str, ...]
    stats: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def nbytes(self) -> int:
        """How large it is."""
        return int(self.points.nbytes)


def draw_chain(model: pm.Model, arguments: Mapping[str, Any], chain: int) -> SMCChain:
    """Draw one chain of a call, the same one as PyMC draws beside the others.

    Parameters
    ----------
    model : pymc.Model
        The model.
    arguments : mapping
        All arguments of the call; the seed among them.
    chain : int
        The number of the chain.
    """
    drawn: list[SMCChain] = []

    def alone(own: Any, *, rngs: Any, start_points: Any, **given: Any) -> None:
        states: list[dict[str, Any]] = []
        stats: list[Any] = []
        settings: list[Any] = []
        mine = {"traces": states, "sample_stats": stats, "sample_settings": settings}
        here = {"chains": 1, "rngs": [rngs[chain]], "start_points": [start_points[chain]]}
        with doors(smc, _build_trace_from_kernel_state=lambda _, **state: state):
            own(**{**given, **here, **mine})
        names = tuple(str(v.name) for v in states[0]["variables"])
        points, shapes = states[0]["tempered_posterior"], states[0]["var_info"]
        drawn.append(SMCChain(np.asarray(points), shapes, names, stats[0], settings[0]))

    without_result = {"return_inferencedata": False, "compute_convergence_checks": False}
    with doors(
        smc,
        _sample_smc_sequentially=alone,
        MultiTrace=lambda _, traces: None,
        _save_sample_stats=lambda _, *given: (None, None),
    ):
        SAMPLE_SMC(**{**arguments, "model": model, "cores": 1, **without_result})
    return drawn[0]


def join_chains(model: pm.Model, arguments: Mapping[str, Any], chains: Sequence[SMCChain]) -> Any:
    """Give what `pymc.sample_smc` returns of chains that were drawn elsewhere.

    Parameters
    ----------
    model : pymc.Model
        The client's model.
    arguments : mapping
        All arguments of the call.
    chains : sequence of SMCChain
        All of its chains, in order.
    """

    def given(_: Any, *, traces: Any, sample_stats: Any, sample_settings: Any, **__: Any) -> None:
        for number, chain in enumerate(chains):
            trace = smc._build_trace_from_kernel_state(
                tempered_posterior=chain.points,
                var_info=chain.shapes,
                variables=[_value_variable(model, name) for name in chain.variables],
                chain=number,
                model=model,
            )
            traces.append(trace)
            sample_stats.append(dict(chain.stats))
            sample_settings.append(dict(chain.settings))

    # nobody draws with it
    no_kernel = {"kernel": lambda **_: None, "cores": 1, "progressbar": False}
    with doors(smc, _sample_smc_sequentially=given):
        return SAMPLE_SMC(**{**arguments, "model": model, **no_kernel})


def _value_variable(model: pm.Model, name: str) -> Any:
    return next(value for value in model.value_vars if value.name == name)
