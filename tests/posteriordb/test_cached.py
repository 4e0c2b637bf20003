"""`cp.cloud` around every model of posteriordb: sampled once, then read from disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest

import cloudposterior as cp
from tests.posteriordb.models import MODELS

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "posteriordb"

pytestmark = [
    pytest.mark.skipif(
        not DATA.is_dir(), reason="the posteriordb data sets are not part of the project"
    ),
    pytest.mark.usefixtures("in_tmp_path"),
    # a few draws from improper priors: overflow on the way is no concern here
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


def build(name: str) -> pm.Model:
    """Build a model from its data set."""
    return MODELS[name](json.loads((DATA / f"{name}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", MODELS)
def test_posterior_is_sampled_once_and_then_read(
    name: str,
    runs: list[Any],
    capsys: pytest.CaptureFixture[str],
    assert_identical: Callable[[Any, Any], None],
) -> None:
    results = []
    for _ in range(2):
        with (
            # compiling well takes longer than these few draws, gradients of scans a minute
            pytensor.config.change_flags(mode="FAST_COMPILE"),
            cp.cloud(build(name), cache="disk") as model,
        ):
            step = pm.Metropolis(model.value_vars)
            results.append(
                pm.sample(
                    draws=25,
                    tune=5,
                    chains=2,
                    cores=1,
                    random_seed=8,
                    step=step,
                    progressbar=False,
                    compute_convergence_checks=False,
                )
            )
    assert len(runs) == 1
    assert "cached result" in capsys.readouterr().out
    assert_identical(*results)
    posterior = results[0]["posterior"]
    assert dict(posterior.sizes).items() >= {"chain": 2, "draw": 25}.items()
    assert {rv.name for rv in model.free_RVs} <= set(posterior.data_vars)
    (path,) = Path(".cloudposterior").rglob("*.nc")
    assert path.name.startswith("draws25_tune5_chains2_seed8-")
    assert all(np.isfinite(v.values).all() for v in posterior.data_vars.values())
