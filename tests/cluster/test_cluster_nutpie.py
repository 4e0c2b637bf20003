"""nutpie on a cluster: each chain has a stream of its own, wherever it is drawn."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from distributed import Client, LocalCluster

import cloudposterior as cp
from cloudposterior.posterior import to_tree
from cloudposterior.progress.table import Row
from cloudposterior.samplers.seeds import chain_seed

from . import models
from .sameness import (
    PYMC_5,
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


# log-likelihood ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(PYMC_5, reason="older PyMC computes none for nutpie")
@pytest.mark.filterwarnings("ignore:Passing `log_likelihood`:FutureWarning")
def test_nutpie_computes_the_log_likelihood_as_it_draws(two_workers: Client) -> None:
    two_workers.run(forget_models)
    two_workers.run(note_compilations)
    options = {**NUTPIE, "idata_kwargs": {"log_likelihood": True}}
    try:
        result = to_tree(on_cluster(models.regression(), two_workers, **options))
    finally:
        noted = two_workers.run(forget_compilations)
    # with the client's settings, while nobody else of the process compiles
    assert {one for of in noted.values() for one in of} == {(False, True)}
    for chain in range(2):
        change = {"chains": 1, "random_seed": chain_seed(NUTPIE["random_seed"], chain, 2)}
        alone = plain(models.regression(), **{**options, **change})["log_likelihood"]
        ours = result["log_likelihood"]["y"].to_numpy()[chain]
        assert same_values(ours, alone["y"].to_numpy()[0])


def note_compilations() -> None:
    """Note of each function whether it is compiled with fastmath, and by who holds the lock."""
    import pytensor
    from pytensor.compile import FunctionMaker

    from cloudposterior.samplers.compiling import COMPILING

    make = FunctionMaker.__init__

    def noting(self: Any, *args: Any, **kwargs: Any) -> None:
        # an RLock has no public name for that
        FunctionMaker.noted.append((pytensor.config.numba__fastmath, COMPILING._is_owned()))
        make(self, *args, **kwargs)

    FunctionMaker.noted = []
    FunctionMaker.unnoted = make
    FunctionMaker.__init__ = noting


def forget_compilations() -> list[tuple[bool, bool]]:
    from pytensor.compile import FunctionMaker

    FunctionMaker.__init__ = FunctionMaker.unnoted
    return list(FunctionMaker.noted)


# stopped and lost --------------------------------------------------------------------------------


@contextmanager
def meanwhile(act: Callable[[tuple[Row, ...]], bool]) -> Iterator[list[float]]:
    """Call a function with what is known of the chains of the run, until it says that it is done.

    The list holds the time when it was.
    """
    done: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            if any(act(run.status().rows) for run in cp.runs()):
                done.append(time.monotonic())
                return
            over.wait(0.05)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_nutpie_that_is_stopped_gives_the_draws_it_has(two_workers: Client) -> None:
    def stop(rows: tuple[Row, ...]) -> bool:
        drawn = [row.drawn for row in rows]
        # of a pair of which one is far behind, the other is the result
        ready = len(drawn) == 2 and min(drawn) > max(100, 0.7 * max(drawn))
        if ready:
            cp.runs()[0].stop()
        return ready

    options = {**NUTPIE, "draws": 3_000_000, "tune": 50, "discard_tuned_samples": True}
    # both begin at once where both have compiled
    on_cluster(models.regression(), two_workers, **NUTPIE)
    with meanwhile(stop) as stopped:
        result = on_cluster(models.regression(), two_workers, **options)
    assert time.monotonic() - stopped[0] < 10
    assert "cloudposterior_stopped" in result.attrs
    tree = to_tree(result)
    sizes = {tuple(tree[group].sizes[d] for d in ("chain", "draw")) for group in GROUPS}
    ((chains, draws),) = sizes
    assert chains == 2
    assert 50 < draws < 3_000_000
    for chain in range(2):
        seed = chain_seed(NUTPIE["random_seed"], chain, 2)
        change = {"draws": 50, "chains": 1, "random_seed": seed}
        alone = to_tree(plain(models.regression(), **{**options, **change}))["posterior"]["slope"]
        drawn = tree["posterior"]["slope"].to_numpy()[chain]
        assert same_values(drawn[:50], alone.to_numpy()[0])
        assert np.isfinite(drawn).all()


GROUPS = ("posterior", "sample_stats")


def wide() -> pm.Model:
    """A model that takes a while to draw from, though not to compile."""
    with pm.Model() as model:
        x = pm.Normal("x", shape=1000)
        pm.Normal("y", x.mean(), 0.1, observed=models.Y)
    return model


@pytest.mark.slow
def test_worker_that_dies_does_not_change_the_draws_of_nutpie() -> None:
    options = {**NUTPIE, "draws": 40_000, "discard_tuned_samples": True}
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        expected = on_cluster(wide(), client, **options)
        pids = client.run(os.getpid)

        def kill(rows: tuple[Row, ...]) -> bool:
            for row in rows:
                if 0 < row.drawn < row.total / 2:
                    os.kill(pids[row.worker], signal.SIGKILL)
                    return True
            return False

        with meanwhile(kill) as killed:
            ours = on_cluster(wide(), client, **options)
    assert killed
    assert_same_result(ours, expected)
