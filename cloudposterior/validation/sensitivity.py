"""What a posterior is with other priors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import arviz as az
import pandas as pd
import pymc as pm
from pymc.model.fgraph import clone_model

from cloudposterior.cache.choice import CacheChoice
from cloudposterior.validation.fits import Lazily, fit_all, posterior_of

__all__ = ["Sensitivity", "sensitivity"]

Values = tuple[Any, ...]
"""A value of each hyper-parameter, in the order that they were named in."""


@dataclass(frozen=True)
class Sensitivity:
    """Fits with other priors, and how far they are from the first one.

    Attributes
    ----------
    names : tuple of str
        The hyper-parameters.
    fits : dict
        The fit of each combination, by the tuple of its values in the order of `names`; variables
        of shape ``(chain, draw, *shape)``.

    Examples
    --------
    Made by `sensitivity`; here from two fits that are there already:

    >>> call = {"draws": 50, "tune": 50, "chains": 2, "cluster": client}
    >>> fits = {(seed,): cp.sample(model, random_seed=seed, **call) for seed in (1, 2)}
    >>> found = cp.Sensitivity(("seed",), fits)
    >>> found.summary().index.names
    FrozenList(['parameter', 'seed'])
    """

    names: tuple[str, ...]
    fits: dict[Values, Any]

    def summary(self, **kwargs: Any) -> pd.DataFrame:
        """Put the posteriors beside each other.

        Parameters
        ----------
        **kwargs : Any
            As for `arviz.summary`: ``var_names``, ``kind``... Numbers are not rounded unless
            ``round_to`` asks for it.

        Returns
        -------
        pandas.DataFrame
            A row for each element of each parameter and each combination, by parameter and values,
            with the columns of `arviz.summary` and, where it has mean and sd, two more: ``shift``,
            how far the mean is from that of the first combination, in posterior standard deviations
            of the first, and ``spread``, the standard deviation as a multiple of that of the first.
        """
        tables = {
            values: az.summary(posterior_of(fit), **{"round_to": "none", **kwargs})
            for values, fit in self.fits.items()
        }
        first = next(iter(tables.values()))
        for table in tables.values():
            if {"mean", "sd"} <= set(table):
                table["shift"] = (table["mean"] - first["mean"]) / first["sd"]
                table["spread"] = table["sd"] / first["sd"]
        whole = pd.concat(
            list(tables.values()),
            keys=pd.MultiIndex.from_tuples(list(tables), names=self.names),
            names=[*self.names, "parameter"],
        )
        by_parameter = whole.reorder_levels(["parameter", *self.names])
        rows = [(name, *values) for name in first.index for values in tables]
        return by_parameter.loc[rows]


def sensitivity(
    model: pm.Model | Callable[..., pm.Model],
    values: Mapping[str, Sequence[Any]],
    *,
    cluster: Any = None,
    cache: CacheChoice = None,
    progress: bool = True,
    **kwargs: Any,
) -> Sensitivity:
    """Fit a model with other priors.

    Every combination of the values is fitted. To change one hyper-parameter at a time, call it for
    each of them: with a cache, what the calls have in common is fitted once. All fits are those of
    one `map`.

    Parameters
    ----------
    model : pymc.Model or callable
        A model that has its hyper-parameters in `pymc.Data` of these names, or a function that
        takes them as keywords and returns the model. A given model is not changed.
    values : mapping of sequences
        The values of each hyper-parameter. The first of each make the combination that others are
        compared with. Values of a function's keyword have to be hashable.
    cluster : distributed.Client, cluster object, str or None, optional
        As for `map`.
    cache : {"memory", "disk"}, str, pathlib.Path, bool or Cache, optional
        As for `map`.
    progress : bool, default True
        As for `map`.
    **kwargs : Any
        As for `map`. With one ``random_seed`` for all, fits differ by their priors and not by
        chance alone.

    Returns
    -------
    Sensitivity
        ``fits``, and ``summary()``, which tells how far posteriors move.

    Raises
    ------
    TypeError
        If `model` is neither, or does not take a keyword.
    ValueError
        If `values` are empty, or name something that is no `pymc.Data` of the model.
    Exception
        As `map` raises it.

    Examples
    --------
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0.0, pm.Data("sigma", 1.0))
    ...     y = pm.Normal("y", mu, 1.0, observed=[0.1, -0.4, 0.3, 1.2, 0.8])
    >>> found = cp.sensitivity(
    ...     model,
    ...     {"sigma": [1.0, 10.0]},
    ...     draws=100,
    ...     tune=100,
    ...     chains=2,
    ...     random_seed=1,
    ...     cluster=client,
    ... )
    >>> found.fits[(10.0,)]["posterior"]["mu"].shape
    (2, 100)
    >>> float(found.summary().loc[("mu", 1.0), "shift"])
    0.0
    """
    names = tuple(values)
    combinations = list(itertools.product(*values.values()))
    if not names or not combinations:
        raise ValueError("values= has a sequence of values for each hyper-parameter: got none")
    make = _maker(model, names)
    fits = fit_all(
        Lazily(
            lambda number: make(dict(zip(names, combinations[number], strict=True))),
            len(combinations),
        ),
        cluster=cluster,
        cache=cache,
        progress=progress,
        **kwargs,
    )
    return Sensitivity(names, dict(zip(combinations, fits, strict=True)))


def _maker(model: Any, names: tuple[str, ...]) -> Callable[[dict[str, Any]], pm.Model]:
    """Give the function from values by name to a model with these."""
    if not isinstance(model, pm.Model):
        if not callable(model):
            raise TypeError(
                f"model= is a pymc.Model or a function that returns one: got a "
                f"{type(model).__name__}"
            )
        return lambda chosen: model(**chosen)
    data = [str(variable.name) for variable in model.data_vars]
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(
            f"the model has no pm.Data {', '.join(missing)}: it has {data}. Put the "
            "hyper-parameter into pm.Data, or give a function that takes it as a keyword"
        )

    def make(chosen: dict[str, Any]) -> pm.Model:
        clone = clone_model(model)
        pm.set_data(chosen, model=clone)
        return clone

    return make
