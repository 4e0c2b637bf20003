"""The package's settings, kept in Dask's own configuration under ``cloudposterior:``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import dask.config
import yaml
from dask.utils import parse_bytes

__all__ = [
    "DEFAULTS",
    "cluster_setting",
    "has_no_room",
    "settings_here",
    "settings_of_client",
    "stays_on_disk",
]

with (Path(__file__).parent / "cloudposterior.yaml").open() as _file:
    DEFAULTS = yaml.safe_load(_file)

dask.config.update_defaults(DEFAULTS)

# `dask.config.set` is for a whole process, and a worker may drive runs of several clients
_of_client: ContextVar[Mapping[str, Any] | None] = ContextVar("settings_of_client", default=None)


_ALWAYS_SMALL = 2**27
"""Bytes that every machine has room for."""


def stays_on_disk(size_bytes: int) -> bool:
    """Say whether a result of so many bytes is left on disk, and read in parts.

    Parameters
    ----------
    size_bytes : int
        The size of its arrays.
    """
    limit = dask.config.get("cloudposterior.lazy-above")
    if limit is not None:
        try:
            return size_bytes > int(parse_bytes(limit))
        except (TypeError, ValueError, AttributeError):
            raise ValueError(
                f"the setting cloudposterior.lazy-above is {limit!r}: it is a size such as '4 GB', "
                "or null for half of the memory"
            ) from None
    return has_no_room(2 * size_bytes)


def has_no_room(size_bytes: int) -> bool:
    """Say whether so many bytes are more than the memory that the process may have.

    Parameters
    ----------
    size_bytes : int
        A size.
    """
    if size_bytes <= _ALWAYS_SMALL:
        return False
    # which takes the limits of containers into account; it takes a while to import
    from distributed.system import MEMORY_LIMIT

    return bool(size_bytes > MEMORY_LIMIT)


def cluster_setting(name: str) -> Any:
    """Give a setting under ``cloudposterior.cluster``.

    Parameters
    ----------
    name : str
        Its name there, e.g. ``"segment"``.
    """
    return dask.config.get(f"cloudposterior.cluster.{name}", config=_of_client.get())


def settings_here() -> dict[str, Any]:
    """Give all settings as they are now, for `settings_of_client`."""
    return {"cloudposterior": dask.config.get("cloudposterior")}


@contextmanager
def settings_of_client(settings: Mapping[str, Any]) -> Iterator[None]:
    """Have `cluster_setting` answer with the settings of another process, in this thread.

    Parameters
    ----------
    settings : mapping
        As `settings_here` gave them there.
    """
    token = _of_client.set(settings)
    try:
        yield
    finally:
        _of_client.reset(token)
