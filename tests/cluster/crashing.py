"""A client that samples on a cluster until it is killed; run as a program of its own."""

from __future__ import annotations

import sys

import dask.config
import pytensor

import cloudposterior as cp
from tests.cluster import models
from tests.cluster.sameness import SHORT

RUN = {**SHORT, "draws": 3000, "tune": 100, "discard_tuned_samples": True}


def main(address: str, directory: str) -> None:
    """Sample without a seed, and write what comes in every moment."""
    names = {"segment": "50ms", "first-segment": "50ms", "keep-every": "50ms"}
    with (
        pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False),
        dask.config.set({f"cloudposterior.cluster.{k}": v for k, v in names.items()}),
    ):
        cp.sample(models.normal(), cluster=address, cache=directory, **{**RUN, "random_seed": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
