"""Ctrl-C is for the client: it ends the chains, and not the workers that draw them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cloudposterior.cluster.connect import scheduler_of
from cloudposterior.errors import ClusterWarning, tell

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["keep_interrupts"]

_kept: WeakKeyDictionary[Client, str] = WeakKeyDictionary()
"""By client the scheduler whose workers leave Ctrl-C alone."""


def keep_interrupts(client: Client) -> None:
    """Have the workers that would get this process's Ctrl-C leave it to this process.

    A terminal, and Jupyter, sends it to a whole group of processes, which those of a
    `distributed.LocalCluster` belong to. Workers of other groups, or with an answer of their own,
    as `dask worker` has one, are left alone.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    """
    # a client may have other workers by now, of another scheduler at the same address
    scheduler = scheduler_of(client)
    if _kept.get(client) == scheduler:
        return
    # it brings in distributed
    plugin = importlib.import_module("cloudposterior.cluster.plugin")
    try:
        client.register_plugin(plugin.KeepInterrupts.of_this_process())
    except Exception as error:  # noqa: BLE001  (a worker may leave, or raise anything)
        tell(ClusterWarning, f"Ctrl-C may end workers instead of chains: {error!r}")
    _kept[client] = scheduler
