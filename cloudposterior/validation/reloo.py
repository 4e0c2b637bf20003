"""Leave-one-out by a fit of its own, for the points that importance sampling cannot leave out."""

from __future__ import annotations

from typing import Any

import arviz as az
import numpy as np
import pymc as pm
from pymc.model.fgraph import clone_model
from pymc.pytensorf import replace_vars_in_graphs
from xarray import DataArray

from cloudposterior.cache.choice import CacheChoice
from cloudposterior.validation.elpd import IS_LEGACY
from cloudposterior.validation.fits import Lazily, fit_all, log_likelihood, observed_variable

__all__ = ["reloo"]

Place = tuple[int, ...]
"""Where a point is in the observed variable."""


def reloo(
    idata: Any,
    loo: Any,
    *,
    model: pm.Model,
    k_threshold: float = 0.7,
    var_name: str | None = None,
    cluster: Any = None,
    cache: CacheChoice = None,
    progress: bool = True,
    **kwargs: Any,
) -> Any:
    """Leave out by a fit of its own each point that `arviz.loo` could not leave out.

    Where the Pareto k of a point is above the threshold, the model is fitted again without it. All
    fits are those of one `map`; ArviZ's `reloo` puts their densities into the result.

    Parameters
    ----------
    idata : xarray.DataTree or arviz.InferenceData
        The fit that `loo` was computed from, with the group ``log_likelihood``.
    loo : ELPDData
        What ``arviz.loo(idata, pointwise=True)`` returned. It is not changed.
    model : pymc.Model
        The model of `idata`. The likelihood has to be one of separate observations: a point is left
        out by subtracting its log density, which is exact, and needs no other data or shapes.
    k_threshold : float, default 0.7
        Points with a larger Pareto k are fitted without.
    var_name : str, optional
        The observed variable. None takes the only one.
    cluster : distributed.Client, cluster object, str or None, optional
        As for `map`.
    cache : {"memory", "disk"}, str, pathlib.Path, bool or Cache, optional
        As for `map`.
    progress : bool, default True
        As for `map`.
    **kwargs : Any
        As for `map`: best what `idata` was sampled with.

    Returns
    -------
    ELPDData
        As `loo`, with new values for those points, and 0 for their Pareto k. `arviz.compare` takes
        it.

    Raises
    ------
    ValueError
        If `loo` is not pointwise or is of other data than `model`, or the likelihood is not one of
        separate observations. With ArviZ 0.x also where they have more than one dimension, which
        its `reloo` takes for several points.
    Exception
        As `map` raises it.

    Notes
    -----
    Vehtari, Gelman and Gabry (2017), *Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC*, doi:10.1007/s11222-016-9696-4, and for 0.7 Vehtari, Simpson, Gelman,
    Yao and Gabry (2024), *Pareto smoothed importance sampling*, arXiv:1507.02646.

    Examples
    --------
    >>> call = {"draws": 50, "tune": 50, "chains": 2, "random_seed": 1, "cluster": client}
    >>> idata = cp.sample(model, **call)
    >>> idata = pm.compute_log_likelihood(idata, model=model)
    >>> loo = az.loo(idata, pointwise=True)
    >>> worst = float(loo.pareto_k.max())
    >>> exact = cp.reloo(idata, loo, model=model, k_threshold=worst - 1e-6, **call)  # one fit
    >>> int(exact.n_data_points)
    5
    """
    name = str(observed_variable(model, var_name).name)
    pareto_k = _pareto_k(loo, model, name)
    places = [tuple(map(int, place)) for place in np.argwhere(pareto_k.values > k_threshold)]
    fits = fit_all(
        Lazily(lambda number: _without(model, name, places[number]), len(places)),
        cluster=cluster,
        cache=cache,
        progress=progress and bool(places),
        **kwargs,
    )
    refits = _Refits(idata, model, name, pareto_k, dict(zip(places, fits, strict=True)))
    if IS_LEGACY:
        return az.reloo(refits, loo_orig=loo, k_thresh=k_threshold, verbose=False)
    return az.reloo(refits, loo_orig=loo, var_name=name, k_threshold=k_threshold, pointwise=True)


def _pareto_k(loo: Any, model: pm.Model, name: str) -> DataArray:
    """Give Pareto k by point, with the axes of the observed variable."""
    pareto_k: DataArray | None = getattr(loo, "pareto_k", None)
    if pareto_k is None:
        raise ValueError("loo= has no Pareto k of each point: az.loo(idata, pointwise=True) has it")
    observed = model[name]
    if observed.owner.op.ndim_supp:
        raise ValueError(
            f"the likelihood of {name!r} is one of whole vectors, from which no single observation "
            "can be left out; cp.kfold fits without rows of them"
        )
    shape = tuple(int(size) for size in model.rvs_to_values[observed].shape.eval())
    if pareto_k.shape != shape:
        raise ValueError(
            f"loo= has points of shape {pareto_k.shape}, and {name!r} of the model {shape}"
        )
    if IS_LEGACY and pareto_k.ndim != 1:
        raise ValueError(
            f"{name!r} has {pareto_k.ndim} dimensions, and ArviZ 0.x leaves out points of one "
            "dimension only; ArviZ 1 takes more"
        )
    return pareto_k


def _without(model: pm.Model, name: str, place: Place) -> pm.Model:
    """Give the model without one point: what it adds to the log density is subtracted."""
    clone = clone_model(model)
    density = _density(clone, clone[name])[place]
    with clone:
        pm.Potential(f"without[{', '.join(map(str, place))}]", -density)
    return clone


def _density(model: pm.Model, observed: Any) -> Any:
    """Give the log density of an observed variable, as a function of the other variables."""
    others = [rv for rv in model.basic_RVs if rv is not observed]
    # where PyMC has to derive a density it does so from copies of what the variable depends on, and
    # copies of random variables would not be those of the model
    places = [rv.type() for rv in others]
    [alone] = replace_vars_in_graphs([observed], dict(zip(others, places, strict=True)))
    density = pm.logp(alone, model.rvs_to_values[observed])
    [found] = replace_vars_in_graphs([density], dict(zip(places, others, strict=True)))
    return found


class _Refits(az.SamplingWrapper):  # type: ignore[misc]
    """Tells ArviZ of the fits that are there already.

    Parameters
    ----------
    idata, model
        As for `reloo`.
    name : str
        The observed variable.
    pareto_k : xarray.DataArray
        By point: its dimensions and coordinates say where a point is.
    fits : dict
        By place.
    """

    def __init__(
        self, idata: Any, model: pm.Model, name: str, pareto_k: DataArray, fits: dict[Place, Any]
    ) -> None:
        super().__init__(model=model, idata_orig=idata)
        self._name = name
        self._pareto_k = pareto_k
        self._fits = fits

    def sel_observations(self, idx: Any) -> tuple[Place, Place]:
        """Give the place of a point, for what is fitted and for what is left out."""
        if isinstance(idx, dict):
            indexes = self._pareto_k.indexes
            place = tuple(int(indexes[dim].get_loc(idx[dim])) for dim in self._pareto_k.dims)
        else:
            place = tuple(int(i) for i in np.atleast_1d(idx))
        return place, place

    def sample(self, modified_observed_data: Place) -> Any:
        """Give the fit without a point."""
        return self._fits[modified_observed_data]

    def get_inference_data(self, fitted_model: Any) -> Any:
        """Give the fit as it is."""
        return fitted_model

    def log_likelihood__i(self, excluded_obs: Place, idata__i: Any) -> DataArray:
        """Compute the log density of the point that a fit is without, ``(chain, draw)``."""
        densities = log_likelihood(self.model, idata__i, self._name)
        return densities[(slice(None), slice(None), *excluded_obs)].drop_vars(
            self._pareto_k.coords, errors="ignore"
        )
