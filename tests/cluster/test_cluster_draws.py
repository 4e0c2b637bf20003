"""The same draws wherever, in whatever parts and however often they are drawn."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
import pymc as pm
import pytensor
import pytest
from distributed import Client, LocalCluster

import cloudposterior as cp
from cloudposterior.samplers.kept import kept_models
from cloudposterior.samplers.pymc_join import PyMCJoin

from . import models
from .sameness import SHORT, Options, assert_same_result, compilations, on_cluster, plain

Build = Callable[..., pm.Model]


@pytest.fixture(scope="module")
def two_threads() -> Iterator[Client]:
    """One worker process with two threads."""
    with (
        cluster_of(1, threads_per_worker=2) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def cluster_of(workers: int, **options: Any) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        **{"threads_per_worker": 1, "processes": True, "dashboard_address": ":0", **options},
    )


@pytest.fixture
def segments(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Chain, first draw and number of draws of each segment that arrives."""
    arrived: list[tuple[int, int, int]] = []
    add = PyMCJoin.add

    def noted(self: PyMCJoin, segment: Any, held: Any = None) -> None:
        arrived.append((segment.chain, segment.first, segment.draws))
        add(self, segment, held)

    monkeypatch.setattr(PyMCJoin, "add", noted)
    return arrived


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.usefixtures("exact", "cut_small")
def test_radon_draws_as_plain(
    build_radon: Build, two_workers: Client, segments: list[tuple[int, int, int]]
) -> None:
    options = {"draws": 60, "tune": 60, "chains": 4}
    ours = on_cluster(build_radon(), two_workers, **options)
    assert_same_result(ours, plain(build_radon(), **options))
    assert len(segments) >= 8


@pytest.mark.usefixtures("exact")
def test_block_draws_as_plain(two_workers: Client) -> None:
    model = models.regression()
    with cp.cloud(model, cluster=two_workers, cache=False):
        ours = pm.sample(**SHORT)
    assert_same_result(ours, plain(models.regression()))
    flags = str(ours.attrs["cloudposterior_pytensor_flags"])
    assert "numba__fastmath=False" in flags or not hasattr(pytensor.config, "numba__fastmath")


@pytest.mark.usefixtures("exact")
def test_arguments_of_compilation_are_honoured(two_workers: Client) -> None:
    options = {"compile_kwargs": {"mode": "FAST_COMPILE"}}
    ours = on_cluster(models.regression(), two_workers, **options)
    assert_same_result(ours, plain(models.regression(), **options))


@pytest.fixture(scope="module")
def drawn_plainly() -> dict[str, Any]:
    """What plain PyMC draws of each model, for all clusters."""
    return {}


def asked(name: str, model: pm.Model) -> Options:
    """Give what a model of the matrix is sampled with."""
    if name != "step":
        return {"chains": 4}
    with model:
        return {"chains": 4, "step": pm.Slice()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.usefixtures("quick_compiling", "cut_small")
@pytest.mark.parametrize(
    "workers",
    [
        (2, 1, True),
        (1, 2, False),
        # what they have in common with these does not depend on PyMC
        *(
            pytest.param(of, marks=pytest.mark.once)
            for of in [(1, 1, True), (4, 1, True), (1, 2, True), (2, 2, True)]
        ),
    ],
    ids=lambda of: f"{of[0]}x{of[1]}-{'processes' if of[2] else 'threads'}",
)
def test_workers_do_not_change_the_draws(
    workers: tuple[int, int, bool],
    build_radon: Build,
    drawn_plainly: dict[str, Any],
    segments: list[tuple[int, int, int]],
) -> None:
    count, threads, processes = workers
    builds = {"radon": build_radon, "changepoint": models.changepoint, "step": models.normal}
    with (
        cluster_of(count, threads_per_worker=threads, processes=processes) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        for name, build in builds.items():
            if name not in drawn_plainly:
                model = build()
                drawn_plainly[name] = plain(model, **asked(name, model))
            model = build()
            assert_same_result(on_cluster(model, client, **asked(name, model)), drawn_plainly[name])
    assert len({first for _, first, _ in segments}) > 3


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compiling", "cut_small")
def test_worker_that_dies_does_not_change_the_draws() -> None:
    options = {"chains": 4, "draws": 200}
    expected = plain(models.normal(), **options)
    with cluster_of(4) as cluster, Client(cluster, set_as_default=False) as client:
        alive = list(client.run(os.getpid).values())

        def kill(*, trace: Any, draw: Any) -> None:
            if draw.draw_idx == 50 and len(alive) > 2:
                os.kill(alive.pop(), signal.SIGKILL)

        ours = on_cluster(models.normal(), client, callback=kill, **options)
    assert len(alive) == 2
    assert_same_result(ours, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.usefixtures("exact", "cut_small")
@pytest.mark.parametrize("name", ["radon", "changepoint"])
def test_cold_and_warm_caches_give_the_same_draws(
    name: str, build_radon: Build, tmp_path: Path
) -> None:
    build = build_radon if name == "radon" else models.changepoint
    expected = plain(build())
    caches = tmp_path / "compiled"
    caches.mkdir()
    for _ in range(2):
        environment = {"PYTENSOR_FLAGS": f"base_compiledir={caches}"}
        with (
            cluster_of(1, env=environment) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            assert str(caches) in next(iter(client.run(compiledir).values()))
            assert_same_result(on_cluster(build(), client), expected)
    assert any(caches.iterdir())


def compiledir() -> str:
    return str(pytensor.config.compiledir)


@pytest.mark.usefixtures("quick_compiling")
def test_settings_that_a_worker_cannot_take_are_named(tmp_path: Path) -> None:
    environment = {"PYTENSOR_FLAGS": "optimizer_excluding=fusion"}
    with (
        cluster_of(1, env=environment) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(Exception, match="optimizer_excluding='fusion'.*PYTENSOR_FLAGS="),
    ):
        on_cluster(models.regression(), client)


CHANGES: dict[str, Options] = {
    "seed": {"random_seed": 6},
    "draws": {"draws": 31, "tune": 7},
    "chains": {"chains": 3},
    "target_accept": {"target_accept": 0.95},
    "treedepth": {"nuts": {"max_treedepth": 2}},
    "warm-up": {"init": "adapt_diag"},
    "variables": {"discard_tuned_samples": True, "compute_convergence_checks": True},
}


@pytest.mark.usefixtures("quick_compiling")
def test_nothing_is_compiled_twice(two_threads: Client) -> None:
    first = compilations(two_threads)
    on_cluster(models.regression(), two_threads)
    before = compilations(two_threads)
    assert before > first
    for name, change in CHANGES.items():
        ours = on_cluster(models.regression(), two_threads, **change)
        assert compilations(two_threads) == before, name
        if name in ("seed", "target_accept", "warm-up"):
            assert_same_result(ours, plain(models.regression(), **change))


@pytest.mark.usefixtures("quick_compiling")
def test_data_that_change_compile_nothing(two_threads: Client) -> None:
    on_cluster(models.regression(), two_threads)
    before = compilations(two_threads)
    model = models.regression()
    with model:
        pm.set_data({"x": np.arange(5.0) - 3.0})
    ours = on_cluster(model, two_threads)
    assert compilations(two_threads) == before
    expected = plain(models.regression(-3.0))
    assert_same_result(ours, expected)
    assert np.array_equal(ours["constant_data"]["x"], np.arange(5.0) - 3.0)
    # and back
    assert_same_result(on_cluster(models.regression(), two_threads), plain(models.regression()))
    assert compilations(two_threads) == before


@pytest.mark.usefixtures("quick_compiling")
def test_prior_that_changes_is_compiled(two_threads: Client) -> None:
    on_cluster(models.regression(), two_threads)
    before = compilations(two_threads)
    assert_same_result(
        on_cluster(models.regression(sigma=0.3), two_threads), plain(models.regression(sigma=0.3))
    )
    assert compilations(two_threads) > before


def test_settings_that_change_compile_again(two_threads: Client) -> None:
    for mode in ("FAST_COMPILE", "Mode", "FAST_COMPILE"):
        with pytensor.config.change_flags(mode=mode, numba__fastmath=False):
            ours = on_cluster(models.regression(), two_threads)
            assert_same_result(ours, plain(models.regression()))


@pytest.mark.usefixtures("quick_compiling")
@pytest.mark.parametrize("build", [models.changepoint, models.mixture], ids=["coal", "mixture"])
def test_steps_of_a_compound_are_compiled_once(build: Build, two_threads: Client) -> None:
    on_cluster(build(), two_threads)
    before = compilations(two_threads)
    ours = on_cluster(build(), two_threads, random_seed=6)
    assert compilations(two_threads) == before
    assert_same_result(ours, plain(build(), random_seed=6))


def sized(length: int, latent: int = 2) -> pm.Model:
    """A model whose data say how long its variables are."""
    with pm.Model(name="sized") as model:
        x = pm.Data("x", np.linspace(-1.0, 1.0, length))
        y = pm.Data("y", np.linspace(0.5, 0.7, length))
        count = pm.Data("count", np.array(latent))
        z = pm.Normal("z", shape=count)
        pm.Deterministic("line", z.sum() * x)
        pm.Normal("likelihood", z.sum() * x, 1.0, observed=y)
    return model


@pytest.mark.usefixtures("quick_compiling")
def test_data_that_change_in_size_draw_as_plain(two_threads: Client) -> None:
    for sizes in ((4, 2), (6, 2), (6, 3), (4, 2)):
        assert_same_result(on_cluster(sized(*sizes), two_threads), plain(sized(*sizes)))


@pytest.mark.usefixtures("quick_compiling")
def test_models_that_are_kept_are_bounded(two_threads: Client) -> None:
    most = two_threads.run(set_kept_models, 1)
    try:
        for build in (models.regression, models.normal, models.regression):
            on_cluster(build(), two_threads)
            assert [len(kept) for kept in two_threads.run(kept_models).values()] == [1]
    finally:
        two_threads.run(set_kept_models, next(iter(most.values())))


def set_kept_models(most: int) -> int:
    """Set the number of models that a worker keeps, and give the one before."""
    before = int(dask.config.get("cloudposterior.cluster.kept-models"))
    dask.config.set({"cloudposterior.cluster.kept-models": most})
    return before


@pytest.mark.usefixtures("quick_compiling", "cut_small")
def test_runs_at_once_do_not_mix(two_threads: Client) -> None:
    shifts = (0.0, -2.0)
    expected = [plain(models.regression(shift), draws=100) for shift in shifts]
    results: dict[float, Any] = {}

    def run(shift: float) -> None:
        results[shift] = on_cluster(models.regression(shift), two_threads, draws=100)

    threads = [threading.Thread(target=run, args=(shift,)) for shift in shifts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for shift, other in zip(shifts, expected, strict=True):
        assert_same_result(results[shift], other)
