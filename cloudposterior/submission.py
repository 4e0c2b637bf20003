"""Runs that go on without whoever asked for them: `submit` and `attach`."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from typing import Any

import pymc as pm

from cloudposterior.api import cache_of, checked
from cloudposterior.cache.choice import CacheChoice
from cloudposterior.cluster.connect import check_cluster, open_client
from cloudposterior.cluster.driver import drive
from cloudposterior.cluster.interrupts import keep_interrupts
from cloudposterior.cluster.keeping import runs_kept
from cloudposterior.cluster.parcel import Parcel, reachable
from cloudposterior.cluster.submitted import SubmittedRun, find_run, id_of, open_ways, send_run
from cloudposterior.cluster.versions import PACKAGES
from cloudposterior.cluster.workers import check_workers
from cloudposterior.errors import ClusterError, TokenWarning, warn
from cloudposterior.operations.request import Request
from cloudposterior.operations.sample import SampleCall
from cloudposterior.operations.until import Target
from cloudposterior.posterior import from_tree
from cloudposterior.run import look_up, say_hit

__all__ = ["attach", "submit"]

_NEEDS_THIS_PROCESS = {
    "callback": "is called in this process with each draw",
    "trace": "keeps the draws in a place of this process",
    "callbacks": "are called in this process",
    "notify": "sends from this process, since its URLs, which may hold credentials, do not travel",
}


def submit(
    model: pm.Model,
    *args: Any,
    cluster: Any,
    cache: CacheChoice = None,
    overwrite: bool = False,
    keep_chains: bool = False,
    until: Any = None,
    **kwargs: Any,
) -> SubmittedRun:
    """Have a cluster sample a model, whatever becomes of this process, and return at once.

    A worker drives the run. Its result stays on the cluster until it is fetched, or for the
    setting ``cloudposterior.cluster.keep-results`` (a day). Whoever submits the same request, or
    samples it in a `cloud` block on this cluster, joins the run; `attach` finds it by its id.

    Parameters
    ----------
    model : pymc.Model
        The model.
    *args : Any
        Positional arguments of `pymc.sample`.
    cluster : distributed.Client, cluster object or str
        As for `cloud`. One that ends with this process, as ``"local"``, takes the run with it.
    cache : {"memory", "disk"}, str, pathlib.Path, bool or Cache, optional
        As for `cloud`. It is asked first. One that workers can reach, as a directory on a file
        system that is shared or the URL of a store, also keeps what is drawn while the run lasts,
        and its result; in any other, the result is kept when it is fetched.
    overwrite : bool, default False
        Sample in any case, join no run, and replace the entry.
    keep_chains : bool, default False
        As for `cloud`.
    until : bool or mapping, optional
        As for `cloud`.
    **kwargs : Any
        As for `pymc.sample`, but ``callback`` and ``trace``; nor are there ``callbacks`` and
        ``notify`` of `cloud`.

    Returns
    -------
    SubmittedRun
        With ``result()``, ``status()``, ``stop()``, ``cancel()``; ``await run`` gives the result.

    Raises
    ------
    TypeError
        As for `cloud`, and for arguments that this process would have to stay for.
    ValueError
        If `until` is no target.
    ClusterError, ShippingError
        As for `cloud`; what goes wrong later is raised by ``result()``.

    Warns
    -----
    TokenWarning
        If no complete key can be made: the run is not cached, and nobody else can join it.

    Examples
    --------
    >>> run = cp.submit(model, draws=100, tune=100, chains=2, random_seed=1, cluster=client)
    >>> run.id
    'model-...'
    >>> idata = run.result()
    >>> idata["posterior"]["mu"].shape
    (2, 100)
    """
    check_cluster(cluster)
    if cluster is None:
        raise TypeError("cp.submit takes a cluster to run on: cluster=client, or its address")
    call = SampleCall(checked(model), args, kwargs, on_cluster=True, until=Target.of(until))
    _refuse_what_needs_this_process(call)
    kept = cache_of(cache)
    asked = look_up(call, kept, overwrite=overwrite)
    request = asked.request or _without_key(call, asked.why_not)
    own_token = uuid.uuid4().hex if overwrite else request.token
    run = id_of(model.name, own_token)
    if asked.found is not None:
        say_hit(call, asked.found[1])
        return SubmittedRun(run, title=model.name, result=from_tree(asked.found[0]))
    if asked.request is None:
        kept = None
    packages = tuple(dict.fromkeys((*PACKAGES, *request.versions)))
    with ExitStack() as stack:
        client = stack.enter_context(open_client(cluster, chains=call.chains))
        open_ways(client)
        check_workers(client, packages)
        keep_interrupts(client)
        theirs = reachable(kept, client)
        parcel = Parcel.of(
            call,
            request,
            run,
            packages=packages,
            own_token=own_token,
            cache=theirs,
            keep_chains=keep_chains,
        )
        submitted = send_run(
            client,
            drive,
            run,
            parcel.packed(),
            title=model.name,
            cache=kept,
            reached="" if theirs is None else repr(theirs),
            quiet=call.quiet,
        )
        submitted.own(stack.pop_all())
        return submitted


def attach(run_id: str, *, cluster: Any, cache: CacheChoice = False) -> SubmittedRun:
    """Find a run that was submitted, from any process that reaches its cluster.

    Parameters
    ----------
    run_id : str
        The ``id`` that `submit` gave.
    cluster : distributed.Client, cluster object or str
        As for `cloud`.
    cache : {"memory", "disk"}, str, pathlib.Path, bool or Cache, default False
        Where the result is kept when it is fetched; False for nowhere.

    Returns
    -------
    SubmittedRun
        As `submit` gives it.

    Raises
    ------
    TypeError
        If `cluster` is no cluster.
    ClusterError
        If the cluster cannot be reached, or there is no such run on it; the message lists those
        that are there.

    Examples
    --------
    >>> run = cp.submit(model, draws=100, tune=100, chains=2, cluster=client)
    >>> idata = cp.attach(run.id, cluster=client).result(timeout=60)
    >>> cp.attach("radon-3f1c", cluster=client)
    Traceback (most recent call last):
    cloudposterior.errors.ClusterError: there is no run 'radon-3f1c' on ...
    """
    check_cluster(cluster)
    with ExitStack() as stack:
        client = stack.enter_context(open_client(cluster, chains=1))
        open_ways(client)
        found = find_run(client, run_id, cache=cache_of(cache))
        if found is None:
            there = ", ".join(runs_kept(client)) or "none"
            raise ClusterError(
                f"there is no run {run_id!r} on {client.scheduler.address}: it was fetched or "
                f"cancelled, or its time has passed. Runs there: {there}"
            )
        found.own(stack.pop_all())
        return found


def _refuse_what_needs_this_process(call: SampleCall) -> None:
    for name, why in _NEEDS_THIS_PROCESS.items():
        if {**call.extra, **call.arguments}.get(name) is not None:
            raise TypeError(f"{name}= {why}, which cp.submit lets end: use cp.cloud or cp.sample")


def _without_key(call: SampleCall, why: str) -> Request:
    """Make a request that no other is equal to."""
    warn(TokenWarning, f"this run is not cached, and nobody else can join it: {why}")
    return Request(uuid.uuid4().hex, call.model.name or "model", "run", {}, dict)
