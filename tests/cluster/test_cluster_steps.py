"""Every step method and every way to begin: a cluster's draws are plain PyMC's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
from distributed import Client
from pymc.step_methods.compound import CompoundStep
from pymc.step_methods.metropolis import CauchyProposal

from cloudposterior.errors import ClusterError

from . import models
from .conftest import Commands
from .sameness import PYMC_5, SHORT, Options, assert_same_result, on_cluster, plain

pytestmark = pytest.mark.usefixtures("quick_compiling", "cut_small")


def check(build: Callable[[], pm.Model], client: Client, given: Any = None, **options: Any) -> None:
    """Compare a run on a cluster with a plain one; `given` makes arguments for a model."""
    results = []
    for sample in (lambda m, **o: on_cluster(m, client, **o), plain):
        model = build()
        results.append(sample(model, **options, **(given(model) if given else {})))
    assert_same_result(*results)


MODELS = {
    "NUTS": models.normal,
    "with data": models.regression,
    "NUTS and Metropolis": models.changepoint,
    "Gibbs": models.mixture,
    "custom distribution": models.custom,
    "without a gradient": models.opaque,
}


@pytest.mark.parametrize("name", MODELS)
def test_step_that_pymc_assigns_draws_as_plain(name: str, two_workers: Client) -> None:
    check(MODELS[name], two_workers, chains=3)


def test_client_without_a_compiler_draws_as_plain(two_workers: Client) -> None:
    """What is C elsewhere is NumPy there, which rounds otherwise."""
    with pytensor.config.change_flags(cxx=""):
        ours = on_cluster(models.mixture(), two_workers)
        assert "cxx=" in ours.attrs["cloudposterior_pytensor_flags"].split(",")
        assert_same_result(ours, plain(models.mixture()))


def test_worker_without_a_compiler_is_refused_where_c_is_compiled(commands: Commands) -> None:
    address = commands.scheduler()
    commands.worker(address, PYTENSOR_FLAGS="cxx=")
    # what PyMC 5 does by itself
    flags = {} if PYMC_5 else {"linker": "cvm"}
    with (
        pytensor.config.change_flags(mode="Mode", **flags),
        pytest.raises(
            ClusterError, match=r"no C\+\+ compiler, which the client has.*Install g\+\+"
        ),
    ):
        on_cluster(models.normal(), address, chains=1)


def test_worker_without_a_compiler_is_taken_where_numba_compiles(commands: Commands) -> None:
    if PYMC_5:
        pytest.skip("PyMC 5 compiles to C")
    address = commands.scheduler()
    commands.worker(address, PYTENSOR_FLAGS="cxx=")
    with pytensor.config.change_flags(mode="NUMBA", numba__fastmath=False):
        ours = on_cluster(models.normal(), address, chains=1)
        assert_same_result(ours, plain(models.normal(), chains=1))


@pytest.mark.skipif(PYMC_5, reason="PyMC 5 has no frozen models")
def test_frozen_model_draws_as_plain(two_workers: Client) -> None:
    from pymc.model.transform.optimization import freeze_model

    for seed in (5, 6):
        check(lambda: freeze_model(models.regression()), two_workers, random_seed=seed)


STEPS: dict[str, Callable[[pm.Model], Any]] = {
    "NUTS": lambda m: pm.NUTS(model=m),
    "NUTS and its settings": lambda m: pm.NUTS(model=m, target_accept=0.95, max_treedepth=3),
    "HamiltonianMC": lambda m: pm.HamiltonianMC(model=m),
    "Metropolis": lambda m: pm.Metropolis(model=m),
    "Metropolis with a proposal": lambda m: pm.Metropolis(
        m.value_vars, model=m, proposal_dist=CauchyProposal, tune_interval=10
    ),
    "Slice": lambda m: pm.Slice(model=m),
    "DEMetropolisZ": lambda m: pm.DEMetropolisZ(model=m, tune="lambda"),
    "a list": lambda m: [pm.Slice(m.value_vars[:1], model=m), pm.NUTS(m.value_vars[1:], model=m)],
    "a part": lambda m: pm.Metropolis(m.value_vars[:1], model=m),
    "CompoundStep": lambda m: CompoundStep(
        [pm.Metropolis(m.value_vars[:1], model=m), pm.Slice(m.value_vars[1:], model=m)]
    ),
    "the user's own": lambda m: models.Walk(m.value_vars, model=m),
    "derived from PyMC's": lambda m: models.Warier(m.value_vars[:1], model=m),
    "the user's own and NUTS": lambda m: [
        models.Warier(m.value_vars[:1], model=m, blocked=True),
        pm.NUTS(m.value_vars[1:], model=m),
    ],
}


@pytest.mark.parametrize("name", STEPS)
def test_step_that_is_given_draws_as_plain(name: str, two_workers: Client) -> None:
    check(models.normal, two_workers, lambda model: {"step": STEPS[name](model)})


@pytest.mark.parametrize("chains", [1, 2])
def test_step_that_was_used_before_draws_as_plain(chains: int, two_workers: Client) -> None:
    def used(model: pm.Model) -> Options:
        step = pm.Metropolis(model.value_vars, model=model, tune_interval=3)
        plain(model, step=step, cores=1)
        return {"step": step}

    check(models.normal, two_workers, used, chains=chains)


def test_step_of_a_population_draws_as_plain(two_workers: Client) -> None:
    check(
        models.normal, two_workers, lambda m: {"step": pm.DEMetropolis(model=m)}, chains=5, cores=1
    )


def test_step_of_a_population_of_too_few_raises_as_pymc(two_workers: Client) -> None:
    model = models.normal()
    with pytest.raises(Exception, match="DEMetropolis requires at least 3 chains"):
        on_cluster(model, two_workers, step=pm.DEMetropolis(model=model), cores=1)


@pytest.mark.parametrize(
    "init",
    ["adapt_diag", "jitter+adapt_diag_grad", "adapt_full", "jitter+adapt_full", "advi", "map"],
)
@pytest.mark.filterwarnings("ignore:QuadPotentialFullAdapt is an experimental:UserWarning")
def test_init_draws_as_plain(init: str, two_workers: Client) -> None:
    check(models.regression, two_workers, init=init, n_init=50)


def test_warning_of_pymc_on_a_worker_is_a_warning_here(two_workers: Client) -> None:
    with pytest.warns(UserWarning, match="QuadPotentialFullAdapt is an experimental feature"):
        on_cluster(models.regression(), two_workers, init="adapt_full", quiet=True)


OPTIONS: dict[str, Options] = {
    "one initial value for all": {"initvals": {"small::spread": 3.0}},
    "initial values for each": {"initvals": [{"small::spread": 3.0}, {"small::mu": [0.5, 0.1]}]},
    "no tuning": {"tune": 0},
    "one draw": {"draws": 1, "tune": 3},
    "one draw without tuning": {"draws": 1, "tune": 0},
    "one chain": {"chains": 1},
    "target_accept": {"target_accept": 0.95},
    "nuts": {"nuts": {"target_accept": 0.6, "max_treedepth": 2}},
    "max_treedepth": {"max_treedepth": 2},
    "no jitter to retry": {"jitter_max_retries": 0},
    "a list of seeds": {"random_seed": [3, 4]},
}


# said by plain PyMC, too
@pytest.mark.filterwarnings("ignore:A list or tuple of random_seed no longer:UserWarning")
@pytest.mark.parametrize("name", OPTIONS)
def test_option_draws_as_plain(name: str, two_workers: Client) -> None:
    check(models.normal, two_workers, **OPTIONS[name])


def test_option_of_a_compound_draws_as_plain(two_workers: Client) -> None:
    check(
        models.changepoint,
        two_workers,
        nuts={"target_accept": 0.95},
        metropolis={"tune_interval": 5},
        initvals={"year": 2},
    )


@pytest.mark.skipif(PYMC_5, reason="PyMC 5 tunes 1000 times whatever the steps")
def test_default_of_tune_is_that_of_the_steps(two_workers: Client) -> None:
    check(
        models.normal, two_workers, lambda m: {"step": pm.Metropolis(model=m)}, draws=5, tune=None
    )


def test_generator_is_left_as_plain_leaves_it(two_workers: Client) -> None:
    ours, theirs = (np.random.default_rng(8) for _ in range(2))
    for _ in range(2):
        one = on_cluster(models.regression(), two_workers, random_seed=ours, draws=5, tune=5)
        other = plain(models.regression(), random_seed=theirs, draws=5, tune=5)
        assert_same_result(one, other)
        assert ours.bit_generator.state == theirs.bit_generator.state
        spawned = {g.bit_generator.seed_seq.n_children_spawned for g in (ours, theirs)}
        assert len(spawned) == 1


def test_draws_arrive_in_parts(
    two_workers: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from cloudposterior.samplers.pymc_join import PyMCJoin

    parts: list[int] = []
    add = PyMCJoin.add

    def counted(self: PyMCJoin, segment: Any, held: Any = None) -> None:
        parts.append(segment.draws)
        add(self, segment, held)

    monkeypatch.setattr(PyMCJoin, "add", counted)
    with caplog.at_level(logging.CRITICAL, "pymc"):
        on_cluster(models.normal(), two_workers)
    assert len(parts) >= 6
    assert sum(parts) == SHORT["chains"] * (SHORT["tune"] + SHORT["draws"])
