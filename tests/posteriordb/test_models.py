"""The posteriordb models start at a finite density, and their tokens follow their data."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import dask.base
import numpy as np
import pytest

import cloudposterior  # noqa: F401  (registers the tokens)
from tests.posteriordb.models import MODELS

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "posteriordb"
DATUM = {
    "arK": "y",
    "earnings": "earn",
    "eight_schools": "y",
    "garch": "y",
    "gp_pois_regr": "k",
    "hudson_lynx_hare": "y",
    "kidiq": "mom_iq",
    "kilpisjarvi_mod": "x",
    "low_dim_gauss_mix": "y",
    "mesquite": "diam2",
    "nes1972": "age_discrete",
}
"""A series in each data set, one entry of which is changed."""

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the posteriordb data sets are not part of the project"
)


def read(name: str) -> dict[str, Any]:
    """Read a data set."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def with_one_datum_changed(name: str) -> dict[str, Any]:
    """Change one entry in the middle of a series by one."""
    data = copy.deepcopy(read(name))
    series = data[DATUM[name]]
    middle = len(series) // 2
    if isinstance(series[middle], list):
        series = series[middle]
        middle = 0
    series[middle] += 1
    return data


def test_models_cover_every_data_set() -> None:
    assert set(MODELS) == {path.stem for path in DATA.glob("*.json")} == set(DATUM)


@pytest.mark.parametrize("name", MODELS)
def test_density_is_finite_at_the_initial_point(name: str) -> None:
    model = MODELS[name](read(name))
    # PyTensor warns of a machine without a BLAS that it can link to.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # One evaluation is no reason to wait for optimised code.
        density = model.compile_fn(model.logp(sum=False), mode="FAST_COMPILE")
        terms = density(model.initial_point())
    assert all(np.isfinite(term).all() for term in terms), terms


@pytest.mark.parametrize("name", MODELS)
def test_token_is_that_of_the_data(name: str) -> None:
    token = dask.base.tokenize(MODELS[name](read(name)))
    assert dask.base.tokenize(MODELS[name](read(name))) == token
    assert dask.base.tokenize(MODELS[name](with_one_datum_changed(name))) != token
