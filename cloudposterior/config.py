"""The package's settings, kept in Dask's own configuration under ``cloudposterior:``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import dask.config
import yaml

__all__ = ["DEFAULTS", "cluster_setting", "settings_here", "settings_of_client"]

with (Path(__file__).parent / "cloudposterior.yaml").open() as _file:
    DEFAULTS = yaml.safe_load(_file)

dask.config.update_defaults(DEFAULTS)

# `dask.config.set` is for a whole process, and a worker may drive runs of several clients
_of_client: ContextVar[Mapping[str, Any] | None] = ContextVar("settings_of_client", default=None)


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
