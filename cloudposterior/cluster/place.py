"""A call of `pymc.sample` on a cluster, from its arguments to its result."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from xarray import DataTree

from cloudposterior.cache import Cache
from cloudposterior.cluster.connect import open_client
from cloudposterior.cluster.drawing import Drawing, Hearing
from cloudposterior.cluster.earlier import keeps_states
from cloudposterior.cluster.interrupts import keep_interrupts
from cloudposterior.cluster.losses import tell_losses
from cloudposterior.cluster.partial import Parts
from cloudposterior.cluster.prepared import Prepared, prepare
from cloudposterior.cluster.share import Shared
from cloudposterior.cluster.submitted import SubmittedRun, find_run_under_way, id_of
from cloudposterior.cluster.versions import PACKAGES
from cloudposterior.cluster.work import WorkOnCluster
from cloudposterior.cluster.workers import check_workers, wait_for_workers
from cloudposterior.errors import ClusterWarning, tell
from cloudposterior.operations.call import Call, FunctionCall
from cloudposterior.operations.request import Request
from cloudposterior.operations.sample import REACHED, SampleCall
from cloudposterior.posterior import is_posterior, to_tree
from cloudposterior.progress.display import choose_display
from cloudposterior.progress.feed import events_of
from cloudposterior.progress.table import RunTable, Table
from cloudposterior.progress.view import RunView
from cloudposterior.run import Running
from cloudposterior.samplers.longer_join import Earlier
from cloudposterior.samplers.protocol import Run, State
from cloudposterior.samplers.pymc import ANY_COMPILER
from cloudposterior.samplers.states import tree_of_states
from cloudposterior.samplers.surroundings import say

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["OnCluster", "RunOnCluster"]

_log = logging.getLogger("pymc")


@dataclass(frozen=True)
class OnCluster:
    """Runs calls on a cluster.

    Attributes
    ----------
    cluster : distributed.Client, cluster object or str
        As `connect.open_client` takes it.
    keep_chains : bool
        Whether chains that are whole are returned when others fail.
    progress : bool
        Whether it is shown, here and on the dashboard, how a run stands.
    submitted : str
        The key of the task that drives the run; empty where this client does.
    listener : callable or None
        Told how a run stands while it is drawn.
    """

    cluster: Any
    keep_chains: bool = False
    progress: bool = True
    submitted: str = ""
    listener: Callable[[Table], None] | None = None

    def heard_by(self, listener: Callable[[Table], None] | None) -> OnCluster:
        """Give the place that tells somebody how a run stands."""
        return replace(self, listener=listener)

    @contextmanager
    def open(self, call: Call) -> Iterator[Running]:
        """Connect to the cluster for as long as a call runs.

        Parameters
        ----------
        call : SampleCall
            The call.

        Raises
        ------
        ClusterError
            If the cluster cannot be reached.
        """
        chains = call.chains if isinstance(call, SampleCall) else 0
        with _view(call, chains, silent=not self.progress) as view:
            view.listener = self.listener
            view.phase("connecting")
            most = chains or os.cpu_count() or 1
            # how it ended is told while there is a client
            with open_client(self.cluster, chains=most) as client, view.ending():
                if isinstance(call, FunctionCall):
                    yield WorkOnCluster(call, client, view)
                else:
                    yield RunOnCluster(self, cast(SampleCall, call), client, view)


@dataclass(frozen=True)
class RunOnCluster:
    """A call that runs on a cluster.

    Attributes
    ----------
    place : OnCluster
        How.
    call : SampleCall
        The call.
    client : distributed.Client
        Connected.
    view : RunView
        Shows it.
    """

    place: OnCluster
    call: SampleCall
    client: Client
    view: RunView
    _ends: dict[int, State] = field(default_factory=dict)
    _parts: list[Parts] = field(default_factory=list)
    # of a run that a worker drove
    _told: list[DataTree] = field(default_factory=list)

    def phase(self, name: str, detail: str = "") -> None:
        """Show what is being done beside the sampling."""
        self.view.phase(name, detail)

    def run(self, request: Request | None, cache: Cache | None, *, fresh: bool) -> tuple[Any, Any]:
        """Run the call.

        Parameters
        ----------
        request : Request or None
            Its request, from which the tasks have their keys, so that another client that makes
            the same one joins this run. None where nobody made one.
        cache : Cache or None
            Where draws are kept until there is a result, and taken from.
        fresh : bool
            Join no run that is under way, and take no draw of an earlier one.

        Returns
        -------
        result
            What `pymc.sample` returns.
        seed
            The seed that repeats it.

        Raises
        ------
        ClusterError
            If the cluster cannot be used, before anything is sampled.
        ShippingError
            If the model or an argument cannot be sent.
        ChainError
            If a chain failed.
        """
        client, view = self.client, self.view
        view.phase("waiting for workers")
        wait_for_workers(client, tell=print if not self.call.quiet else _nobody, watch=view.watch)
        check_workers(client, PACKAGES)
        keep_interrupts(client)
        hears = tell_losses(client)
        if request is not None and not fresh and not self.place.submitted:
            submitted = find_run_under_way(client, id_of(self.call.model.name, request.token))
            if submitted is not None:
                return self._joined(submitted)
        prepared = prepare(self.call, client, request, cache, fresh=fresh)
        _tell_of_start(self.call, client, prepared.earlier)
        heard = Hearing(view.take)
        # before there is a link that stops it
        with events_of(client, prepared.run.key, heard):
            if self.place.progress:
                view.share(self._shared(prepared.run))
            for chain in prepared.whole:
                view.tell(prepared.join.report_whole(chain))
            for chain, state in prepared.states.items():
                view.tell(prepared.join.report(chain, state))
            view.phase("sending the model")
            drawing = Drawing(self.call, client, view, prepared, hears=hears)
            heard.drive = drawing.drive
            return self._drawn(drawing, prepared), prepared.seed

    def _drawn(self, drawing: Drawing, prepared: Prepared) -> Any:
        if prepared.resolved.together:
            # chains that talk to each other are worth nothing alone
            return self._result(drawing, prepared, _keep_nothing)
        parts, join, seed = prepared.parts, prepared.join, prepared.seed
        self._parts.append(parts)
        with parts.kept_from(join, seed, unless=lambda: bool(drawing.reached)):
            result = self._result(drawing, prepared, partial(parts.look, join, seed))
        if keeps_states(self.call, prepared.resolved):
            self._ends.update(join.ends())
        return result

    def _result(self, drawing: Drawing, prepared: Prepared, keep: Callable[[], None]) -> Any:
        view, began = self.view, time.perf_counter()
        view.phase("compiling")
        failed = drawing.draw(keep, go_on=self.place.keep_chains)
        lost = {chain for chains in failed for chain in chains}
        if len(lost) == prepared.run.chains:
            raise next(iter(failed.values()))
        view.phase("gathering")
        result = prepared.join.finish(time.perf_counter() - began, without=lost)
        for error in failed.values():
            tell(ClusterWarning, f"{error}; the other chains are returned (keep_chains=True)")
        if is_posterior(result):
            self._describe(result, prepared.run, drawing.reached)
        return result

    def _describe(self, result: Any, run: Run, reached: str) -> None:
        view = self.view
        result.attrs["cloudposterior_pytensor_flags"] = _flags(run)
        if reached:
            result.attrs[REACHED] = reached
        if view.stopped and self.call.missing(to_tree(result)) is not None:
            result.attrs["cloudposterior_stopped"] = "before all draws were made"
        elif view.stopped:  # in the last moment
            view.go_on()

    def states(self) -> DataTree | None:
        """Give where the chains ended; None where a longer run could not go on from there."""
        if self._told:
            return self._told[0]
        return tree_of_states(self._ends) if self._ends else None

    def keeps(self) -> bool:
        """Tell whether draws of a run that was cut short are kept, for the same call to go on."""
        return any(parts.keeps for parts in self._parts)

    def _joined(self, submitted: SubmittedRun) -> tuple[Any, Any]:
        """Wait for a run that was submitted, which a worker drives."""
        view = self.view
        view.phase("sampling", "this run was submitted before")

        def watch() -> bool:
            view.follow(submitted.status())
            return view.watch()

        answer = submitted.watched(watch)
        say(answer.said, quiet=self.call.quiet)
        if answer.states is not None:
            self._told.append(answer.states)
        # a number, or JSON
        seed = json.loads(str(answer.result.attrs["cloudposterior_random_seed"]))
        return answer.result, seed

    def _shared(self, run: Run) -> Shared:
        submitted = self.place.submitted
        return Shared(self.client, run.key, self.view.table.title, run.chains, submitted)

    def forget(self, request: Request, cache: Cache) -> None:
        """Discard what runs that did not end have left of a request."""
        Parts(cache, request, self.call.chains).forget()


def _view(call: Call, chains: int, *, silent: bool) -> RunView:
    what = "Sampler Progress" if chains else call.name
    title = f"{what}: {call.model.name}" if call.model.name else what
    unasked = call.quiet or call.arguments.get("progressbar") is False
    choose = partial(choose_display, silent=silent or unasked)
    return RunView(RunTable("", title, chains), choose)


def _nobody(_: str) -> None:
    pass


def _keep_nothing() -> None:
    pass


def _flags(run: Run) -> str:
    settings = {name: value for name, value in run.settings.items() if value != ANY_COMPILER}
    flags = sorted((name, value) for name, value in settings.items() if value or name == "cxx")
    return ",".join(f"{name}={value}" for name, value in flags)


def _tell_of_start(call: SampleCall, client: Client, earlier: Earlier | None) -> None:
    if earlier is not None and not call.quiet:
        _log.info(
            "%s draws of %s chains are those of an earlier run", earlier.draws, earlier.chains
        )
    if not call.quiet:
        workers = len(client.scheduler_info(n_workers=-1).get("workers", {}))
        _log.info(
            "Sampling %s chains on %s (%s workers)", call.chains, client.scheduler.address, workers
        )
