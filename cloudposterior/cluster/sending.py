"""Bytes on their way to a cluster: a model, arguments, a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudposterior.cluster import tasks
from cloudposterior.cluster.sealed import submit

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["send_bytes"]

_PART_BYTES = 8 * 2**20
"""A graph of more is warned about by Dask, and a scheduler takes many small messages better."""


def send_bytes(client: Client, data: bytes, key: str) -> Future:
    """Send bytes as tasks. What is scattered goes with its worker; what a task made is made again.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    data : bytes
        Any number of them.
    key : str
        The key of the task whose result they are.
    """
    parts = [
        submit(client, tasks.same, data[i : i + _PART_BYTES], key=f"{key}-{i}", pure=False)
        for i in range(0, len(data), _PART_BYTES)
    ]
    return submit(client, tasks.join_parts, *parts, key=key, pure=False)
