"""Small models with a posterior in closed form, and short runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytensor
import pytest

from tests.cluster.conftest import two_workers  # noqa: F401


@pytest.fixture(autouse=True)
def quick_compiling() -> Iterator[None]:
    """Run functions as they are written down: tiny models take longer to compile than to draw."""
    with pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False):
        yield


@pytest.fixture
def options() -> dict[str, Any]:
    """Arguments of a seeded run of a few hundred draws."""
    return {
        "draws": 200,
        "tune": 100,
        "chains": 2,
        "cores": 1,
        "random_seed": 1,
        "nuts_sampler": "pymc",
        "compute_convergence_checks": False,
        "progress": False,
    }
