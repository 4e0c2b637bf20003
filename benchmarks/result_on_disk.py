"""Measure what a client holds of a log-likelihood that is larger than it is to keep in memory.

Memory is what the process has of its own (RssAnon of Linux): pages of files leave when they must.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pymc as pm
import xarray as xr
from cluster_time import local_cluster
from rows import Row, run_script

import cloudposterior as cp
from cloudposterior.posterior import from_tree, to_tree

MB = 1e6
SIZES = {"observations": (100_000, 10_000), "draws": (500, 100)}


def own_bytes() -> int:
    """Give what this process has in memory that is in no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


class Peak:
    """The most that the process had, above what it began with."""

    def __enter__(self) -> Peak:
        self._ended, self._began, self._most = threading.Event(), own_bytes(), 0
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self._most = max(self._most, own_bytes())

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.bytes = max(0, self._most - self._began)


def measure(asked: argparse.Namespace) -> Iterator[Row]:
    rng = np.random.default_rng(1)
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=rng.normal(size=asked.observations))
    draws = xr.Dataset({"mu": (("chain", "draw"), rng.normal(size=(4, asked.draws)))})
    draws = draws.assign_coords(chain=np.arange(4), draw=np.arange(asked.draws))
    size = 8 * 4 * asked.draws * asked.observations
    # beside where it will lie in the end: a temporary directory may be memory
    with tempfile.TemporaryDirectory(dir=".") as directory, local_cluster(2) as client:
        for where, limit in (("on disk", size // 4), ("in memory", 4 * size)):
            posterior: Any = from_tree(xr.DataTree.from_dict({"posterior": draws}))
            with (
                dask.config.set({"cloudposterior.lazy-above": limit}),
                cp.cloud(model, cluster=client, cache=f"{directory}/{where}", progress=False),
                Peak() as peak,
            ):
                pm.compute_log_likelihood(posterior, progressbar=False)
            found = to_tree(posterior)["log_likelihood"]["y"]
            assert (where == "on disk") == hasattr(found.data, "dask")
            what = f"log-likelihood of {size / MB:,.0f} MB {where}, peak of the client"
            yield Row(what, peak.bytes / MB, size / MB, "the result", unit="MB")


if __name__ == "__main__":
    run_script(__doc__, measure, SIZES)
