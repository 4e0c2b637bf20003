"""What users call: `cloud`, `sample` and `explain`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import dask.config
import pymc as pm

from cloudposterior import blocks
from cloudposterior.cache import Cache
from cloudposterior.cache.choice import MEMORY, CacheChoice, choose_cache
from cloudposterior.callbacks import checked_callbacks
from cloudposterior.cluster.connect import check_cluster
from cloudposterior.cluster.place import OnCluster
from cloudposterior.errors import BlockError, BlockWarning, TokenError, tell
from cloudposterior.explanation import Explanation, explain_request
from cloudposterior.identity import AnyModel
from cloudposterior.notify import Notifier
from cloudposterior.operations.calls import make_call
from cloudposterior.operations.sample import SampleCall
from cloudposterior.operations.until import Target
from cloudposterior.progress.table import Table
from cloudposterior.progress.view import RunView, views_under_way
from cloudposterior.run import Here, Place, fulfil

__all__ = ["Run", "all_callbacks", "cloud", "explain", "runs", "sample"]


def cache_of(choice: CacheChoice) -> Cache | None:
    if choice is None:
        choice = dask.config.get("cloudposterior.cache") or False
    return choose_cache(choice, directory=dask.config.get("cloudposterior.directory"))


def checked(model: object) -> pm.Model:
    if isinstance(model, AnyModel):
        return model
    hint = ""
    if hasattr(model, "backend"):
        hint = "; of a Bambi model pass `model.backend.model`, after `model.build()`"
    raise TypeError(f"cloudposterior takes a pymc.Model, got {type(model).__name__}{hint}")


def _target(until: Any, cluster: Any) -> Target | None:
    target = Target.of(until)
    if target is not None and cluster is None:
        raise ValueError(
            f"until={until!r} needs a cluster, which hands draws over while they are made: pass "
            'cluster="local" for worker processes on this machine'
        )
    return target


def _place(cluster: Any, *, keep_chains: bool, progress: bool) -> Place:
    check_cluster(cluster)
    if cluster is None:
        return Here(progress)
    return OnCluster(cluster, keep_chains, progress)


def all_callbacks(callbacks: Iterable[Any] | None, notify: Any) -> tuple[Any, ...]:
    """Give who is to be told of a run, those that send messages last.

    Parameters
    ----------
    callbacks, notify
        As for `cloud`.
    """
    notifiers = () if notify is None else (Notifier(notify),)
    return (*checked_callbacks(callbacks), *notifiers)


class cloud:  # noqa: N801  (a context manager, named as it reads)
    """Sample on a cluster, and cache what is sampled, inside a ``with`` block.

    While the block is open, `pymc.sample` for this model and in this thread looks into the cache
    first, and so do `pymc.sample_prior_predictive`, `pymc.sample_posterior_predictive`,
    `pymc.compute_log_likelihood`, `pymc.stats.compute_log_prior`, `pymc.compute_deterministics`,
    `pymc.sample_smc`, `pymc.fit`, `pymc.find_MAP` and `pymc_extras.fit`. It prints ``cached
    result`` and returns at once where the same request was run before; else PyMC runs it, with its
    output and its defaults, here or on a cluster, and the result is kept. Calls for a copy of this
    model are answered too: packages sample copies that PyMC made of theirs. Calls for other models,
    and calls in other threads, are PyMC's own.

    Parameters
    ----------
    model : pymc.Model
        The model. The block also enters its context.
    cluster : distributed.Client, cluster object, str or None, optional
        Where chains are drawn. None (the default) is this machine, as plain PyMC does it. A
        cluster object is a `distributed.LocalCluster`, a `coiled.Cluster` or any other of Dask's,
        a string the address of a scheduler (``"tcp://10.0.0.1:8786"``; ``"tls://..."`` with
        Dask's own security settings), and ``"local"`` a cluster of worker processes on this
        machine, which is kept until Python exits.
    cache : {"memory", "disk"}, str, pathlib.Path, bool or Cache, optional
        Where results are kept: ``"memory"`` (or True) for as long as the process lives, ``"disk"``
        for the directory ``.cloudposterior`` in the working directory, a path for a directory of
        one's own, False for no cache at all. None (the default) is the setting
        ``cloudposterior.cache`` of `dask.config`, which is ``"memory"`` unless you change it.
    overwrite : bool, default False
        Sample in any case and replace the entry.
    keep_chains : bool, default False
        If chains fail on a cluster, return those that did not, with a warning. Else the first
        failure is raised.
    progress : bool, default True
        Show how a run on a cluster stands: a table in a notebook or a terminal, lines of text
        elsewhere, and the page "Posterior" of the Dask dashboard. ``progressbar=False`` and
        ``quiet=True`` of `pymc.sample` silence it here, and leave the page.
    until : bool or mapping, optional
        End all chains once rank-normalized split R-hat and bulk and tail ESS of every element of
        every free variable reach a target: ``{"r_hat": 1.01, "ess": 400}``, or True for these.
        ``draws`` is the most there will be. It is looked at after fixed numbers of draws (100 of
        each chain, and then a tenth more each time), so the result, of equally long chains,
        depends on the seed and not on time. None (the default) draws all. Needs a cluster, and
        PyMC's own sampler or nutpie. A key of its own.
    callbacks : iterable of Callback, optional
        Objects that are told of each call: that it starts, how a run on a cluster stands, and that
        it has finished or failed (see `Callback`). What they raise is a warning. None for nobody.
    notify : str or iterable of str, optional
        Where to send a message when a run starts, and one when it has finished (with R-hat, ESS
        and divergences) or failed: ``"ntfy://topic"``, or any other URL of Apprise, which comes
        with the extra ``notify``. A cached result sends nothing. None for nowhere.

    Raises
    ------
    TypeError
        If `model` is no `pymc.Model`, `cache` is nothing that results can be kept in, `cluster`
        is no cluster or an asynchronous client, or `callbacks` are none.
    ValueError
        If `until` is no target, or nobody could look at the draws while they are made; if Apprise
        does not understand a URL of `notify`.
    ImportError
        If `notify` is given, and Apprise is not installed.
    ClusterError
        If the cluster cannot be reached, is closed, gets no worker in time, or has workers with
        another Python, PyMC, PyTensor or sampler. Nothing was sampled then.
    ShippingError
        If the model or an argument cannot be sent to a worker.
    ChainError
        If a chain fails on its worker; it names both, and what PyMC said.
    BlockError
        If the block is entered while it is open, or is left in another order or thread than it
        was entered. `pymc.sample` is put back in any case.

    Warns
    -----
    BlockWarning
        If the block answered no call, and PyMC's functions were called on other models in it.
    TokenWarning
        If no complete key can be made; the warning names the culprit, and the call runs uncached.
    CacheWarning
        If an entry cannot be read, or the result cannot be saved. It is returned all the same.
    CallbackWarning
        If a callback fails, or a message cannot be sent.

    Notes
    -----
    The key is the token of the model (`dask.base.tokenize`) with every argument that the draws
    depend on, resolved as PyMC resolves it: ``pm.sample()`` and ``pm.sample(draws=1000)`` are one
    request, and so are ``target_accept=0.9`` and ``nuts={"target_accept": 0.9}``, ``chains=None``
    and the number it stands for, ``nuts_sampler=None`` and the sampler PyMC would choose. Step
    methods count with all their settings and their present state. The versions of PyMC, PyTensor,
    NumPy and the sampler are part of the key. How a run looks and where it runs is not:
    ``progressbar``, ``quiet``, ``cores``, ``mp_ctx``, ``blas_cores``, ``callback``,
    ``compute_convergence_checks``.

    ``random_seed=None`` asks for *a* posterior sample, so a second such call is a hit. The seed
    that was drawn is in the result's attribute ``cloudposterior_random_seed``; passing it as
    ``random_seed`` repeats the run (of a generator it is the state, with its seed sequence, in
    JSON). A `numpy.random.Generator` is keyed by its state, seed
    sequence included; it is left as PyMC leaves it where the call runs, and untouched by a hit.

    What a hit returns is the caller's own copy.

    R-hat and ESS of `until` are those of Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021),
    *Rank-normalization, folding, and localization: an improved R-hat for assessing convergence of
    MCMC*, doi:10.1214/20-BA1221, as ArviZ computes them.

    Examples
    --------
    >>> import cloudposterior as cp
    >>> import pymc as pm
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu")
    ...     y = pm.Normal("y", mu, 1.0, observed=[0.1, -0.4, 0.3, 1.2, 0.8])
    >>> with cp.cloud(model, cluster=client, cache="disk"):
    ...     idata = pm.sample(draws=100, tune=100, chains=2, random_seed=1)
    ...     again = pm.sample(draws=100, tune=100, chains=2, random_seed=1)  # cached result
    >>> idata["posterior"]["mu"].shape  # (chain, draw, *shape)
    (2, 100)
    >>> bool((again["posterior"]["mu"] == idata["posterior"]["mu"]).all())
    True
    """

    def __init__(
        self,
        model: pm.Model,
        *,
        cluster: Any = None,
        cache: CacheChoice = None,
        overwrite: bool = False,
        keep_chains: bool = False,
        progress: bool = True,
        until: Any = None,
        callbacks: Iterable[Any] | None = None,
        notify: str | Iterable[str] | None = None,
    ) -> None:
        self.model = checked(model)
        self._until = _target(until, cluster)
        self._place = _place(cluster, keep_chains=keep_chains, progress=progress)
        self._cache = cache_of(cache)
        self._overwrite = overwrite
        self._callbacks = all_callbacks(callbacks, notify)

    def __enter__(self) -> pm.Model:
        blocks.open_block(self)
        self.model.__enter__()
        return self.model

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        closing = blocks.close_block(self)
        wrong = self._leave(closing)
        if wrong is not None:
            raise BlockError(f"{wrong}; the block is closed all the same") from error
        if closing.missed and error is None:
            tell(
                BlockWarning,
                f"this cp.cloud block answered no call: {closing.missed}. So plain PyMC ran it, "
                "without this block's cluster and cache. Pass cp.cloud the model that is sampled; "
                "if another package makes that model itself, pass it to cp.sample",
            )

    def _leave(self, closing: blocks.Closing) -> str | None:
        """Leave the model's context; say what was wrong with the moment."""
        if not closing.in_thread:
            return (
                "a cp.cloud block was entered in one thread and left in another, "
                "where the context of its model cannot be left"
            )
        if not _leave_context(self.model):
            return "the context of the model was left before the cp.cloud block around it"
        if not closing.in_order:
            return "a cp.cloud block was left before the one that was entered inside of it"
        return None

    def answer(
        self, model: pm.Model, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Answer a call of one of PyMC's functions on this model, or a copy of it."""
        on_cluster = isinstance(self._place, OnCluster)
        call = make_call(name, model, args, kwargs, on_cluster=on_cluster, until=self._until)
        with blocks.answering():
            return fulfil(
                call,
                self._cache,
                self._place,
                overwrite=self._overwrite,
                callbacks=self._callbacks,
            )


def _leave_context(model: pm.Model) -> bool:
    """Leave a model's context wherever it stands among those of this thread.

    PyMC takes the innermost context off, whichever model is left.
    """
    above = []
    try:
        while (top := pm.modelcontext(None)) is not model:
            top.__exit__(None, None, None)
            above.append(top)
        found = True
        model.__exit__(None, None, None)
    except TypeError:  # no context is open
        found = False
    for other in reversed(above):
        other.__enter__()
    return found


def sample(
    model: pm.Model,
    *args: Any,
    cluster: Any = None,
    cache: CacheChoice = None,
    overwrite: bool = False,
    keep_chains: bool = False,
    progress: bool = True,
    until: Any = None,
    callbacks: Iterable[Any] | None = None,
    notify: str | Iterable[str] | None = None,
    **kwargs: Any,
) -> Any:
    """Sample a model through the cache and on a cluster, without swapping anything.

    Parameters
    ----------
    model : pymc.Model
        The model.
    *args : Any
        Positional arguments of `pymc.sample`.
    cluster : distributed.Client, cluster object, str or None, optional
        As for `cloud`.
    cache : {"memory", "disk"}, str, pathlib.Path, bool or Cache, optional
        As for `cloud`.
    overwrite, keep_chains : bool, default False
        As for `cloud`.
    progress : bool, default True
        As for `cloud`.
    until : bool or mapping, optional
        As for `cloud`.
    callbacks : iterable of Callback, optional
        As for `cloud`.
    notify : str or iterable of str, optional
        As for `cloud`.
    **kwargs : Any
        As for `pymc.sample`: ``draws``, ``tune``, ``chains``, ``random_seed``...

    Returns
    -------
    xarray.DataTree or arviz.InferenceData
        What `pymc.sample` returns with the installed PyMC; variables of shape
        ``(chain, draw, *shape)``.

    Raises
    ------
    TypeError
        As for `cloud`, and as `pymc.sample` raises it.
    ValueError, ImportError
        As for `cloud`.
    ClusterError, ShippingError, ChainError
        As for `cloud`.

    Examples
    --------
    >>> idata = cp.sample(model, draws=100, tune=100, chains=2, random_seed=1, cache="disk")
    >>> idata["posterior"]["mu"].dims
    ('chain', 'draw')
    >>> int(idata.attrs["cloudposterior_random_seed"])
    1
    """
    block = cloud(
        model,
        cluster=cluster,
        cache=cache,
        overwrite=overwrite,
        keep_chains=keep_chains,
        progress=progress,
        until=until,
        callbacks=callbacks,
        notify=notify,
    )
    with model:
        return block.answer(model, "sample", args, kwargs)


class Run:
    """A run on a cluster that is under way in this process, as `runs` lists it.

    Examples
    --------
    A callback that ends a run after an hour, with the draws that it has by then:

    >>> class AnHour:
    ...     def on_segment(self, run, status):
    ...         if status.elapsed_s > 3600:
    ...             cp.runs()[-1].stop()
    >>> idata = cp.sample(
    ...     model, draws=100, tune=100, chains=2, cluster=client, callbacks=[AnHour()]
    ... )
    """

    def __init__(self, view: RunView) -> None:
        self._view = view

    def __repr__(self) -> str:
        return f"<cloudposterior.Run {'; '.join(self.status().lines())}>"

    def status(self) -> Table:
        """Say how it stands.

        Returns
        -------
        cloudposterior.progress.table.Table
            A row for each chain, times in seconds; ``lines()`` puts it in words.
        """
        return self._view.status()

    def stop(self) -> None:
        """Ask its chains to end, and return at once.

        The call that samples returns the draws made by then, chains of equal length. It raises
        `KeyboardInterrupt` if there are none after tuning.
        """
        self._view.stop()


def runs() -> list[Run]:
    """List the runs on clusters that are under way in this process.

    Returns
    -------
    list of Run
        The latest at the end. What another thread samples can be looked at and stopped.

    Examples
    --------
    >>> cp.runs()
    []
    """
    return [Run(view) for view in views_under_way()]


def explain(
    model: pm.Model,
    *args: Any,
    cluster: Any = None,
    cache: CacheChoice = None,
    until: Any = None,
    **kwargs: Any,
) -> Explanation:
    """Say whether a call would be answered from a cache, and what changed if it would not.

    Parameters
    ----------
    model : pymc.Model
        The model.
    *args : Any
        Positional arguments of `pymc.sample`.
    cluster : distributed.Client, cluster object, str or None, optional
        Where the call would run, as for `cloud`; nothing is asked of it. Workers compile with
        settings of their own, so the same call here and there may be two requests.
    cache : {"memory", "disk"}, str, pathlib.Path or Cache, optional
        The cache to look into. None looks where `cloud` does, and if that is the memory and
        nothing is kept there, into the directory of ``"disk"``. Nothing is sampled or changed.
    until : bool or mapping, optional
        As for `cloud`.
    **kwargs : Any
        As for `pymc.sample`.

    Returns
    -------
    Explanation
        Prints as ``hit: ...``, or as ``miss`` with what changed from the nearest of the newest
        entries of the model.

    Raises
    ------
    TypeError, ValueError
        As for `cloud`.

    Examples
    --------
    >>> call = {"draws": 100, "tune": 100, "chains": 2, "random_seed": 1}
    >>> idata = cp.sample(model, cache="disk", **call)
    >>> cp.explain(model, cache="disk", **call)
    hit: .cloudposterior/mu/draws100_tune100_chains2_seed1-....nc, sampled ...
    >>> cp.explain(model, cache="disk", target_accept=0.9, **call)
    miss, compared with .cloudposterior/mu/draws100_tune100_chains2_seed1-....nc:
      target_accept 0.8 -> 0.9
    """
    kept = cache_of(cache)
    if cache is None and kept is MEMORY and not MEMORY.entries():
        kept = cache_of("disk")
    if kept is None:
        return Explanation(False, reason="there is no cache to look into (cache=False)")
    target = _target(until, cluster)
    call = SampleCall(checked(model), args, kwargs, on_cluster=cluster is not None, until=target)
    reason = call.why_not()
    if reason is not None:
        return Explanation(False, reason=reason)
    try:
        found = Explanation(False)
        for request in call.requests():
            found = explain_request(kept, request)
            if found.hit:
                return found
    except TokenError as error:
        return Explanation(False, reason=f"no key can be made: {error}")
    return found
