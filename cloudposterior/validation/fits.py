"""Many fits for one question, and the log-likelihood of rows under them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
from scipy.special import logsumexp
from xarray import DataArray, Dataset

from cloudposterior.cache.choice import CacheChoice
from cloudposterior.many import map as map_models
from cloudposterior.posterior import to_tree

__all__ = ["Lazily", "fit_all", "log_likelihood", "log_score", "observed_variable", "posterior_of"]


@dataclass(frozen=True)
class Lazily:
    """Models that are made when there is room for them, and that can be counted before.

    Attributes
    ----------
    make : callable
        Makes the model of a number, from 0.
    number : int
        How many there are.
    """

    make: Callable[[int], pm.Model]
    number: int

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[pm.Model]:
        return (self.make(number) for number in range(self.number))


def fit_all(
    models: Lazily,
    *,
    cluster: Any,
    cache: CacheChoice,
    progress: bool,
    arguments: Iterable[Mapping[str, Any]] | None = None,
    **kwargs: Any,
) -> list[Any]:
    """Sample all of them by `map`; an error of one ends it, and the same call goes on from there.

    Parameters
    ----------
    models : Lazily
        The models.
    cluster, cache, progress, arguments
        As for `map`.
    **kwargs
        As for `map`. PyMC's own bar is off unless it is asked for: the number of fits is shown.
    """
    results: list[Any] = map_models(
        models,
        arguments=arguments,
        cluster=cluster,
        cache=cache,
        progress=progress,
        on_error="raise",
        **{"progressbar": False, **kwargs},
    )
    return results


def observed_variable(model: pm.Model, var_name: str | None) -> Any:
    """Give the observed variable of a model that is meant.

    Raises
    ------
    ValueError
        If there is none of that name, or several and none is named.
    """
    names = [str(rv.name) for rv in model.observed_RVs]
    if var_name is None and len(names) == 1:
        return model[names[0]]
    if var_name in names:
        return model[var_name]
    asked = "" if var_name is None else f", and var_name={var_name!r} is none of them"
    raise ValueError(f"var_name= names one of the observed variables, which are {names}{asked}")


def posterior_of(fit: Any) -> Dataset:
    """Give the draws of a fit."""
    draws: Dataset = to_tree(fit)["posterior"].to_dataset()
    return draws


def log_likelihood(model: pm.Model, fit: Any, var_name: str) -> DataArray:
    """Compute the log-likelihood of each observation, ``(chain, draw, *shape)``."""
    computed = pm.compute_log_likelihood(
        fit, var_names=[var_name], extend_inferencedata=False, model=model, progressbar=False
    )
    densities: DataArray = computed[var_name]
    return densities


def log_score(densities: DataArray) -> Any:
    """Give the log predictive density of each row: the log of the mean density over all draws.

    Parameters
    ----------
    densities : xarray.DataArray
        ``(chain, draw, row, *shape)``; the elements of a row are predicted together.

    Returns
    -------
    numpy.ndarray
        ``(row,)``
    """
    chains, draws, rows = densities.shape[:3]
    by_row = np.asarray(densities).reshape(chains * draws, rows, -1).sum(axis=-1)
    return logsumexp(by_row, axis=0, b=1 / (chains * draws))
