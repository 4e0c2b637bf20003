"""What a client holds of a log-likelihood that is larger than it is to keep in memory.

    python benchmarks/result_on_disk.py --observations 100000 --draws 1000 --limit "200 MB"

Memory is what the process has of its own (RssAnon of Linux): pages of files leave when they must.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path

import dask
import numpy as np
import pymc as pm
import xarray as xr
from dask.utils import format_bytes, parse_bytes
from distributed import Client, LocalCluster

import cloudposterior as cp
from cloudposterior.posterior import from_tree, to_tree


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
        self.bytes = self._most - self._began


def main() -> None:
    """Print size and peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observations", type=int, default=100_000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--limit", default="200 MB")
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=rng.normal(size=options.observations))
    draws = xr.Dataset({"mu": (("chain", "draw"), rng.normal(size=(4, options.draws)))})
    draws = draws.assign_coords(chain=np.arange(4), draw=np.arange(options.draws))
    with (
        tempfile.TemporaryDirectory(dir=".") as directory,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        for limit in (None, options.limit):
            posterior = from_tree(xr.DataTree.from_dict({"posterior": draws}))
            with (
                dask.config.set({"cloudposterior.lazy-above": limit}),
                cp.cloud(model, cluster=client, cache=f"{directory}/{limit}", progress=False),
                Peak() as peak,
            ):
                pm.compute_log_likelihood(posterior, progressbar=False)
                found = to_tree(posterior)["log_likelihood"]["y"]
                kind = type(found.data).__name__
            print(
                f"limit {limit}: {format_bytes(found.nbytes)} as {kind}, "
                f"at most {format_bytes(peak.bytes)} in memory "
                f"({peak.bytes / found.nbytes:.2f} of it)"
            )
        assert found.nbytes > parse_bytes(options.limit)


if __name__ == "__main__":
    main()
