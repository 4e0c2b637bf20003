"""What can be reached: workers from the client, and a directory of its from workers."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["reaches_workers", "workers_write_to"]

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


def workers_write_to(root: Path, client: Client) -> bool:
    """Tell whether all workers write to a directory of this machine.

    They do it in their event loops, so this module brings in nothing large.

    Parameters
    ----------
    root : pathlib.Path
        The directory, which is made if it is not there.
    client : distributed.Client
        A connected, synchronous client.
    """
    probe = root / f".cloudposterior-reach-{uuid.uuid4().hex}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.touch()
        try:
            seen = client.run(_writes_beside, str(probe), on_error="return")
        finally:
            probe.unlink()
    except OSError:
        return False
    return bool(seen) and all(one is True for one in seen.values())


def _writes_beside(probe: str) -> bool:
    """Tell, on a worker, whether a file is seen there and others can be written beside it."""
    own = f"{probe}-{uuid.uuid4().hex}"
    if not os.path.exists(probe):
        return False
    Path(own).touch()
    os.unlink(own)
    return True
