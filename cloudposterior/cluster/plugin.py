"""What stays in a scheduler and in workers: the board of all runs, what they left, and Ctrl-C.

Nothing here waits, and nothing imports PyMC.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import platform
import re
import signal
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from cloudposterior.events import (
    TOPIC,
    StopAsked,
    TaskBegun,
    WorkerLost,
    from_message,
    to_message,
)
from cloudposterior.progress.board import Board, PostedRun

if TYPE_CHECKING:
    from distributed import Scheduler, Worker

__all__ = ["Expiry", "KeepInterrupts", "PosteriorPlugin", "TellLosses"]

_MOST_TO_STOP = 1000
"""More than anybody has, so that who stops runs without end does not fill a scheduler."""


class PosteriorPlugin(SchedulerPlugin):  # type: ignore[misc]
    """Takes in what workers and clients tell of runs; the first one that is registered stays.

    Attributes
    ----------
    board : Board
        What is known of all runs.
    page : bool
        Whether there is a page.
    problem : str
        Why there is none; empty where nobody misses it, as without a dashboard.
    """

    name = "cloudposterior"
    idempotent = True

    def __init__(self) -> None:
        self.board = Board()
        self._to_stop: dict[str, None] = {}
        self.page = False
        self.problem = ""

    async def start(self, scheduler: Scheduler) -> None:
        """Open the way for clients, and the page."""
        self._scheduler = scheduler
        scheduler.handlers["cloudposterior_tell"] = self.tell
        scheduler.handlers["cloudposterior_status"] = self.status
        scheduler.handlers["cloudposterior_stop"] = self.stop_submitted
        try:
            # it brings in Bokeh
            page = importlib.import_module("cloudposterior.progress.page")
            self.page = page.open_page(scheduler, self.board, self.stop)
        except ImportError as error:
            self.problem = f"since what that is made of cannot be imported there ({error})"
        except Exception as error:  # noqa: BLE001  (a scheduler outranks a page)
            self.problem = f"since it could not be added to the dashboard ({error!r})"

    def log_event(self, topic: str, msg: Any) -> None:
        """Take in what a worker tells."""
        if topic == TOPIC and isinstance(msg, dict):
            read = from_message(msg)
            if read is not None:
                self.board.take(*read)

    def tell(self, message: dict[str, Any], who: str) -> tuple[bool, str]:
        """Take in what a client tells; answer whether there is a page, and why there is none."""
        read = from_message(message)
        if read is not None:
            self.board.take(*read, who=who)
            run = self.board.get(read[0])
            if run is not None and run.started.submitted in self._to_stop:
                self._ask_to_stop(run)
        return self.page, self.problem

    def stop(self, key: str, secret: str) -> bool:
        """Ask the client that gave the secret out to stop its run; say whether there is one."""
        run = self.board.get(key)
        digest = run.stop_digest(secret) if run is not None else None
        if digest is None:
            return False
        self._scheduler.log_event(TOPIC, to_message(key, StopAsked(digest)))
        return True

    def status(self, submitted: str) -> dict[str, Any] | None:
        """Give the table of a run that was submitted, as plain values; None before it begins."""
        run = self.board.find(submitted)
        return None if run is None else asdict(run.table.snapshot())

    def stop_submitted(self, submitted: str) -> None:
        """Ask whoever drives a run that was submitted to stop it, as soon as there is somebody."""
        # asked again whenever its driver tells something: that may not have begun to listen
        self._to_stop[submitted] = None
        if len(self._to_stop) > _MOST_TO_STOP:
            del self._to_stop[next(iter(self._to_stop))]
        run = self.board.find(submitted)
        if run is not None:
            self._ask_to_stop(run)

    def _ask_to_stop(self, run: PostedRun) -> None:
        if run.table.ended:
            self._to_stop.pop(run.started.submitted, None)
            return
        for digest in tuple(run.waiting):
            self._scheduler.log_event(TOPIC, to_message(run.key, StopAsked(digest)))

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Note that nobody waits any more for what a client wanted."""
        self.board.lose(client)


class Expiry(SchedulerPlugin):  # type: ignore[misc]
    """Lets go of what runs have left on the cluster, once a set time has passed."""

    name = "cloudposterior-expiry"
    idempotent = True

    def __init__(self) -> None:
        self._due: dict[str, asyncio.TimerHandle] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """Open the way for clients."""
        self._scheduler = scheduler
        # Dask has no way to them that needs no client: fail here, and not when their time comes
        assert isinstance(self._datasets, dict)
        scheduler.handlers["cloudposterior_expire"] = self.expire
        scheduler.handlers["cloudposterior_kept"] = self.keys_of
        scheduler.handlers["cloudposterior_forget"] = self.forget

    def keys_of(self, names: list[str]) -> list[str]:
        """Give the keys of datasets; empty for one that is not there, has failed or was lost."""
        return [self._key_of(name) for name in names]

    def _key_of(self, name: str) -> str:
        for key in self._datasets.get(name, {"keys": ()})["keys"]:
            task = self._scheduler.tasks.get(key)
            if task is not None and task.state != "erred" and (task.who_has or task.run_spec):
                return str(key)
        return ""

    async def close(self) -> None:
        """Wait for nothing more."""
        for due in self._due.values():
            due.cancel()

    def expire(self, run: str, seconds: float) -> None:
        """Let go of a run after some time, if it has ended by then."""
        if run in self._due:
            self._due[run].cancel()
        loop = asyncio.get_running_loop()
        self._due[run] = loop.call_later(seconds, self._let_go, run, seconds)

    def _let_go(self, run: str, seconds: float) -> None:
        first = f"cloudposterior/{run}/"
        keys = {
            name: of["keys"]
            for name, of in self._datasets.items()
            if isinstance(name, str) and name.startswith(first)
        }
        if any(self._is_under_way(key) for held in keys.values() for key in held):
            self.expire(run, seconds)
            return
        del self._due[run]
        for name, held in keys.items():
            # as Dask does when somebody unpublishes a dataset, who would be a client
            del self._datasets[name]
            self._scheduler.client_releases_keys(held, f"published-{name}")
        self.forget(list(keys))

    def forget(self, names: list[str]) -> None:
        """Forget who held datasets that are gone: Dask keeps a client of their name for ever."""
        for name in names:
            holder = self._scheduler.clients.get(f"published-{name}")
            if holder is not None and name not in self._datasets and not holder.wants_what:
                del self._scheduler.clients[holder.client_key]
        kept = {name.split("/")[1] for name in self._datasets if str(name).count("/") == 2}
        for run in self._due.keys() - kept:
            self._due.pop(run).cancel()

    @property
    def _datasets(self) -> dict[Any, Any]:
        datasets: dict[Any, Any] = self._scheduler.extensions["publish"].datasets
        return datasets

    def _is_under_way(self, key: Any) -> bool:
        task = self._scheduler.tasks.get(key)
        return task is not None and task.state not in ("memory", "erred", "forgotten")


class TellLosses(SchedulerPlugin):  # type: ignore[misc]
    """Tells the clients of a run when a worker has left that drew for it, or was to."""

    name = "cloudposterior-losses"
    idempotent = True

    def __init__(self) -> None:
        # of one that has left, the scheduler says no more
        self._workers: dict[str, Any] = {}
        self._drew: defaultdict[str, dict[str, None]] = defaultdict(dict)

    async def start(self, scheduler: Scheduler) -> None:
        """Know where to tell it."""
        self._scheduler = scheduler
        self._workers.update(scheduler.workers)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Note what is known of a worker."""
        self._workers[worker] = scheduler.workers[worker]

    def log_event(self, topic: str, msg: Any) -> None:
        """Take in who draws, and what the scheduler logs when it has removed a worker."""
        if not isinstance(msg, dict):
            return
        if topic == TOPIC and msg.get("kind") == "TaskBegun":
            self._note(msg)
        elif topic == "all" and msg.get("action") == "remove-worker":
            self._tell(msg)

    def _note(self, message: dict[str, Any]) -> None:
        read = from_message(message)
        if (
            read is None
            or not isinstance(read[1], TaskBegun)
            or read[1].worker not in self._workers
        ):
            return
        runs = self._drew[read[1].worker]
        runs[read[0]] = runs.pop(read[0], None)
        if len(runs) > _MOST_RUNS:
            del runs[next(iter(runs))]

    def _tell(self, msg: dict[str, Any]) -> None:
        worker = str(msg.get("worker"))
        drawing = _by_run(msg.get("processing-tasks", ()))
        lost = _by_run(msg.get("lost-computed-tasks", ()))
        known = self._workers.pop(worker, None)
        # one that drew may be wanted again
        for run in {**drawing, **lost, **self._drew.pop(worker, {})}:
            event = WorkerLost(
                worker,
                tuple(drawing[run]),
                tuple(lost[run]),
                bool(msg.get("expected")),
                0 if known is None else int(known.metrics.get("memory", 0)),
                0 if known is None else int(known.memory_limit or 0),
            )
            self._scheduler.log_event(TOPIC, to_message(run, event))


_MOST_RUNS = 1000
"""Of which it is known, for each worker, that it drew for them: the latest."""

_OF_A_RUN = re.compile(r".*-chains? \d.*-([0-9a-f]{32})")


def _by_run(keys: Iterable[Any]) -> defaultdict[str, list[str]]:
    """Select those of keys that are of chains, by the run that they end with."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key in keys:
        match = _OF_A_RUN.fullmatch(key) if isinstance(key, str) else None
        if match is not None:
            found[match[1]].append(key)
    return found


@dataclass(frozen=True)
class KeepInterrupts(WorkerPlugin):  # type: ignore[misc]
    """Leaves Ctrl-C to the client, in a worker that would get the client's.

    Attributes
    ----------
    machine : str
        The client's machine.
    group, process : int
        The client's group of processes, and the client itself.
    """

    machine: str
    group: int
    process: int

    name = "cloudposterior-interrupts"
    idempotent = True

    @classmethod
    def of_this_process(cls) -> KeepInterrupts:
        """Speak for this process."""
        return cls(platform.node(), _group(), os.getpid())

    def setup(self, worker: Worker) -> None:
        """Ignore what the client will get, unless somebody has made another arrangement."""
        is_near = (platform.node(), _group()) == (self.machine, self.group)
        is_own = os.getpid() != self.process
        in_main = threading.current_thread() is threading.main_thread()
        if is_near and is_own and in_main and _is_pythons(signal.getsignal(signal.SIGINT)):
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_pythons(answer: Any) -> bool:
    """Tell whether an answer to Ctrl-C is one that Python gives by itself."""
    # asyncio puts its own in the place of the default while a loop runs
    of_loop = getattr(getattr(answer, "func", None), "__self__", None)
    return answer in (signal.default_int_handler, signal.SIG_DFL) or isinstance(
        of_loop, asyncio.Runner
    )


def _group() -> int:
    return os.getpgrp() if hasattr(os, "getpgrp") else 0
