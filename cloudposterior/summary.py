"""What came of a run, in a few numbers: how long it took, and what its draws are worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from cloudposterior.operations.call import Call
from cloudposterior.posterior import group, is_posterior, to_tree

__all__ = ["RunSummary", "summary_of"]

_WITH_CHAINS = {"sample", "sample_smc"}
"""Functions whose chains are drawn by the call; others hand on chains of an earlier one."""

_FEWEST_DRAWS = 4
"""ArviZ has nothing to say of fewer."""


@dataclass(frozen=True)
class RunSummary:
    """What came of a call.

    The numbers of the posterior are worked out when they are first asked for, by ArviZ, over all
    elements of all free variables. They are None where there are none: for predictions, densities
    and fits, where too little was drawn, and for R-hat of a single chain.

    Attributes
    ----------
    elapsed_s : float
        How long the call took, in seconds; of a cached result, how long it took to read.
    from_cache : bool
        Whether it was answered from the cache.
    missing : str
        What the result lacks, e.g. ``"12 of 1000 draws"`` of a run that was stopped; empty where
        it is whole.
    result : xarray.DataTree, arviz.InferenceData or what else the function returns
        What the caller gets, the very same: to be read, and not to be changed.

    Notes
    -----
    R-hat is rank-normalized and split; it and both effective sample sizes are those of Vehtari,
    Gelman, Simpson, Carpenter and Bürkner (2021), *Rank-normalization, folding, and localization:
    an improved R-hat for assessing convergence of MCMC*, doi:10.1214/20-BA1221.

    Examples
    --------
    >>> class Last:
    ...     def on_finish(self, run, summary):
    ...         self.summary = summary
    >>> last = Last()
    >>> idata = cp.sample(
    ...     model, draws=100, tune=100, chains=2, random_seed=1, cluster=client, callbacks=[last]
    ... )
    >>> last.summary.missing, last.summary.divergences
    ('', 0)
    >>> last.summary.r_hat < 1.2
    True
    """

    elapsed_s: float
    from_cache: bool
    missing: str
    result: Any = field(repr=False, compare=False)
    _variables: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def r_hat(self) -> float | None:
        """The highest rank-normalized split R-hat."""
        return self._worst[0]

    @property
    def ess_bulk(self) -> float | None:
        """The least bulk effective sample size."""
        return self._worst[1]

    @property
    def ess_tail(self) -> float | None:
        """The least tail effective sample size."""
        return self._worst[2]

    @cached_property
    def divergences(self) -> int | None:
        """How many draws after tuning diverged; None where the sampler does not tell."""
        stats = _group(self.result, "sample_stats") if self._variables else None
        return int(stats["diverging"].sum()) if stats is not None and "diverging" in stats else None

    @cached_property
    def _worst(self) -> tuple[float | None, float | None, float | None]:
        try:
            found = np.hstack([np.empty((3, 0)), *_statistics(self.result, self._variables)])
        except Exception:  # noqa: BLE001  (a number that ArviZ cannot tell costs no message)
            return None, None, None
        r_hat, bulk, tail = (of[np.isfinite(of)] for of in found)
        return (
            float(r_hat.max()) if r_hat.size else None,
            float(bulk.min()) if bulk.size else None,
            float(tail.min()) if tail.size else None,
        )


def summary_of(call: Call, result: Any, *, elapsed_s: float, from_cache: bool) -> RunSummary:
    """Sum up a call that has ended.

    Parameters
    ----------
    call : Call
        The call.
    result : Any
        What it gives its caller.
    elapsed_s : float
        How long it took, in seconds.
    from_cache : bool
        Whether the cache answered it.
    """
    chains = call.name in _WITH_CHAINS and is_posterior(result)
    missing = "" if from_cache else _missing(call, result)
    variables = tuple(str(rv.name) for rv in call.model.free_RVs) if chains else ()
    return RunSummary(elapsed_s, from_cache, missing, result, variables)


def _missing(call: Call, result: Any) -> str:
    try:
        return (is_posterior(result) and call.missing(to_tree(result))) or ""
    except Exception:  # noqa: BLE001  (what cannot be looked at is not said to be incomplete)
        return ""


def _group(result: Any, name: str) -> xr.Dataset | None:
    return group(result, name) if is_posterior(result) else None


def _statistics(result: Any, names: tuple[str, ...]) -> Iterator[np.ndarray]:
    """Give R-hat, bulk and tail ESS of the elements of each variable: ``(3, element)``."""
    posterior = _group(result, "posterior") if names else None
    if posterior is None or posterior.sizes.get("draw", 0) < _FEWEST_DRAWS:
        return
    for name in names:
        if name in posterior and posterior[name].dtype.kind in "biuf":
            values = posterior[name].transpose("chain", "draw", ...).values.astype(float)
            yield _of_elements(values.reshape(*values.shape[:2], -1))


def _of_elements(values: np.ndarray) -> np.ndarray:
    # what is not finite or does not move has none
    sound = np.isfinite(values).all((0, 1)) & (np.ptp(values, axis=(0, 1)) > 0)
    found = np.full((3, int(sound.sum())), np.nan)
    if not sound.any():
        return found
    import arviz as az

    data = xr.Dataset({"x": (("chain", "draw", "element"), values[:, :, sound])})
    with np.errstate(all="ignore"):
        if len(values) > 1:
            found[0] = az.rhat(data)["x"].values
        found[1] = az.ess(data, method="bulk")["x"].values
        found[2] = az.ess(data, method="tail")["x"].values
    return found
