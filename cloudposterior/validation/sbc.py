"""Simulation-based calibration: whether what is known is found again, as often as it should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
from xarray import DataArray, Dataset

from cloudposterior.cache.choice import CacheChoice
from cloudposterior.posterior import group
from cloudposterior.validation.fits import Lazily, fit_all, posterior_of

__all__ = ["SBC", "sbc"]

_DIM = "simulation"


@dataclass(frozen=True)
class SBC:
    """The ranks of simulated parameters among the draws of their posteriors.

    Attributes
    ----------
    ranks : xarray.Dataset
        For each parameter how many draws are less than the value that the data were simulated with,
        ``(simulation, *shape)``: integers from 0 to `draws`.
    draws : int
        How many draws of each fit were compared, after thinning.
    thin : int
        Every which draw of a chain was compared.
    random_seed : int
        What the simulations were seeded with.

    Examples
    --------
    Made by `sbc`; here from ranks that are as even as can be:

    >>> import xarray as xr
    >>> ranks = xr.Dataset({"mu": ("simulation", np.arange(100))})
    >>> found = cp.SBC(ranks, draws=99, thin=1, random_seed=0)
    >>> bool(found.inside()["mu"])
    True
    >>> float(found.pit["mu"].max()) < 1.0
    True
    """

    ranks: Dataset
    draws: int
    thin: int
    random_seed: int

    @property
    def pit(self) -> Dataset:
        """The ranks as numbers from 0 to 1, uniform where the model is calibrated.

        A rank is one of ``draws + 1`` steps; a number from the same seed puts it somewhere within
        its step, so that what is compared with a uniform distribution has no steps either.
        """
        rng = np.random.default_rng(self.random_seed)
        return self.ranks.map(lambda rank: (rank + rng.uniform(size=rank.shape)) / (self.draws + 1))

    def inside(self, prob: float = 0.95) -> Dataset:
        """Tell for each parameter whether its ranks are as uniform as those of a right model.

        Parameters
        ----------
        prob : float, default 0.95
            How probable it is for a right model that the ECDF of *one* parameter's ranks stays
            inside of the band along its whole length. With many parameters, some of a right model
            are outside.

        Returns
        -------
        xarray.Dataset
            True or False for each element of each parameter, ``(*shape)``.

        Raises
        ------
        ImportError
            If ArviZ is 0.x and arviz-stats is not installed.

        Notes
        -----
        The band is that of Säilynoja, Bürkner and Vehtari (2022), *Graphical test for discrete
        uniformity and its applications in goodness-of-fit evaluation and multiple sample
        comparison*, doi:10.1007/s11222-022-10090-6, as arviz-stats simulates it. `plot` shows the
        same band.
        """
        points, lower, upper = self._band(prob)

        def by_element(pit: DataArray) -> DataArray:
            ecdf = np.apply_along_axis(_ecdf, 0, pit.transpose(_DIM, ...).values, points)
            # the band is along the first axis, the elements are along the others
            edges = [edge.reshape(-1, *[1] * (pit.ndim - 1)) for edge in (lower, upper)]
            found = np.all((edges[0] <= ecdf) & (ecdf <= edges[1]), axis=0)
            return pit.isel({_DIM: 0}, drop=True).copy(data=found)

        return self.pit.map(by_element)

    def plot(self, prob: float = 0.95, *, columns: int = 4) -> Any:
        """Plot how far the ECDF of the ranks is from that of a right model, with the band.

        A line above the band says that posteriors are too high, one below it that they are too
        low. Above it on the left and below it on the right, they are too narrow.

        Parameters
        ----------
        prob : float, default 0.95
            As for `inside`.
        columns : int, default 4
            How many panels are beside each other.

        Returns
        -------
        matplotlib.figure.Figure
            A panel for each element of each parameter.

        Raises
        ------
        ImportError
            If ArviZ is 0.x and arviz-stats is not installed.
        """
        from matplotlib.figure import Figure

        points, lower, upper = self._band(prob)
        panels = dict(_elements(self.pit))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(3 * columns, 2.5 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        places = iter(axes.ravel())
        for (title, values), axis in zip(panels.items(), places, strict=False):
            axis.fill_between(points, lower - points, upper - points, alpha=0.2)
            # at the same places as the band: steps between them would leave it where they may
            axis.plot(points, _ecdf(values, points) - points)
            axis.set_title(title)
        for axis in places:
            axis.remove()
        figure.supxlabel("rank, as a fraction")
        figure.supylabel("ECDF - uniform")
        return figure

    def _band(self, prob: float) -> tuple[Any, Any, Any]:
        """Give places from 0 to 1, and the lower and the upper edge of the band there."""
        try:
            from arviz_stats.ecdf_utils import ecdf_pit
        except ImportError as error:
            raise ImportError(
                "arviz-stats has the band of the ranks: pip install 'arviz-stats[xarray]'"
            ) from error
        # of the values it reads their number; the band is simulated with a seed of its own
        uniform = np.linspace(0.0, 1.0, self.ranks.sizes[_DIM])
        points, _, lower, upper = ecdf_pit(uniform, prob, n_simulations=1000)
        return points, lower, upper


def _ecdf(values: Any, points: Any) -> Any:
    return np.searchsorted(np.sort(values), points, side="right") / len(values)


def _elements(dataset: Dataset) -> Iterator[tuple[str, Any]]:
    """Give the values of each element of each variable, with a name for it."""
    for name, variable in dataset.data_vars.items():
        flat = variable.transpose(_DIM, ...)
        for place in np.ndindex(*flat.shape[1:]):
            at = dict(zip(flat.dims[1:], place, strict=True))
            labels = [str(flat[dim].values[i]) for dim, i in at.items()]
            yield f"{name}[{', '.join(labels)}]" if labels else str(name), flat.isel(at).values


def sbc(
    model: pm.Model,
    n: int = 500,
    *,
    simulate_from: pm.Model | None = None,
    var_names: list[str] | None = None,
    thin: int | None = None,
    cluster: Any = None,
    cache: CacheChoice = None,
    progress: bool = True,
    random_seed: int = 0,
    **kwargs: Any,
) -> SBC:
    """Check a model and its sampler by fits to data that were simulated from it.

    Parameters and data are drawn from the prior, and the model is fitted to each set of data. If
    model and sampler are right, the rank of a parameter among the draws of its posterior is
    uniform. All fits are those of one `map`.

    Parameters
    ----------
    model : pymc.Model
        The model, with observed variables; their values do not matter, their shapes do.
    n : int, default 500
        How many simulations. The first ones of a larger number are those of a smaller one.
    simulate_from : pymc.Model, optional
        The model that parameters and data are drawn from, with variables of the same names. None
        takes `model`. Another one tells whether a wrong model would be noticed.
    var_names : list of str, optional
        The parameters to rank: free variables or deterministics. None takes all free variables.
    thin : int, optional
        Compare every `thin`-th draw of a chain: ranks are uniform for independent draws only. None
        takes as many draws as the effective sample size (bulk) of the median fit allows, where
        each fit counts with its worst parameter.
    cluster : distributed.Client, cluster object, str or None, optional
        As for `map`.
    cache : {"memory", "disk"}, str, pathlib.Path, bool or Cache, optional
        As for `map`.
    progress : bool, default True
        As for `map`.
    random_seed : int, default 0
        Seeds parameters, data and fits, each fit in its own way. It is no None: a call finds what
        an earlier one has done only if it simulates the same.
    **kwargs : Any
        As for `map`: ``draws``, ``tune``, ``chains``... PyMC's checks of convergence are off unless
        they are asked for.

    Returns
    -------
    SBC
        The ranks; ``inside()`` decides and ``plot()`` shows.

    Raises
    ------
    ValueError
        If there is nothing to observe or to rank, there is no seed, or the model has potentials,
        which draws from the prior leave out.
    Exception
        As `map` raises it.

    Notes
    -----
    Talts, Betancourt, Simpson, Vehtari and Gelman (2018), *Validating Bayesian inference algorithms
    with simulation-based calibration*, arXiv:1804.06788: algorithm 2, with thinning.

    All fits are in memory until they are ranked: few draws of each are enough.

    Examples
    --------
    >>> found = cp.sbc(model, n=2, draws=50, tune=50, chains=2, cluster=client)
    >>> found.ranks["mu"].sizes["simulation"]
    2
    >>> figure = found.plot()
    """
    source = model if simulate_from is None else simulate_from
    names = [str(rv.name) for rv in model.free_RVs] if var_names is None else list(var_names)
    _check(model, source, names)
    if random_seed is None:
        raise ValueError("random_seed= is a number: other simulations would be fitted at each call")
    seeds = [int(seed) for seed in np.random.default_rng(random_seed).integers(2**30, size=n)]
    prior, data = _simulated(model, source, n, seeds[0])
    fits = fit_all(
        Lazily(lambda i: pm.observe(model, {name: data[name].values[0, i] for name in data}), n),
        arguments=[{"random_seed": seed} for seed in seeds],
        cluster=cluster,
        cache=cache,
        progress=progress,
        **{"compute_convergence_checks": False, **kwargs},
    )
    posteriors = [posterior_of(fit)[names] for fit in fits]
    thin = _thinning(posteriors) if thin is None else thin
    thinned = [posterior.isel(draw=slice(None, None, thin)) for posterior in posteriors]
    return SBC(
        ranks=_ranks(prior[names], thinned),
        draws=thinned[0].sizes["chain"] * thinned[0].sizes["draw"],
        thin=thin,
        random_seed=random_seed,
    )


def _check(model: pm.Model, source: pm.Model, names: list[str]) -> None:
    for each in (model, source):
        if each.potentials:
            raise ValueError(
                "a model with potentials cannot be simulated from its prior, which leaves them "
                f"out: {', '.join(str(potential.name) for potential in each.potentials)}"
            )
    if not model.observed_RVs:
        raise ValueError("cp.sbc needs observed variables, of which it simulates the values")
    wanted = {*names, *(str(rv.name) for rv in model.observed_RVs)}
    for which, each in (("the model", model), ("simulate_from=", source)):
        if wanted - set(each.named_vars):
            missing = ", ".join(sorted(wanted - set(each.named_vars)))
            raise ValueError(f"{which} has no variable of these names: {missing}")
    if not names:
        raise ValueError("there is no parameter to rank")


def _simulated(
    model: pm.Model, source: pm.Model, number: int, seed: int
) -> tuple[Dataset, Dataset]:
    """Draw parameters and data, ``(1, number, *shape)``."""
    drawn = pm.sample_prior_predictive(draws=number, model=source, random_seed=seed)
    prior, data = group(drawn, "prior"), group(drawn, "prior_predictive")
    if prior is None or data is None:
        raise ValueError("simulate_from= has no observed variables")
    return prior, data[[str(rv.name) for rv in model.observed_RVs]]


def _thinning(posteriors: list[Dataset]) -> int:
    """Give the thinning that leaves about as many draws as are independent."""
    worst = [
        min(float(values.min()) for values in az.ess(posterior).data_vars.values())
        for posterior in posteriors
    ]
    draws = posteriors[0].sizes["chain"] * posteriors[0].sizes["draw"]
    # a parameter that never moved has none
    effective = np.nanmedian(worst) if np.isfinite(worst).any() else draws
    return max(1, int(np.ceil(draws / effective)))


def _ranks(prior: Dataset, posteriors: list[Dataset]) -> Dataset:
    """Count the draws that are less than what was simulated."""

    def rank(name: Any) -> DataArray:
        truth = prior[name].values[0]
        values = [
            (np.asarray(posterior[name]) < truth[i]).sum(axis=(0, 1))
            for i, posterior in enumerate(posteriors)
        ]
        like = posteriors[0][name].isel(chain=0, draw=0, drop=True)
        return DataArray(np.stack(values), like.coords, (_DIM, *like.dims), name=name)

    return Dataset({name: rank(name) for name in prior.data_vars})
