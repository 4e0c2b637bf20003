"""A client that samples on a cluster until it is killed; run as a program of its own."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import dask.config
import pytensor

import cloudposterior as cp
from cloudposterior.cluster import partial
from tests.cluster import models
from tests.cluster.sameness import SHORT

RUN = {**SHORT, "draws": 1500, "tune": 100, "discard_tuned_samples": True}


WRITES = 6
"""So many files are written whole before one is not."""


def hang_in_a_write(mark: Path) -> None:
    """Write some files whole, and of the next one all but its name; leave a mark then."""
    sync, written = os.fsync, []

    def syncing(file: int) -> None:
        written.append(file)
        if len(written) > WRITES:
            mark.touch()
            threading.Event().wait()
        sync(file)

    os.fsync = syncing


def main(address: str, directory: str, mark: str = "") -> None:
    """Sample without a seed, and write what comes in every moment."""
    if mark:
        hang_in_a_write(Path(mark))
    # a fast machine is done before a twentieth of its time would have written that often
    partial._SHARE = 1.0
    names = {"segment": "50ms", "first-segment": "50ms", "keep-every": "50ms"}
    with (
        pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False),
        dask.config.set({f"cloudposterior.cluster.{k}": v for k, v in names.items()}),
    ):
        cp.sample(models.normal(), cluster=address, cache=directory, **{**RUN, "random_seed": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
