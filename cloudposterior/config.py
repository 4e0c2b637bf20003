"""The package's settings, kept in Dask's own configuration under ``cloudposterior:``."""

from __future__ import annotations

from pathlib import Path

import dask.config
import yaml

__all__ = ["DEFAULTS"]

with (Path(__file__).parent / "cloudposterior.yaml").open() as _file:
    DEFAULTS = yaml.safe_load(_file)

dask.config.update_defaults(DEFAULTS)
