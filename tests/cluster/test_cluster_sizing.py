"""How large the workers for a model must be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from distributed import LocalCluster

from cloudposterior.cluster import sizing
from cloudposterior.cluster.sizing import GIB, STATISTICS_BYTES, ClusterOptions, cluster_options
from cloudposterior.samplers.pymc import default_chains

pytestmark = pytest.mark.once


def draw_bytes(options: ClusterOptions, n: int) -> float:
    return options.draws_bytes / n - STATISTICS_BYTES


def test_small_model_takes_a_process_with_pymc(build_radon: Callable[..., pm.Model]) -> None:
    options = cluster_options(build_radon(), chains=4)
    # mu_a, a, b, and sigma_a and noise with their logarithms
    assert draw_bytes(options, 2000) == 8 * (1 + 85 + 1 + 2 + 2)
    # two arrays of 919 numbers, one of small integers, and some constants
    arrays = 919 * (8 + 8 + 4)
    assert arrays <= options.data_bytes < arrays + 2000
    assert (options.n_workers, options.memory_bytes) == (4, 2 * GIB)


def test_counted_is_what_pymc_traces() -> None:
    with pm.Model(coords={"group": list("abc")}) as model:
        group = pm.Dirichlet("group_share", np.ones(3), dims="group")
        count = pm.Poisson("count", 3.0)
        spread = pm.HalfNormal("spread", shape=(2, 2))
        pm.Deterministic("sum", group.sum() + count)
        pm.Deterministic("product", spread @ spread)
    trace = model.compile_fn(
        model.unobserved_value_vars, inputs=model.value_vars, mode="FAST_COMPILE"
    )
    traced = sum(np.asarray(value).nbytes for value in trace(model.initial_point()))
    assert draw_bytes(cluster_options(model, draws=10, tune=5), 15) == traced


def test_large_deterministic_takes_memory_and_is_not_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pm.Model, "compile_logp", None)
    monkeypatch.setattr(pm.Model, "logp_dlogp_function", None)
    data = np.zeros(200_000)
    with pm.Model() as model:
        x = pm.Data("x", data)
        slope = pm.Normal("slope")
        pm.Deterministic("line", slope * x)
        pm.Normal("y", slope * x, 1.0, observed=np.ones(200_000))
    options = cluster_options(model, draws=1000, tune=500, chains=2)
    assert draw_bytes(options, 1500) == 8 * (1 + 200_000)
    assert 2 * data.nbytes <= options.data_bytes < 2 * data.nbytes + 2000
    needed = GIB + 2 * options.draws_bytes + 4 * options.data_bytes
    assert needed <= options.memory_bytes < needed / 0.6 + GIB
    assert options.memory_bytes % GIB == 0
    assert cluster_options(model, draws=10, tune=0, chains=2).memory_bytes == 2 * GIB


def test_data_that_are_used_twice_count_once() -> None:
    values = np.zeros(100_000)
    with pm.Model() as model:
        x = pm.Data("x", values)
        b = pm.Normal("b")
        pm.Normal("y", b * x, 1.0, observed=x)
        pm.Potential("p", (b * x).sum())
    assert values.nbytes <= cluster_options(model).data_bytes < values.nbytes + 2000


def test_shape_that_only_the_graph_knows_is_evaluated() -> None:
    with pm.Model() as model:
        n = pm.Data("n", np.array(7))
        a = pm.Normal("a", shape=(n,))
        pm.Deterministic("pairs", pt.outer(a, a))
    assert draw_bytes(cluster_options(model, draws=10, tune=0), 10) == 8 * (7 + 49)


def test_chains_are_those_of_pymc_unless_given(build: Callable[..., pm.Model]) -> None:
    assert cluster_options(build()).n_workers == default_chains(None)
    assert cluster_options(build(), chains=7).n_workers == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"draws": 0}, "draws=0 is not positive"),
        ({"chains": 0}, "chains=0 is not positive"),
        ({"cpus_per_worker": 0}, "cpus_per_worker=0 is not positive"),
        ({"tune": -1}, "tune=-1 is negative"),
    ],
)
def test_sizes_of_nothing_are_refused(
    arguments: dict[str, int], message: str, build: Callable[..., pm.Model]
) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_options(build(), **arguments)


def test_options_read_as_they_are() -> None:
    options = ClusterOptions(4, 1, 3 * GIB, draws_bytes=5 * 2**20, data_bytes=2**19)
    assert repr(options) == (
        "ClusterOptions(n_workers=4, cpus_per_worker=1, memory='3 GiB': "
        "5.0 MiB of draws a chain, 0.5 MiB of data)"
    )


@pytest.mark.parametrize(("cores", "workers"), [(8, 4), (2, 2), (1, 1)])
def test_local_has_no_more_workers_than_cores(
    cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "CPU_COUNT", cores)
    assert ClusterOptions(4, 1, 3 * GIB).local() == {
        "n_workers": workers,
        "threads_per_worker": 1,
        "memory_limit": "3 GiB",
    }


def test_local_cluster_takes_the_options() -> None:
    options = ClusterOptions(1, 1, 2 * GIB)
    with LocalCluster(**options.local(), processes=False, dashboard_address=":0") as cluster:
        (worker,) = cluster.workers.values()
        assert worker.state.nthreads == 1
        assert worker.memory_manager.memory_limit == 2 * GIB


@pytest.mark.parametrize(
    ("memory", "cpus", "ranges"),
    [
        (2, 1, ([1, 2], ["2 GiB", "8 GiB"])),
        (5, 1, ([1, 2], ["5 GiB", "16 GiB"])),
        (20, 1, ([1, 8], ["20 GiB", "64 GiB"])),
        (4, 4, ([4, 8], ["4 GiB", "32 GiB"])),
    ],
)
def test_coiled_is_given_ranges_in_which_machines_exist(
    memory: int, cpus: int, ranges: tuple[list[int], list[str]]
) -> None:
    assert ClusterOptions(4, cpus, memory * GIB).coiled() == {
        "n_workers": 4,
        "worker_cpu": ranges[0],
        "worker_memory": ranges[1],
        "worker_options": {"nthreads": 1},
    }
