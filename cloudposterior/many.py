"""Many fits at once: `map`."""

from __future__ import annotations

import copy
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import pymc as pm

from cloudposterior.api import all_callbacks, sample
from cloudposterior.cache.choice import CacheChoice
from cloudposterior.callbacks import Telling
from cloudposterior.cluster.connect import check_cluster, open_client
from cloudposterior.cluster.submitted import SubmittedRun, wait_for_any
from cloudposterior.operations.calls import make_call
from cloudposterior.progress.fits import FitsBar
from cloudposterior.submission import submit

__all__ = ["map"]

_ON_ERROR = ("raise", "return")

_SEGMENTS_S = 1.0
"""How often callbacks are told how fits stand."""


@dataclass(frozen=True)
class _Fit:
    """One model, and what its call takes beside it."""

    name: Any
    model: pm.Model
    arguments: dict[str, Any]


def map(  # noqa: A001  (what it does to models, and what Dask's users call that)
    models: Iterable[pm.Model] | Mapping[Any, pm.Model],
    *,
    arguments: Iterable[Mapping[str, Any]] | Mapping[Any, Mapping[str, Any]] | None = None,
    cluster: Any = None,
    cache: CacheChoice = None,
    overwrite: bool = False,
    keep_chains: bool = False,
    on_error: str = "raise",
    progress: bool = True,
    until: Any = None,
    callbacks: Iterable[Any] | None = None,
    notify: str | Iterable[str] | None = None,
    **kwargs: Any,
) -> Any:
    """Sample many models: all chains of all of them share one cluster.

    Each fit is a run of its own, as `submit` makes it: whoever asks for the same joins it, and its
    result is cached when it ends, so that a second call after a crash does only what is missing.
    Equal requests in one call are one run. As many fits are under way as the cluster has threads,
    and two more: the first chains of all of them come before the second ones.

    Parameters
    ----------
    models : iterable of pymc.Model, or mapping to pymc.Model
        A list, a generator, or a dict, of which the names are kept. A generator is asked for the
        next model when there is room for it.
    arguments : iterable of mapping, or mapping of mappings, optional
        What each call takes beside what all of them take: one set per model, in the same order, or
        under the same names where `models` has names. None for nothing.
    cluster : distributed.Client, cluster object, str or None, optional
        As for `cloud`. None samples one model after the other in this process.
    cache : {"memory", "disk"}, str, pathlib.Path, bool or Cache, optional
        As for `cloud`.
    overwrite, keep_chains : bool, default False
        As for `cloud`.
    on_error : {"raise", "return"}, default "raise"
        ``"raise"`` raises the first error; fits that are under way go on, and the same call joins
        them. ``"return"`` puts an error in the place of the result.
    progress : bool, default True
        Whether it is shown how many fits are done, running and failed, and when all will be.
    until : bool or mapping, optional
        As for `cloud`.
    callbacks : iterable of Callback, optional
        Told of each fit, as for `cloud`.
    notify : str or iterable of str, optional
        As for `cloud`: two messages for each fit.
    **kwargs : Any
        What all calls take, as for `pymc.sample`: ``draws``, ``tune``, ``chains``,
        ``random_seed``. A seed is the same for all.

    Returns
    -------
    list or dict
        The results in the order of the models, each as `sample` returns it; a dict by name where
        `models` is a mapping. `arviz.compare` takes that as it is where there are log-likelihoods
        (`pymc.compute_log_likelihood`).

    Raises
    ------
    TypeError, ValueError
        If `models` is a single model, `on_error` is neither, or `arguments` are not one for each.
    Exception
        With ``on_error="raise"`` what `cloudposterior.sample` raises; a note says for which model.

    Examples
    --------
    >>> def build(sigma):
    ...     with pm.Model() as model:
    ...         mu = pm.Normal("mu", 0.0, sigma)
    ...         pm.Normal("y", mu, 1.0, observed=[0.1, -0.4, 0.3, 1.2, 0.8])
    ...     return model
    >>> models = {"narrow": build(1.0), "wide": build(10.0)}
    >>> fits = cp.map(models, draws=100, tune=100, chains=2, random_seed=1, cluster=client)
    >>> fits["wide"]["posterior"]["mu"].shape
    (2, 100)
    """
    if isinstance(models, pm.Model):
        raise TypeError("cp.map takes several models, in a list, a dict or a generator: got one")
    if on_error not in _ON_ERROR:
        raise ValueError(f"on_error= is 'raise' or 'return': got {on_error!r}")
    if cluster is not None:
        check_cluster(cluster)
    fits = _fits(models, arguments, kwargs)
    total = len(models) if isinstance(models, Sized) else None
    options = {
        "cache": cache,
        "overwrite": overwrite,
        "keep_chains": keep_chains,
        "until": until,
    }
    told = all_callbacks(callbacks, notify)
    with FitsBar(total, shown=progress) as bar:
        mapping = _Mapping(options, told, on_error == "raise", bar)
        if cluster is None:
            mapping.sample_here(fits)
        else:
            mapping.sample_on(cluster, fits)
    if isinstance(models, Mapping):
        return {name: mapping.results[number] for number, name in enumerate(models)}
    return [mapping.results[number] for number in range(len(mapping.results))]


def _fits(models: Any, arguments: Any, shared: dict[str, Any]) -> Iterator[_Fit]:
    """Give one fit after the other, each with all of its arguments."""
    named = isinstance(models, Mapping)
    pairs: Iterable[tuple[Any, Any]] = models.items() if named else enumerate(models)
    if named and isinstance(arguments, Mapping):
        if arguments.keys() - models.keys():
            unknown = ", ".join(sorted(repr(name) for name in arguments.keys() - models.keys()))
            raise ValueError(f"arguments= has names that models= has not: {unknown}")
        sets: Iterable[Any] = (arguments.get(name, {}) for name in models)
    else:
        sets = itertools.repeat({}) if arguments is None else iter(arguments)
    yield from _zipped(pairs, sets, shared, counted=arguments is not None)


def _zipped(pairs: Any, sets: Any, shared: dict[str, Any], *, counted: bool) -> Iterator[_Fit]:
    sets = iter(sets)
    for name, model in pairs:
        try:
            own = next(sets)
        except StopIteration:
            raise ValueError(
                f"arguments= has a set of arguments for each model: there is none for {name!r}"
            ) from None
        if not isinstance(model, pm.Model):
            raise TypeError(f"cp.map takes models: {name!r} is a {type(model).__name__}")
        _refuse_callbacks(own)
        yield _Fit(name, model, {**shared, **own})
    if counted and next(sets, None) is not None:
        raise ValueError("arguments= has more sets of arguments than there are models")


def _refuse_callbacks(arguments: Mapping[str, Any]) -> None:
    for name in ("callbacks", "notify"):
        if name in arguments:
            raise TypeError(f"{name}= is for all fits: pass it to cp.map itself")


class _Mapping:
    """The fits of one call, and what came of them.

    Parameters
    ----------
    options : dict
        What `sample` and `submit` take beside the model and its arguments.
    callbacks : tuple
        Who is told of each fit.
    raises : bool
        Whether the first error ends the call.
    bar : FitsBar
        Shows how the fits stand.
    """

    def __init__(
        self, options: dict[str, Any], callbacks: tuple[Any, ...], raises: bool, bar: FitsBar
    ) -> None:
        self._options = options
        self._callbacks = callbacks
        self._raises = raises
        self._bar = bar
        self._told_s = time.monotonic()
        self.results: dict[int, Any] = {}

    def sample_here(self, fits: Iterator[_Fit]) -> None:
        """Sample one after the other."""
        for number, fit in enumerate(fits):
            self._bar.show(running=1)
            try:
                result = sample(
                    fit.model, callbacks=self._callbacks, **self._options, **fit.arguments
                )
            except Exception as error:  # noqa: BLE001  (it is raised, or the result)
                self._failed(number, fit, error)
            else:
                self._finished(number, result)

    def sample_on(self, cluster: Any, fits: Iterator[_Fit]) -> None:
        """Sample on a cluster, many at once."""
        with open_client(cluster, chains=os.cpu_count() or 1) as client:
            under_way: dict[str, _UnderWay] = {}
            numbered = enumerate(fits)
            try:
                while self._fill_up(under_way, numbered, client) or under_way:
                    for run_id in wait_for_any({i: of.run for i, of in under_way.items()}):
                        self._fetch(under_way.pop(run_id))
                    self._tell_of_segments(under_way.values())
                    self._bar.show(running=len(under_way))
            except BaseException as error:
                for of in under_way.values():
                    of.run.close()
                if under_way:
                    error.add_note(f"{len(under_way)} more fits go on: the same call joins them")
                raise

    def _fill_up(
        self, under_way: dict[str, _UnderWay], numbered: Iterator[tuple[int, _Fit]], client: Any
    ) -> bool:
        """Submit as many fits as there is room for; say whether there was one."""
        room = sum(client.nthreads().values()) + 2
        began = False
        while len(under_way) < max(room, 3):
            number, fit = next(numbered, (-1, None))
            if fit is None:
                break
            began = True
            try:
                run = submit(fit.model, cluster=client, **self._options, **fit.arguments)
            except Exception as error:  # noqa: BLE001  (it is raised, or the result)
                self._failed(number, fit, error)
                continue
            known = under_way.setdefault(run.id, _UnderWay(run, []))
            if known.run is not run:
                run.close()
            telling = self._telling(fit)
            telling.start(from_cache=run.from_cache)
            known.fits.append((number, fit, telling))
            self._bar.show(running=len(under_way))
        return began

    def _telling(self, fit: _Fit) -> Telling:
        call = make_call("sample", fit.model, (), fit.arguments, on_cluster=True)
        return Telling(self._callbacks, call)

    def _tell_of_segments(self, under_way: Iterable[_UnderWay]) -> None:
        """Tell how all fits stand, where somebody wants to know."""
        if time.monotonic() - self._told_s < _SEGMENTS_S:
            return
        self._told_s = time.monotonic()
        for of in under_way:
            listeners = [telling.listener for *_, telling in of.fits]
            if any(listeners):
                status = of.run.status()
                for listener in filter(None, listeners):
                    listener(status)

    def _fetch(self, of: _UnderWay) -> None:
        try:
            result = of.run.result()
        except Exception as error:  # noqa: BLE001  (it is raised, or the result)
            for *_, telling in of.fits:
                telling.fail(error)
            for number, fit, _ in of.fits:
                self._failed(number, fit, error)
            return
        for number, _, telling in of.fits:
            # who asked twice gets two
            self._finished(number, result)
            telling.finish(result)
            result = copy.deepcopy(result)

    def _finished(self, number: int, result: Any) -> None:
        self.results[number] = result
        self._bar.done()

    def _failed(self, number: int, fit: _Fit, error: Exception) -> None:
        error.add_note(f"while sampling {_title(fit)}")
        self._bar.failed()
        if self._raises:
            raise error
        self.results[number] = error


@dataclass(frozen=True)
class _UnderWay:
    """A run, and the fits that it is for: more than one where requests are equal."""

    run: SubmittedRun
    fits: list[tuple[int, _Fit, Telling]]


def _title(fit: _Fit) -> str:
    name = f"model {fit.name!r}"
    return f"{name} ({fit.model.name})" if fit.model.name else name
