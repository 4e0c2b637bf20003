"""Workers that are lost: the scheduler tells the clients whose tasks they had."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING
from weakref import WeakSet

from cloudposterior.errors import ClusterWarning, tell

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["tell_losses"]

_told: WeakSet[Client] = WeakSet()


def tell_losses(client: Client) -> None:
    """Have a scheduler tell of each worker that it loses, and of the tasks that were there.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    """
    if client in _told:
        return
    # it brings in distributed
    plugin = importlib.import_module("cloudposterior.cluster.plugin")
    try:
        client.register_plugin(plugin.TellLosses())
    except Exception as error:  # noqa: BLE001  (what a scheduler lacks may raise anything)
        tell(
            ClusterWarning,
            f"the scheduler cannot tell which chains a lost worker had ({error!r}): such chains "
            "are drawn again from their start",
        )
    _told.add(client)
