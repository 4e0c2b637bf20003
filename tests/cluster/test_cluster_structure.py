"""Models of one structure, with data of their own, share what is compiled, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytest
from distributed import Client
from pymc.sampling import mcmc

import cloudposterior as cp
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
        count = pm.Poisson("count", 3.0)
        pm.Normal("y", b * x + count, pm.HalfNormal("s"), observed=seen)
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
        step = pm.Metropolis([model["shared::count"]])
    on_cluster(model, two_workers, step=[step])
    assert len(asked) == 2


def test_many_fits_of_one_structure_are_those_of_plain_pymc(two_workers: Client) -> None:
    fits = cp.map(
        [with_data(number) for number in range(4)], cluster=two_workers, cache=False, **SHORT
    )
    for number, fit in enumerate(fits):
        assert_same(fit, plain(with_data(number)))
