"""Whether the client can talk to workers, or must have the scheduler pass their draws on."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["reaches_workers"]

_TIMEOUT_S = 3.0
_known: WeakKeyDictionary[Client, bool] = WeakKeyDictionary()


def reaches_workers(client: Client) -> bool:
    """Tell whether a client can connect to the workers of its cluster.

    Clusters in a cloud often keep their workers in a network of their own. One worker is tried,
    once for each client.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client, with a worker.
    """
    if client not in _known:
        workers = client.scheduler_info(n_workers=1).get("workers", {})
        if not workers:
            return False
        _known[client] = client.sync(_try, client, next(iter(workers)))
    return _known[client]


async def _try(client: Client, address: str) -> bool:
    from distributed.core import connect

    try:
        arguments = client.security.get_connection_args("client")
        comm = await connect(address, timeout=_TIMEOUT_S, **arguments)
    except OSError:
        return False
    await comm.close()
    return True
