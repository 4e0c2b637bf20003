"""What runs leave on a cluster: futures under names, for whoever asks, until a set time has passed.

They are Dask's published datasets, named ``cloudposterior/<run>/<part>``, so they outlive the
client that made them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask.utils import parse_timedelta

from cloudposterior.config import cluster_setting

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = [
    "RUN",
    "keep",
    "keep_on",
    "kept",
    "key_of",
    "keys_of",
    "let_go",
    "parts_kept",
    "runs_kept",
]

_PREFIX = "cloudposterior"

RUN = "run"
"""The part under which the task that drives a run is kept."""


def _name(run: str, part: str) -> str:
    return f"{_PREFIX}/{run}/{part}"


def keep(client: Client, run: str, part: str, future: Future, *, replace: bool = False) -> bool:
    """Keep what a future stands for.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    run, part : str
        Under which it is kept.
    future : distributed.Future
        The future.
    replace : bool
        Whether to replace what is kept there.

    Returns
    -------
    bool
        False if there is something already, which stays.
    """
    try:
        client.publish_dataset(future, name=_name(run, part), override=replace)
    except KeyError:
        return False
    keep_on(client, run)
    return True


def keep_on(client: Client, run: str) -> None:
    """Let the time begin once more after which a run is let go of."""
    seconds = float(parse_timedelta(cluster_setting("keep-results")))
    client.sync(client.scheduler.cloudposterior_expire, run=run, seconds=seconds)


def key_of(client: Client, run: str, part: str) -> str:
    """Give the key of what is kept.

    Empty where nothing is, and where it cannot be had any more: it failed, or was data that went
    with its worker.
    """
    return keys_of(client, run, [part])[0]


def keys_of(client: Client, run: str, parts: list[str]) -> list[str]:
    """Give the keys of several parts, as `key_of` does."""
    names = [_name(run, part) for part in parts]
    keys: list[str] = client.sync(client.scheduler.cloudposterior_kept, names=names)
    return keys


def kept(client: Client, run: str, part: str) -> Future | None:
    """Give the future that is kept; None where there is none."""
    name = _name(run, part)
    # mostly there is none, and Dask's error would hold whoever asked in a cycle
    if name not in client.list_datasets():
        return None
    try:
        future: Future = client.get_dataset(name)
    except KeyError:
        # let go of meanwhile
        return None
    return future


def parts_kept(client: Client, run: str) -> list[str]:
    """List what is kept of a run."""
    return [name[2] for name in _names(client) if name[1] == run]


def runs_kept(client: Client) -> list[str]:
    """List the runs that could be fetched."""
    return sorted(name[1] for name in _names(client) if name[2] == RUN)


def let_go(client: Client, run: str, *parts: str) -> None:
    """Keep no more of a run than what others still hold.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    run : str
        The run.
    *parts : str
        Which parts; none for all of them.
    """
    names = [_name(run, part) for part in parts or parts_kept(client, run)]
    for name in names:
        client.unpublish_dataset(name)
    client.sync(client.scheduler.cloudposterior_forget, names=names)


def _names(client: Client) -> list[list[str]]:
    names: list[Any] = list(client.list_datasets())
    split = [name.split("/") for name in names if isinstance(name, str)]
    return [name for name in split if len(name) == 3 and name[0] == _PREFIX]
