"""Cross-validation: each row is predicted by a fit that has not seen it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
from xarray import DataArray

from cloudposterior.cache.choice import CacheChoice
from cloudposterior.validation.elpd import kfold_elpd
from cloudposterior.validation.fits import (
    Lazily,
    fit_all,
    log_likelihood,
    log_score,
    observed_variable,
    posterior_of,
)
from cloudposterior.validation.folds import Pair, pairs_of

__all__ = ["kfold"]


def kfold(
    model_factory: Callable[[Any], pm.Model],
    folds: Any = 10,
    *,
    y: Any = None,
    groups: Any = None,
    var_name: str | None = None,
    cluster: Any = None,
    cache: CacheChoice = None,
    progress: bool = True,
    random_seed: int | None = None,
    **kwargs: Any,
) -> Any:
    """Estimate the expected log predictive density by K-fold cross-validation.

    The model is fitted once to all rows, and once for each fold to the rows outside of it. The
    rows of the fold are then predicted from that fit. All fits are those of one `map`.

    Parameters
    ----------
    model_factory : callable
        ``model_factory(rows)`` returns the `pymc.Model` of these rows of the data. `rows` is an
        array of row numbers, or ``slice(None)`` for all rows, so use it as an index only. The first
        axis of the observed variable is the rows. Parameters must not depend on how many there are:
        one for each row could not predict a new row.
    folds : int, scikit-learn splitter or iterable of pairs, default 10
        A number is that of random folds; of stratified ones where `y` is given, of grouped ones
        where `groups` are, of both where both are. A splitter is any object with scikit-learn's
        ``split(X, y, groups)``. Pairs are ``(train, test)``, two arrays of row numbers. Each row is
        held out once; a fit need not have all other rows.
    y : array-like, optional
        The class of each row, ``(row,)``, for the splitter. None where it needs none.
    groups : array-like, optional
        The group of each row, ``(row,)``, for the splitter. None where it needs none.
    var_name : str, optional
        The observed variable to predict. None takes the only one.
    cluster : distributed.Client, cluster object, str or None, optional
        As for `map`.
    cache : {"memory", "disk"}, str, pathlib.Path, bool or Cache, optional
        As for `map`.
    progress : bool, default True
        As for `map`.
    random_seed : int, optional
        Seeds all fits, and the folds where they are a number. None leaves the fits' seed to PyMC,
        and makes the folds with seed 0: the same call has the same folds.
    **kwargs : Any
        As for `map`: ``draws``, ``tune``, ``chains``...

    Returns
    -------
    ELPDData
        Of the installed ArviZ, pointwise, so that `arviz.compare` takes it: ``elpd_i`` (in ArviZ
        0.x ``loo_i``) of shape ``(row,)``. A row that has several elements is one point. The
        effective number of parameters is what the fit to all rows predicts better than the folds.
        ArviZ 0.x has no name for this kind of result, and shows it as "loo".

    Raises
    ------
    ValueError
        If rows are not held out once each, a parameter depends on the number of rows, or the
        likelihood is not one of independent rows.
    ImportError
        If `folds` is a number and scikit-learn is not installed.
    Exception
        As `map` raises it.

    Notes
    -----
    The density of a held-out row is the mean of its density over the draws of the fit without it,
    as in Vehtari, Gelman and Gabry (2017), *Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC*, section 2.2, doi:10.1007/s11222-016-9696-4.

    Examples
    --------
    >>> y = np.array([0.1, -0.4, 0.3, 1.2, 0.8, 0.2])
    >>> def mean(rows):
    ...     with pm.Model() as model:
    ...         mu = pm.Normal("mu")
    ...         pm.Normal("y", mu, 1.0, observed=y[rows])
    ...     return model
    >>> call = {"draws": 50, "tune": 50, "chains": 2, "random_seed": 1, "cluster": client}
    >>> elpd = cp.kfold(mean, folds=2, **call)
    >>> int(elpd.n_data_points)
    6

    Models that were given the same folds are compared by ``az.compare({"mean": elpd, ...})``.
    """
    pairs = pairs_of(
        folds, lambda: _rows(model_factory, var_name), y=y, groups=groups, seed=random_seed or 0
    )
    everything = np.arange(sum(test.size for _, test in pairs))
    to_fit = [everything, *(train for train, _ in pairs)]
    whole, *parts = fit_all(
        Lazily(lambda number: model_factory(to_fit[number]), len(to_fit)),
        cluster=cluster,
        cache=cache,
        progress=progress,
        random_seed=random_seed,
        **kwargs,
    )
    known = _densities(model_factory(everything), whole, var_name, everything.size)
    like = known[0, 0].isel(dict.fromkeys(known.dims[3:], 0), drop=True)
    like = like.drop_vars(["chain", "draw"], errors="ignore")
    elpd_i = like.copy(data=_held_out(model_factory, pairs, parts, var_name))
    return kfold_elpd(
        elpd_i,
        like.copy(data=log_score(known) - elpd_i.values),
        samples=known.shape[0] * known.shape[1],
        folds=len(pairs),
    )


def _rows(model_factory: Callable[[Any], pm.Model], var_name: str | None) -> int:
    """Tell how many rows there are."""
    model = model_factory(slice(None))
    observed = model.rvs_to_values[observed_variable(model, var_name)]
    return int(observed.shape[0].eval())


def _held_out(
    model_factory: Callable[[Any], pm.Model],
    pairs: list[Pair],
    fits: list[Any],
    var_name: str | None,
) -> Any:
    """Give the log predictive density of each row, from the fit that has not seen it."""
    scores = np.empty(sum(test.size for _, test in pairs))
    for (_, test), fit in zip(pairs, fits, strict=True):
        scores[test] = log_score(_densities(model_factory(test), fit, var_name, test.size))
    return scores


def _densities(model: pm.Model, fit: Any, var_name: str | None, rows: int) -> DataArray:
    """Compute the log-likelihood of the rows of a model, ``(chain, draw, row, *shape)``."""
    _check_parameters(model, fit)
    name = str(observed_variable(model, var_name).name)
    densities = log_likelihood(model, fit, name)
    if densities.ndim < 3 or densities.shape[2] != rows:
        raise ValueError(
            f"the likelihood of {name!r} has shape {densities.shape[2:]} for {rows} rows: cp.kfold "
            "needs one value for each row, with the rows along its first axis"
        )
    return densities


def _check_parameters(model: pm.Model, fit: Any) -> None:
    posterior = posterior_of(fit)
    shapes = model.eval_rv_shapes()
    for name in (str(rv.name) for rv in model.free_RVs):
        fitted = posterior[name].shape[2:] if name in posterior else None
        wanted = tuple(int(size) for size in shapes[name])
        if fitted != wanted:
            raise ValueError(
                f"parameter {name!r} has shape {fitted} in one fit and {wanted} for other rows: "
                "cp.kfold needs parameters that do not depend on which rows there are"
            )
