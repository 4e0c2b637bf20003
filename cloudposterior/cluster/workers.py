"""Whether a cluster has workers, and whether they run what the client runs."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future as Answer
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dask.utils import parse_timedelta

from cloudposterior.cluster.versions import differences_of, minor_of, versions_here
from cloudposterior.config import cluster_setting
from cloudposterior.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Absence", "check_workers", "running_workers", "wait_for_workers"]

_LOOK_AGAIN_S = 0.5
_ABSENT_S = 2.5

_Process = tuple[str, str]
"""A worker's address and directory: a worker that is started anew on its port has another."""

_verified: WeakKeyDictionary[Client, dict[_Process, set[str]]] = WeakKeyDictionary()
"""What was found equal, so that a second run asks nobody again."""


def wait_for_workers(
    client: Client,
    *,
    tell: Callable[[str], None],
    watch: Callable[[], bool] = lambda: False,
) -> None:
    """Wait until a worker can take tasks.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    tell : callable
        Called with one line if there is need to wait.
    watch : callable
        Called now and then meanwhile; once it says True the wait is over.

    Raises
    ------
    KeyboardInterrupt
        If `watch` says True.
    ClusterError
        If there is none within the setting ``cloudposterior.cluster.wait-timeout``, or the
        scheduler goes away meanwhile.
    """
    if running_workers(client):
        return
    limit = cluster_setting("wait-timeout")
    address = client.scheduler.address
    tell(
        f"waiting for a worker of {address} (an adaptive or cloud cluster may take minutes; "
        f"at most {limit}: cloudposterior.cluster.wait-timeout)"
    )
    # an adaptive cluster starts its first worker when there is a task that wants one
    want = client.submit(os.getpid, key=f"cloudposterior-first-worker-{uuid.uuid4().hex}")
    try:
        _wait(client, want, time.monotonic() + float(parse_timedelta(limit)), address, watch)
    finally:
        want.release()


def _wait(
    client: Client, want: Future, deadline: float, address: str, watch: Callable[[], bool]
) -> None:
    # where workers appear and are busy at once, the task does not finish, and need not
    while not (want.done() or running_workers(client)):
        if watch():
            raise KeyboardInterrupt("stopped before there was a worker")
        left = deadline - time.monotonic()
        if left <= 0:
            raise ClusterError(
                f"no worker of {address} came within "
                f"{cluster_setting('wait-timeout')}: start workers "
                f"(`dask worker {address}`, `cluster.scale(4)`), or wait longer: "
                "cloudposterior.cluster.wait-timeout in dask.config"
            )
        try:
            want.exception(timeout=min(left, _LOOK_AGAIN_S))
        except TimeoutError:
            continue
    if want.cancelled() or client.status != "running":
        raise ClusterError(
            f"the scheduler at {address} went away while a worker was waited for "
            f"(the client is {client.status}): check the scheduler, and make a new client"
        )


def running_workers(client: Client) -> list[str]:
    """Give the addresses of the workers that take tasks, in order.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    """
    return sorted(a for a, worker in _workers(client).items() if worker["status"] == "running")


def _workers(client: Client) -> dict[str, Any]:
    return dict(client.scheduler_info(n_workers=-1).get("workers", {}))


class Absence:
    """Looks after a cluster while chains are drawn: whether it has workers, and a scheduler.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    tell : callable
        Called with what the run does, and with what there is to say of that.
    """

    def __init__(self, client: Client, tell: Callable[[str, str], None]) -> None:
        self._client = client
        self._tell = tell
        self._patience = cluster_setting("scheduler-timeout")
        self._next = time.monotonic() + _ABSENT_S
        self._absent = False
        self._asked: Answer[Any] | None = None

    def look(self) -> None:
        """Look, if that is due. Nobody waits for the answer, which may never come.

        Raises
        ------
        ClusterError
            If the scheduler is connected and has not answered within the setting
            ``cloudposterior.cluster.scheduler-timeout``.
        """
        now = time.monotonic()
        if self._client.status != "running" or (self._asked is None and now < self._next):
            return
        if self._asked is None:
            self._asked, self._next = self._ask(), now
        if self._asked.done():
            answer, self._asked = self._asked, None
            self._next = now + _ABSENT_S
            self._take_in(answer)
        elif now - self._next > float(parse_timedelta(self._patience)):
            self._asked.cancel()
            raise ClusterError(
                f"the scheduler at {self._client.scheduler.address} has not answered for "
                f"{self._patience} (cloudposterior.cluster.scheduler-timeout): check the scheduler "
                "and the network, and run again"
            )

    def _ask(self) -> Answer[Any]:
        async def running() -> Any:
            return await self._client.scheduler.ncores_running()

        return asyncio.run_coroutine_threadsafe(running(), self._client.loop.asyncio_loop)

    def _take_in(self, answer: Answer[Any]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            # its connection broke, which the client notices
            return
        absent = not answer.result()
        if absent and not self._absent:
            self._tell("waiting for workers", "all of them have gone")
        elif self._absent and not absent:
            self._tell("sampling", "")
        self._absent = absent


def check_workers(client: Client, packages: Sequence[str]) -> None:
    """Check that the workers run the Python and the packages that the client runs.

    Each worker is asked once for each client; those that join later are asked at the next call.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    packages : sequence of str
        Names of distributions, as `importlib.metadata` knows them.

    Raises
    ------
    ClusterError
        If a worker lacks one or has another version; each such worker, package and both versions
        are named.
    """
    known = _verified.setdefault(client, {})
    workers = {
        (address, str(worker.get("local_directory"))): address
        for address, worker in _workers(client).items()
    }
    for gone in known.keys() - workers.keys():
        del known[gone]
    new = [process for process in workers if not known.get(process, set()).issuperset(packages)]
    if not new:
        return
    ours = versions_here(packages)
    theirs = _versions_there(client, packages, [workers[process] for process in new])
    differing = differences_of(ours, theirs)
    if differing:
        raise ClusterError(
            f"workers differ from this process, and nothing was sampled:\n{differing}"
        )
    for process in new:
        if workers[process] in theirs:
            known.setdefault(process, set()).update(packages)


def _versions_there(
    client: Client, packages: Sequence[str], addresses: list[str]
) -> dict[str, dict[str, str | None]]:
    """Ask workers for their versions, by worker; one that left meanwhile is left out.

    What is sent is a function of `distributed` by its name, which any Python reads: bytecode of
    ours would not arrive on another Python, and a worker may lack this package. `Client.run`
    needs no free thread, so a worker in a long task answers too. The function reads metadata, in
    2 ms for all packages, and imports nothing; `importlib.metadata.version` would do that as
    well, but each package that a worker lacks is then a traceback in its log.
    """
    from distributed.versions import get_versions

    answers = client.run(get_versions, list(packages), workers=addresses, on_error="return")
    return {
        address: _named(answer["packages"], packages)
        for address, answer in answers.items()
        if not _left(address, answer)
    }


def _left(address: str, answer: Any) -> bool:
    if isinstance(answer, Exception) and not isinstance(answer, OSError):
        raise ClusterError(
            f"the worker {address} cannot tell its versions ({answer!r}): restart it with the "
            "same packages as here"
        ) from answer
    return isinstance(answer, OSError)


def _named(found: dict[str, str | None], packages: Sequence[str]) -> dict[str, str | None]:
    return {"Python": minor_of(str(found["python"])), **{name: found[name] for name in packages}}
