"""Models of one structure, with data of their own, share what is compiled, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from distributed import Client
from pymc.sampling import mcmc

import cloudposterior as cp
from cloudposterior.posterior import to_tree
from cloudposterior.samplers import resolve
from cloudposterior.samplers.kept import kept_models

from .sameness import SHORT, assert_same, assert_same_result, on_cluster, plain

pytestmark = [
    pytest.mark.usefixtures("quick_compiling", "cut_small"),
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]


def with_data(number: int) -> pm.Model:
    rng = np.random.default_rng(number)
    with pm.Model(name="shared") as model:
        x, seen = pm.Data("x", rng.normal(size=7)), pm.Data("seen", rng.normal(size=7))
        b = pm.Normal("b")
        c = pm.Normal("c", 3.0)
        pm.Normal("y", b * x + c, pm.HalfNormal("s"), observed=seen)
    return model


def test_each_has_the_draws_of_its_own_data(two_workers: Client) -> None:
    before = {structure for kept in two_workers.run(kept_models).values() for structure in kept}
    for number in range(3):
        ours = on_cluster(with_data(number), two_workers)
        assert_same_result(ours, plain(with_data(number)))
    after = {structure for kept in two_workers.run(kept_models).values() for structure in kept}
    assert len(after - before) == 1


def test_pymc_is_asked_once_which_steps_they_take(
    two_workers: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    assign = mcmc.assign_step_methods

    def counting(*args: Any, **kwargs: Any) -> Any:
        asked.append(1)
        return assign(*args, **kwargs)

    monkeypatch.setattr(resolve, "_assigned", type(resolve._assigned)())
    monkeypatch.setattr(mcmc, "assign_step_methods", counting)
    for number in range(3):
        on_cluster(with_data(number), two_workers)
    assert len(asked) == 1
    with with_data(4) as model:
        step = pm.Metropolis([model["shared::c"]])
    on_cluster(model, two_workers, step=[step])
    assert len(asked) == 2


def test_many_fits_of_one_structure_are_those_of_plain_pymc(two_workers: Client) -> None:
    fits = cp.map(
        [with_data(number) for number in range(4)], cluster=two_workers, cache=False, **SHORT
    )
    for number, fit in enumerate(fits):
        assert_same(fit, plain(with_data(number)))


def categories(count: int) -> pm.Model:
    """A model that is given other steps with more categories."""
    with pm.Model(name="choice") as model:
        many = pm.Data("many", count)
        pm.Categorical("c", p=pt.alloc(1.0 / many, pt.cast(many, "int64")))
    return model


def test_steps_that_depend_on_data_are_those_of_the_data(two_workers: Client) -> None:
    for count in (2, 5, 2):
        ours = on_cluster(categories(count), two_workers, draws=60)
        theirs = plain(categories(count), draws=60)
        drawn = to_tree(ours)["posterior"]["choice::c"].to_numpy()
        assert np.array_equal(drawn, to_tree(theirs)["posterior"]["choice::c"].to_numpy())
        assert set(np.unique(drawn)) == set(range(count))
