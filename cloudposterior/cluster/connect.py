"""From what a user passes as ``cluster=`` to a connected client."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dask.config
from dask.utils import parse_timedelta

from cloudposterior.cluster.local import local_client, refuse_in_spawned_script
from cloudposterior.errors import ClusterError, ClusterWarning, warn

if TYPE_CHECKING:
    from distributed import Client, Security

__all__ = ["check_cluster", "open_client", "scheduler_of"]

_ALLOWED = (
    "pass a distributed.Client, a cluster object (LocalCluster, coiled.Cluster, SLURMCluster...), "
    "the address of a scheduler such as 'tcp://10.0.0.1:8786', 'local', or None for no cluster"
)
_GONE_S = 1.0
_GONE = ("closing", "closed", "stopping", "stopped", "failed")


def check_cluster(cluster: object) -> None:
    """Refuse what can be no cluster, by its looks alone: nothing is asked over the network.

    Parameters
    ----------
    cluster : object
        What was passed as ``cluster=``.

    Raises
    ------
    TypeError
        If it is no client, cluster or string, or is an asynchronous client or cluster.
    ValueError
        If it is a string, and neither ``"local"`` nor an address that Dask can read.
    ClusterError
        If it is a client or a cluster that was closed, or ``"local"`` in a script that a worker
        process is importing.
    """
    if cluster is None:
        return
    if cluster == "local":
        refuse_in_spawned_script()
    elif isinstance(cluster, str):
        _check_address(cluster)
    elif _is_client(cluster) or _is_cluster(cluster):
        _check_synchronous(cluster)
        _check_open(cluster)
    else:
        raise TypeError(f"cluster={cluster!r} is no cluster: {_ALLOWED}")


@contextmanager
def open_client(cluster: Any, *, chains: int) -> Iterator[Client]:
    """Connect to a cluster for as long as the block lasts.

    Parameters
    ----------
    cluster : distributed.Client, cluster object or str
        As `check_cluster` takes it.
    chains : int
        How many chains will run; ``"local"`` starts as many workers, up to the cores.

    Yields
    ------
    distributed.Client
        A synchronous client. One that was passed, and that of ``"local"``, stays open; any other
        is closed at the end. None is made the default of the process, so what else the user
        computes with Dask goes where it went before.

    Raises
    ------
    TypeError, ValueError
        As `check_cluster` raises them.
    ClusterError
        If nobody answers within the setting ``cloudposterior.cluster.connect-timeout``, or what
        answers is no scheduler.
    """
    check_cluster(cluster)
    if cluster is None:
        raise TypeError(f"there is no cluster to connect to: {_ALLOWED}")
    if _is_client(cluster):
        yield cluster
        return
    if cluster == "local":
        yield local_client(chains)
        return
    client = _new_client(cluster)
    try:
        yield client
    finally:
        _close(client)


def _is_client(cluster: object) -> bool:
    from distributed import Client

    return isinstance(cluster, Client)


def _is_cluster(cluster: object) -> bool:
    if isinstance(cluster, type):
        return False
    has_address = isinstance(getattr(cluster, "scheduler_address", None), str)
    return has_address or callable(getattr(cluster, "get_client", None))


def _check_address(address: str) -> None:
    from distributed.comm import get_address_host_port

    if "://" not in address:
        raise ValueError(f"cluster={address!r} is neither 'local' nor an address: {_ALLOWED}")
    if address.startswith("inproc://"):  # of this process, and without a port
        return
    try:
        get_address_host_port(address, strict=True)
    except ValueError as error:
        raise ValueError(f"cluster={address!r} is no address of a scheduler ({error})") from error


def _check_synchronous(cluster: object) -> None:
    if getattr(cluster, "asynchronous", False):
        kind = type(cluster).__name__
        raise TypeError(
            f"cluster={cluster!r} is asynchronous, and sampling waits for its result: pass a "
            f"synchronous one, {kind}(..., asynchronous=False), or the scheduler's address"
        )


def _check_open(cluster: object) -> None:
    status = getattr(cluster, "status", None)
    word = str(getattr(status, "name", status))
    if word in _GONE or (_is_client(cluster) and word != "running"):
        raise ClusterError(
            f"cluster={cluster!r} cannot be used, it is {word}: make a new one, or pass the "
            "address of its scheduler if that still runs"
        )


def _new_client(cluster: Any) -> Client:
    from distributed import Client

    timeout = _connect_timeout()
    address, security = _address_of(cluster)
    _ask_scheduler(address, security, timeout)
    # a cluster object knows more than its address, such as the link to its dashboard
    target = cluster if hasattr(cluster, "status") else address
    try:
        return Client(target, security=security, timeout=timeout, set_as_default=False)
    except Exception as error:
        raise _unreachable(address, error) from error


def _connect_timeout() -> float:
    return float(parse_timedelta(dask.config.get("cloudposterior.cluster.connect-timeout")))


def _address_of(cluster: Any) -> tuple[str, Security]:
    if isinstance(cluster, str):
        return cluster, _configured_security(cluster)
    address = getattr(cluster, "scheduler_address", None)
    if isinstance(address, str):
        return address, _as_security(getattr(cluster, "security", None))
    return _address_by_client(cluster)


def _as_security(security: Any) -> Security:
    from distributed import Security

    if isinstance(security, dict):
        return Security(**security)
    # dask-gateway has a class of its own
    if callable(getattr(security, "get_connection_args", None)):
        return security
    return Security()


def _configured_security(address: str) -> Security:
    """Find the security of an address as `distributed.Client` does: its loader, or its config."""
    from distributed.utils import import_term

    loader = dask.config.get("distributed.client.security-loader", None)
    return _as_security(import_term(loader)({"address": address}) if loader else None)


def _address_by_client(cluster: Any) -> tuple[str, Security]:
    """Learn the address from the client that a cluster hands out.

    That client may be new, and would then be the default of the process: it is not kept.
    """
    from distributed import Client

    before = set(Client._instances)
    takes = inspect.signature(cluster.get_client).parameters
    quietly = {"set_as_default": False} if "set_as_default" in takes else {}
    client = cluster.get_client(**quietly)
    try:
        check_cluster(client)
        return client.scheduler.address, _as_security(client.security)
    finally:
        if client not in before:
            _close(client)


def _ask_scheduler(address: str, security: Security, timeout: float) -> None:
    """Check that a scheduler answers at an address.

    `distributed.Client` waits for ever for what accepts a connection and then says nothing (the
    handshake has no timeout in 2026.8), and one that failed while it started complains once more
    when it is collected. So ask first, in a loop and a thread of our own: the caller's thread may
    run a loop already, as in a notebook.
    """
    try:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(asyncio.run, _identity(address, security, timeout)).result()
    # garbage that is read as a length raises even MemoryError
    except Exception as error:
        raise _unreachable(address, error) from error
    kind = answer.get("type") if isinstance(answer, dict) else None
    if kind != "Scheduler":
        raise ClusterError(
            f"at {address} answers a {kind}, and no scheduler: pass the scheduler's address, "
            "which `dask scheduler` prints and `cluster.scheduler_address` holds"
        )


async def _identity(address: str, security: Security, timeout: float) -> Any:
    from distributed.comm import connect

    async with asyncio.timeout(timeout):
        # a little less, so that the reason comes through
        comm = await connect(
            address, timeout=0.9 * timeout, **security.get_connection_args("client")
        )
        try:
            await comm.write({"op": "identity", "reply": True})
            return await comm.read()
        finally:
            comm.abort()


def _unreachable(address: str, error: Exception) -> ClusterError:
    cause = error.__cause__ or error
    reason = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
    hint = ""
    if address.startswith("tls://"):
        hint = (
            "; for tls:// the certificates are those of `distributed.comm.tls` in dask.config: "
            "ca-file, client.cert and client.key"
        )
    return ClusterError(
        f"no Dask scheduler answers at {address} ({reason}): check that it runs and can be "
        f"reached from here{hint}. How long to try is the setting "
        "cloudposterior.cluster.connect-timeout of dask.config, "
        f"now {dask.config.get('cloudposterior.cluster.connect-timeout')}"
    )


def _close(client: Client) -> None:
    """Close a client; a scheduler that is gone by then costs no result."""
    name = repr(client)
    try:
        # one whose scheduler is gone has nothing to say good-bye to
        client.close(**({} if client.status == "running" else {"timeout": _GONE_S}))
    except (OSError, TimeoutError) as error:
        warn(ClusterWarning, f"{name} could not be closed ({type(error).__name__}: {error})")


def scheduler_of(client: Client) -> str:
    """Name the scheduler of a client: one that was started anew at its address is another.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    """
    return str(client.scheduler_info(n_workers=0).get("id", ""))
