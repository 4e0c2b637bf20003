"""Whether a cluster has workers, and whether they run what the client runs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import dask.config
from dask.utils import parse_timedelta

from cloudposterior.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["check_workers", "wait_for_workers"]

_LOOK_AGAIN_S = 0.5

_Process = tuple[str, str]
"""A worker's address and directory: a worker that is started anew on its port has another."""

_verified: WeakKeyDictionary[Client, dict[_Process, set[str]]] = WeakKeyDictionary()
"""What was found equal, so that a second run asks nobody again."""


def wait_for_workers(client: Client, *, tell: Callable[[str], None]) -> None:
    """Wait until a worker can take tasks.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    tell : callable
        Called with one line if there is need to wait.

    Raises
    ------
    ClusterError
        If there is none within the setting ``cloudposterior.cluster.wait-timeout``, or the
        scheduler goes away meanwhile.
    """
    if _has_running_worker(client):
        return
    limit = dask.config.get("cloudposterior.cluster.wait-timeout")
    address = client.scheduler.address
    tell(
        f"waiting for a worker of {address} (an adaptive or cloud cluster may take minutes; "
        f"at most {limit}: cloudposterior.cluster.wait-timeout)"
    )
    # an adaptive cluster starts its first worker when there is a task that wants one
    want = client.submit(os.getpid, key=f"cloudposterior-first-worker-{uuid.uuid4().hex}")
    try:
        _wait(client, want, time.monotonic() + float(parse_timedelta(limit)), address)
    finally:
        want.release()


def _wait(client: Client, want: Future, deadline: float, address: str) -> None:
    # where workers appear and are busy at once, the task does not finish, and need not
    while not (want.done() or _has_running_worker(client)):
        left = deadline - time.monotonic()
        if left <= 0:
            raise ClusterError(
                f"no worker of {address} came within "
                f"{dask.config.get('cloudposterior.cluster.wait-timeout')}: start workers "
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


def _has_running_worker(client: Client) -> bool:
    return any(worker["status"] == "running" for worker in _workers(client).values())


def _workers(client: Client) -> dict[str, Any]:
    return dict(client.scheduler_info(n_workers=-1).get("workers", {}))


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
    ours = _versions_here(packages)
    theirs = _versions_there(client, packages, [workers[process] for process in new])
    differing = {
        address: [name for name in ours if versions[name] != ours[name]]
        for address, versions in theirs.items()
    }
    if any(differing.values()):
        raise ClusterError(_differences(ours, theirs, differing))
    for process in new:
        if workers[process] in theirs:
            known.setdefault(process, set()).update(packages)


def _versions_here(packages: Sequence[str]) -> dict[str, str | None]:
    versions: dict[str, str | None] = {"Python": _minor(platform.python_version())}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


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
    return {"Python": _minor(str(found["python"])), **{name: found[name] for name in packages}}


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _differences(
    ours: dict[str, str | None],
    theirs: dict[str, dict[str, str | None]],
    differing: dict[str, list[str]],
) -> str:
    lines = [
        f"  {address}: {name} {theirs[address][name] or 'not installed'}, "
        f"here {ours[name] or 'not installed'}"
        for address, names in differing.items()
        for name in names
    ]
    names = list(dict.fromkeys(name for found in differing.values() for name in found))
    return (
        "workers differ from this process, and nothing was sampled:\n"
        + "\n".join(lines)
        + f"\n{_remedy(names, ours)}"
    )


def _remedy(names: list[str], ours: dict[str, str | None]) -> str:
    wanted = " ".join(f"{name}=={ours[name]}" for name in names if name != "Python" and ours[name])
    steps = []
    if "Python" in names:
        steps.append(f"start the workers with Python {ours['Python']}")
    if wanted:
        steps.append(f"install what is here on the workers (`pip install {wanted}`)")
    if any(ours[name] is None for name in names):
        steps.append("install here what the workers have")
    return (
        f"{', and '.join(steps) or 'make them equal'}; then restart them. Workers that are started "
        "from this environment, or from one image with it, are equal from the start"
    )
