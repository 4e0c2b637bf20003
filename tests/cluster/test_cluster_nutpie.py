"""nutpie on a cluster: each chain has a stream of its own, wherever it is drawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from cloudposterior.posterior import to_tree
from cloudposterior.samplers.seeds import chain_seed

from . import models
from .sameness import (
    Options,
    assert_same_result,
    compilations,
    on_cluster,
    plain,
    same_values,
    without_times,
)

pytest.importorskip("nutpie")

pytestmark = [
    pytest.mark.usefixtures("exact"),
    pytest.mark.filterwarnings("ignore:.*numba.*:UserWarning"),
]

NUTPIE: Options = {"nuts_sampler": "nutpie", "random_seed": 11}


@pytest.fixture(scope="module")
def one_worker() -> Iterator[Client]:
    """One worker process with two threads, whose compile cache may be warm."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.slow
def test_nutpie_draws_the_same_wherever_and_again(one_worker: Client, two_workers: Client) -> None:
    first = on_cluster(models.regression(), one_worker, chains=3, **NUTPIE)
    before = compilations(one_worker)
    assert_same_result(on_cluster(models.regression(), one_worker, chains=3, **NUTPIE), first)
    assert compilations(one_worker) == before
    assert_same_result(on_cluster(models.regression(), two_workers, chains=3, **NUTPIE), first)


def test_nutpie_draws_chain_by_chain_as_plain(one_worker: Client) -> None:
    result = to_tree(on_cluster(models.regression(), one_worker, chains=3, **NUTPIE))
    for chain in range(3):
        seed = chain_seed(NUTPIE["random_seed"], chain, 3)
        alone = plain(models.regression(), chains=1, **{**NUTPIE, "random_seed": seed})
        for group, child in to_tree(alone).children.items():
            for name, values in child.data_vars.items():
                if "chain" in values.dims:
                    drawn = result[group][name].to_numpy()[chain]
                    assert same_values(drawn, values.to_numpy()[0]), f"{group}/{name}"


@pytest.mark.parametrize("discard", [True, False])
def test_nutpie_gives_the_form_of_plain(discard: bool, one_worker: Client) -> None:
    options = {**NUTPIE, "discard_tuned_samples": discard}
    ours, theirs = (
        to_tree(run(models.normal("named"), **options)) for run in (sampler(one_worker), plain)
    )
    assert list(ours.children) == list(theirs.children)
    for group in theirs.children:
        one, other = ours[group].to_dataset(), theirs[group].to_dataset()
        assert form(one) == form(other), group
        for name in other.coords:
            assert np.array_equal(one[name].to_numpy(), other[name].to_numpy()), name
        assert without_seed(one.attrs) == without_seed(other.attrs)


def sampler(client: Client) -> Callable[..., Any]:
    return lambda model, **options: on_cluster(model, client, **options)


def without_seed(attributes: Any) -> Options:
    """Leave out what is of a run, and the seed: each chain has its own."""
    name = "inference_library_settings"
    known = without_times(attributes)
    if name in known:
        known[name] = json.loads(known[name])
        del known[name]["settings"]["seed"]
    return known


def form(dataset: xr.Dataset) -> Options:
    return {str(n): (v.dims, v.shape, v.dtype, v.attrs) for n, v in dataset.variables.items()}


def test_nutpie_takes_other_data_without_compiling(one_worker: Client, two_workers: Client) -> None:
    on_cluster(models.regression(), one_worker, **NUTPIE)
    before = compilations(one_worker)
    ours = on_cluster(models.regression(-3.0), one_worker, **NUTPIE)
    assert compilations(one_worker) == before
    assert np.array_equal(ours["constant_data"]["x"], np.arange(5.0) - 3.0)
    two_workers.run(forget_models)
    fresh = on_cluster(models.regression(-3.0), two_workers, **NUTPIE)
    assert_same_result(ours, fresh)


def forget_models() -> None:
    from cloudposterior.samplers import kept

    kept._kept.clear()


def test_nutpie_compiles_once_for_all_settings(one_worker: Client) -> None:
    on_cluster(models.regression(), one_worker, **NUTPIE)
    before = compilations(one_worker)
    for change in ({"random_seed": 2}, {"draws": 30}, {"target_accept": 0.95}, {"chains": 4}):
        on_cluster(models.regression(), one_worker, **{**NUTPIE, **change})
    assert compilations(one_worker) == before


def outcome(run: Callable[..., Any], **options: Any) -> str:
    try:
        return str(list(to_tree(run(models.regression(), **{**NUTPIE, **options})).children))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.filterwarnings("ignore:.*ignored by:UserWarning")
@pytest.mark.filterwarnings("ignore:`return_inferencedata=False` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["callback", "return_inferencedata", "initvals", "step"])
def test_nutpie_refuses_what_plain_refuses(name: str, one_worker: Client) -> None:
    values: Options = {
        "callback": lambda **_: None,
        "return_inferencedata": False,
        "initvals": [{"slope": 0.0}, {"slope": 0.1}],
        "step": pm.Metropolis,
    }
    change = {name: values[name], "discard_tuned_samples": True}
    assert outcome(sampler(one_worker), **change) == outcome(plain, **change)


def test_nutpie_refuses_a_discrete_variable_as_plain(one_worker: Client) -> None:
    for run in (sampler(one_worker), plain):
        with pytest.raises(ValueError, match="ifferentiable|continuous"):
            run(models.changepoint(), **NUTPIE)
