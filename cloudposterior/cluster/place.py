"""A call of `pymc.sample` on a cluster, from its arguments to its result."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from dask.base import tokenize
from xarray import DataTree

from cloudposterior.cache import Cache
from cloudposterior.cluster import tasks
from cloudposterior.cluster.aiming import Aiming, NoAim, Peeks
from cloudposterior.cluster.connect import open_client
from cloudposterior.cluster.drive import Drive
from cloudposterior.cluster.earlier import find_earlier, keeps_states
from cloudposterior.cluster.interrupts import keep_interrupts
from cloudposterior.cluster.losses import tell_losses
from cloudposterior.cluster.partial import Parts, parts_of
from cloudposterior.cluster.share import Shared
from cloudposterior.cluster.submitted import SubmittedRun, find_run_under_way, id_of
from cloudposterior.cluster.versions import versions_here
from cloudposterior.cluster.workers import Absence, check_workers, wait_for_workers
from cloudposterior.errors import ClusterWarning, tell
from cloudposterior.events import Event, TaskBegun, WorkerLost
from cloudposterior.operations.request import Request
from cloudposterior.operations.sample import REACHED, SampleCall
from cloudposterior.operations.seed import recorded_seed
from cloudposterior.operations.until import Aim
from cloudposterior.posterior import is_posterior, to_tree
from cloudposterior.progress.diagnosis import Looking
from cloudposterior.progress.display import choose_display
from cloudposterior.progress.feed import events_of
from cloudposterior.progress.table import RunTable
from cloudposterior.progress.view import RunView
from cloudposterior.samplers.drawn import label_of
from cloudposterior.samplers.longer_join import Earlier, LongerJoin
from cloudposterior.samplers.protocol import Run, Sampler, Segment, State
from cloudposterior.samplers.pymc import sampler_packages
from cloudposterior.samplers.pymc_chains import PyMCChains
from cloudposterior.samplers.pymc_join import PyMCJoin
from cloudposterior.samplers.resolve import Resolved, resolve
from cloudposterior.samplers.seeds import packed_seed
from cloudposterior.samplers.states import tree_of_states
from cloudposterior.samplers.surroundings import say
from cloudposterior.samplers.whole_chains import WholeChains
from cloudposterior.samplers.whole_join import WholeJoin
from cloudposterior.shipping import pack_arguments, pack_model

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["PACKAGES", "OnCluster", "RunOnCluster"]

_log = logging.getLogger("pymc")

PACKAGES = ("cloudposterior", "pymc", "pytensor", "numpy")
"""What client and workers must have in the same version, whatever is sampled."""


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
    """

    cluster: Any
    keep_chains: bool = False
    progress: bool = True
    submitted: str = ""

    @contextmanager
    def open(self, call: SampleCall) -> Iterator[RunOnCluster]:
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
        with _view(call, silent=not self.progress) as view:
            view.phase("connecting")
            # how it ended is told while there is a client
            with open_client(self.cluster, chains=call.chains) as client, view.ending():
                yield RunOnCluster(self, call, client, view)


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
        call, client, view = self.call, self.client, self.view
        view.phase("waiting for workers")
        wait_for_workers(client, tell=print if not call.quiet else _nobody, watch=view.watch)
        check_workers(client, PACKAGES)
        keep_interrupts(client)
        hears = tell_losses(client)
        if request is not None and not fresh and not self.place.submitted:
            submitted = find_run_under_way(client, id_of(call.model.name, request.token))
            if submitted is not None:
                return self._joined(submitted)
        sent = request.token if request is not None and not fresh else uuid.uuid4().hex
        name = f"{_word(call.model.name or 'model')}-sample"
        parts = parts_of(call, request, cache)
        seed, found = (call.seed, {}) if fresh else parts.find(call.seed)
        # a generator moves on when PyMC is asked what it would do
        packed, recorded = packed_seed(seed), recorded_seed(seed)
        known = {} if seed is None else {"random_seed": seed}
        resolved = resolve({**call.arguments, **known}, call.extra)
        earlier = None if fresh else find_earlier(cache, request, call, resolved, recorded)
        if seed is None:
            if earlier is not None:
                seed = earlier.random_seed
            else:
                # held to the end, so that who asks for the same run meanwhile finds it
                chosen = client.submit(tasks.choose_seed, key=f"{name}-seed-{sent}", pure=False)
                seed = chosen.result()
            packed = recorded = seed
        check_workers(client, sampler_packages(resolved.sampler))
        run = _run(call, resolved, packed, tokenize(sent, recorded))
        sampler, join = _sampler(call, resolved, earlier)
        _tell_of_start(call, client, earlier)
        parts.add_to(join, found)
        missing = [chain for chain in range(run.chains) if not join.is_whole(chain)]
        chains = [tuple(range(run.chains))] if resolved.together else _each(missing)
        states = {**join.states(), **parts.states}
        absence = Absence(client, view.phase)
        heard = _Heard(view.take)
        # before there is a link that stops it
        with events_of(client, run.key, heard):
            if self.place.progress:
                view.share(self._shared(run))
            for chain in set(range(run.chains)).difference(missing):
                view.tell(join.report_whole(chain))
            for chain, state in states.items():
                view.tell(join.report(chain, state))
            view.phase("sending the model")
            heard.drive = drive = Drive(
                client,
                sampler,
                pack_model(call.model),
                run,
                name=name,
                told=view.tell,
                look=absence.look,
                hears=hears,
            )
            aim = self._aim(resolved, join, run)
            drawing = _Drawing(drive, join, chains, states, absence, aim)
            if resolved.together:
                # chains that talk to each other are worth nothing alone
                return self._result(drawing, run), recorded
            drawing.keep = partial(parts.look, join, recorded)
            with parts.kept_from(join, recorded, unless=lambda: aim.reached):
                result = self._result(drawing, run)
            if keeps_states(call, resolved):
                self._ends.update(join.ends())
            return result, recorded

    def states(self) -> DataTree | None:
        """Give where the chains ended; None where a longer run could not go on from there."""
        return tree_of_states(self._ends) if self._ends else None

    def _joined(self, submitted: SubmittedRun) -> tuple[Any, Any]:
        """Wait for a run that was submitted, which a worker drives."""
        view = self.view
        view.phase("sampling", "this run was submitted before")

        def watch() -> bool:
            view.follow(submitted.status())
            return view.watch()

        answer = submitted.watched(watch)
        say(answer.said, quiet=self.call.quiet)
        # a number, or JSON
        seed = json.loads(str(answer.result.attrs["cloudposterior_random_seed"]))
        return answer.result, seed

    def _shared(self, run: Run) -> Shared:
        submitted = self.place.submitted
        return Shared(self.client, run.key, self.view.table.title, run.chains, submitted)

    def forget(self, request: Request, cache: Cache) -> None:
        """Discard what runs that did not end have left of a request."""
        Parts(cache, request, self.call.chains).forget()

    def _aim(self, resolved: Resolved, join: Any, run: Run) -> Aiming | NoAim:
        """Give what looks whether the run has reached its target.

        Raises
        ------
        ValueError
            If nobody can look at the draws while they are made.
        """
        call = self.call
        if call.until is None:
            return NoAim()
        for wrong, what in (
            (resolved.sampler not in ("pymc", "nutpie"), f"sampler {resolved.sampler}"),
            (resolved.together, "chains that talk to each other"),
            (call.arguments["trace"] is not None, "trace="),
            (call.arguments["var_names"] is not None, "var_names="),
        ):
            if wrong:
                raise ValueError(
                    f"until= looks at all free variables while they are drawn, which {what} does "
                    "not allow: leave one of the two out"
                )
        names = [str(rv.name) for rv in call.model.free_RVs]
        draws = int(call.arguments["draws"])
        aim = Aim(call.until, draws)
        if resolved.sampler == "pymc":
            return Aiming(aim, join, names)
        peeks = Peeks(self.client, run.key, join, names, draws, self.view.status)
        return Aiming(aim, join, names, peeks)

    def _result(self, drawing: _Drawing, run: Run) -> Any:
        view, began = self.view, time.perf_counter()
        view.phase("compiling")
        failed = self._draw(drawing)
        lost = {chain for chains in failed for chain in chains}
        if len(lost) == run.chains:
            raise next(iter(failed.values()))
        view.phase("gathering")
        result = drawing.join.finish(time.perf_counter() - began, without=lost)
        for error in failed.values():
            tell(ClusterWarning, f"{error}; the other chains are returned (keep_chains=True)")
        if is_posterior(result):
            result.attrs["cloudposterior_pytensor_flags"] = _flags(run)
            if drawing.reached:
                result.attrs[REACHED] = drawing.reached
            if view.stopped and self.call.missing(to_tree(result)) is not None:
                result.attrs["cloudposterior_stopped"] = "before all draws were made"
            elif view.stopped:  # in the last moment
                view.go_on()
        return result

    def _draw(self, drawing: _Drawing) -> dict[tuple[int, ...], Exception]:
        """Draw the chains, and show how that goes; give the error of each that failed."""
        view, join, drive = self.view, drawing.join, drawing.drive
        so_far = join.so_far if view.watched else _nothing
        looking = Looking(so_far, partial(label_of, self.call.model), view.tell)

        def take(segment: Segment, state: State) -> None:
            join.add(segment, state)
            view.take(join.report(segment.chain, state))
            view.watch()

        def watch() -> bool:
            looking.look()
            drawing.absence.look()
            drawing.keep()
            if drawing.aim.look():
                return True
            # a chain may be one segment, which arrives at its end
            if view.table.phase.name == "compiling" and view.status().drawing:
                view.phase("sampling")
            if view.watch():
                view.phase("stopping")
            return view.stopped

        # as PyMC does when it is interrupted: what was drawn is the result
        try:
            go_on = self.place.keep_chains
            drive.draw(drawing.chains, take, watch=watch, go_on=go_on, states=drawing.states)
        except KeyboardInterrupt:
            view.stop()
        if view.stopped and not join.has_draws():
            raise KeyboardInterrupt("stopped before the first draw after tuning")
        # an interrupt by now is one too many, and would cost the draws
        with suppress(KeyboardInterrupt):
            looking.look(last=True)
            drawing.aim.look()
        if isinstance(drawing.aim, Aiming):
            self._tell_of_target(drawing, drawing.aim)
        return drive.failed

    def _tell_of_target(self, drawing: _Drawing, aim: Aiming) -> None:
        if aim.reached:
            drawing.reached = aim.cut()
        elif not self.call.quiet:
            _log.warning("until=%s was not reached within draws=%s", aim.target, aim.most)


def _nothing() -> None:
    """Give no draws to look at, where nobody could see what they are worth."""


@dataclass
class _Drawing:
    """What it takes to draw the chains of a run.

    Attributes
    ----------
    drive : Drive
        Draws them.
    join : PyMCJoin or WholeJoin
        Where they come together.
    chains : list of tuple of int
        Those that are to be drawn.
    states : mapping of int to State
        Where those go on from of which the first draws are there.
    absence : Absence
        Looks after the workers.
    aim : Aiming or NoAim
        Looks whether they are good enough.
    keep : callable
        Keeps what came in, now and then.
    reached : str
        What was reached, once it was.
    """

    drive: Drive
    join: Any
    chains: list[tuple[int, ...]]
    states: Mapping[int, State]
    absence: Absence
    aim: Aiming | NoAim
    keep: Callable[[], None] = _nothing
    reached: str = ""


@dataclass
class _Heard:
    """Hands events on: those of tasks to who drives them, all others to who shows them."""

    show: Callable[[Event], None]
    drive: Drive | None = None

    def __call__(self, event: Event) -> None:
        if not isinstance(event, TaskBegun | WorkerLost):
            self.show(event)
        elif self.drive is not None:
            self.drive.hear(event)


def _view(call: SampleCall, *, silent: bool) -> RunView:
    title = f"Sampler Progress: {call.model.name}" if call.model.name else "Sampler Progress"
    unasked = call.quiet or not call.arguments["progressbar"]
    choose = partial(choose_display, silent=silent or unasked)
    return RunView(RunTable("", title, call.chains), choose)


def _each(chains: list[int]) -> list[tuple[int, ...]]:
    return [(chain,) for chain in chains]


def _nobody(_: str) -> None:
    pass


def _word(name: str) -> str:
    """Make a name fit for a task: Dask takes what comes before a dash for the kind of task."""
    return re.sub(r"[^\w.: ]+", "_", name)[:60] or "model"


def _run(call: SampleCall, resolved: Resolved, seed: Any, sent: str) -> Run:
    arguments = call.arguments_of_chains(resolved.sampler)
    # everything is recorded where more than the variables asked for is looked at here
    if call.arguments["callback"] is not None or call.arguments["trace"] is not None:
        arguments["var_names"] = None
    token, structure = call.model_tokens()
    return Run(
        key=tokenize(sent, arguments.get("var_names")),
        model=token,
        structure=structure,
        arguments=pack_arguments(arguments, call.model),
        seed=seed,
        chains=call.chains,
        settings=call.settings,
        versions=versions_here((*PACKAGES, *sampler_packages(resolved.sampler))),
    )


def _sampler(call: SampleCall, resolved: Resolved, earlier: Earlier | None) -> tuple[Sampler, Any]:
    if earlier is not None:
        return PyMCChains(), LongerJoin(call.model, call.arguments, earlier)
    if resolved.sampler == "pymc":
        return PyMCChains(), PyMCJoin(call.model, call.arguments)
    checks = resolved.sampler in ("numpyro", "blackjax")
    return WholeChains(resolved.sampler), WholeJoin(call.model, call.arguments, checks=checks)


def _flags(run: Run) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(run.settings.items()) if value)


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
