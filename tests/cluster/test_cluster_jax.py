"""Samplers on JAX on a cluster: each chain is a run of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from distributed import Client, LocalCluster

from cloudposterior.posterior import to_tree
from cloudposterior.samplers.seeds import chain_seed

from . import models
from .sameness import (
    Options,
    assert_same_dataset,
    assert_same_result,
    on_cluster,
    plain,
    same_values,
    without_times,
)

pytest.importorskip("jax")

pytestmark = [
    pytest.mark.usefixtures("exact"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def one_worker() -> Iterator[Client]:
    """One worker process with two threads."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["numpyro", "blackjax"])
def test_jax_draws_chain_by_chain_as_plain(
    sampler: str, one_worker: Client, two_workers: Client
) -> None:
    pytest.importorskip(sampler)
    options = {"nuts_sampler": sampler, "random_seed": 11, "discard_tuned_samples": True}
    result = on_cluster(models.regression(), one_worker, **options)
    for chain in range(2):
        seed = chain_seed(11, chain, 2)
        alone = plain(models.regression(), **{**options, "chains": 1, "random_seed": seed})
        for group, child in to_tree(alone).children.items():
            for name, values in child.data_vars.items():
                if "chain" in values.dims:
                    drawn = to_tree(result)[group][name].to_numpy()[chain]
                    assert same_values(drawn, values.to_numpy()[0]), f"{group}/{name}"
    assert_same_result(on_cluster(models.regression(), two_workers, **options), result)
    moved = on_cluster(models.regression(-3.0), one_worker, **options)
    assert np.array_equal(moved["constant_data"]["x"], np.arange(5.0) - 3.0)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["numpyro", "blackjax"])
def test_jax_gives_chains_of_the_form_of_plain(sampler: str, one_worker: Client) -> None:
    pytest.importorskip(sampler)
    options: Options = {
        "nuts_sampler": sampler,
        "random_seed": 11,
        "discard_tuned_samples": True,
        "idata_kwargs": {"log_likelihood": True},
    }
    result = on_cluster(models.normal("named"), one_worker, **options)
    ours = to_tree(result)
    for chain in range(2):
        change = {"chains": 1, "random_seed": chain_seed(11, chain, 2)}
        alone = plain(models.normal("named"), **{**options, **change})
        assert type(result) is type(alone)
        theirs = to_tree(alone)
        assert list(ours.children) == list(theirs.children)
        assert without_times(ours.attrs) == without_times(theirs.attrs)
        for group in theirs.children:
            one, other = ours[group].to_dataset(), theirs[group].to_dataset()
            assert list(one.coords) == list(other.coords), group
            if "chain" in other.dims:
                # alone, each is number 0
                assert one["chain"].to_numpy().tolist() == [0, 1]
                zero = np.arange(1)
                one, other = (d.assign_coords(chain=zero) for d in (one[{"chain": [chain]}], other))
            assert_same_dataset(one, other, group)
