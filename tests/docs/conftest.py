"""What examples and pages take for given: a small model, a cluster, an empty directory."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pymc.sampling.mcmc
import pytest
from distributed import Client, LocalCluster

import cloudposterior as cp
from cloudposterior.cluster import local


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers in this process: nothing is imported anew."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
    local._close()


@pytest.fixture
def names(client: Client, in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that an example may use without saying where they come from."""
    # PyMC's own sampler is what PyMC takes where this is not installed
    monkeypatch.setitem(sys.modules, "nutpie", None)
    monkeypatch.setattr(pymc.sampling.mcmc, "NUTPIE_INSTALLED", False, raising=False)
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.Normal("y", mu, 1.0, observed=[0.1, -0.4, 0.3, 1.2, 0.8])
    modules = {"az": az, "np": np, "pm": pm, "cp": cp, "warnings": warnings}
    return {**modules, "model": model, "client": client}
