"""`cp.cloud(model, cluster=...)` and `cp.sample(..., cluster=...)` from end to end."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
import pymc as pm
import pytest
from distributed import Client

import cloudposterior as cp
from cloudposterior.posterior import to_tree
from tests.cluster.conftest import PATIENCE_S, Commands, Secured, until

SHORT = {
    "draws": 20,
    "tune": 20,
    "chains": 2,
    "random_seed": 1,
    "nuts_sampler": "pymc",
    "progressbar": False,
    "compute_convergence_checks": False,
}


def plain(model: pm.Model, **changes: Any) -> Any:
    with model:
        return pm.sample(**{**SHORT, "cores": 2, **changes})


def draws(result: Any) -> dict[str, np.ndarray]:
    return {str(k): v.values for k, v in to_tree(result)["posterior"].data_vars.items()}


def assert_same(left: Any, right: Any) -> None:
    left, right = draws(left), draws(right)
    assert left.keys() == right.keys()
    for name, values in left.items():
        assert np.array_equal(values, right[name]), name


@pytest.mark.usefixtures("exact")
def test_block_samples_on_a_cluster_what_plain_pymc_samples(
    two_workers: Client, build: Callable[..., pm.Model], capsys: pytest.CaptureFixture[str]
) -> None:
    model = build()
    with cp.cloud(model, cluster=two_workers):
        first = pm.sample(**SHORT)
        again = pm.sample(**SHORT)
    assert_same(first, plain(model))
    assert_same(first, again)
    assert "cached result" in capsys.readouterr().out
    assert "numba__fastmath=False" in first.attrs["cloudposterior_pytensor_flags"]
    assert first.attrs["cloudposterior_random_seed"] == 1


@pytest.mark.usefixtures("exact")
def test_address_of_commands(dask_commands: str, build: Callable[..., pm.Model]) -> None:
    result = cp.sample(build(), **SHORT, cluster=dask_commands, cache=False)
    assert_same(result, plain(build()))


@pytest.mark.usefixtures("exact")
def test_address_behind_tls(tls_commands: Secured, build: Callable[..., pm.Model]) -> None:
    with dask.config.set(tls_commands.config):
        result = cp.sample(build(), **SHORT, cluster=tls_commands.address, cache=False)
    assert_same(result, plain(build()))


@pytest.mark.usefixtures("exact")
def test_result_of_a_cluster_answers_a_local_call_with_the_same_flags(
    two_workers: Client, build: Callable[..., pm.Model], runs: list[Any]
) -> None:
    made = cp.sample(build(), **SHORT, cluster=two_workers, cache="memory")
    before = len(runs)
    assert_same(made, cp.sample(build(), **SHORT, cores=1, cache="memory"))
    assert len(runs) == before


def test_explain_knows_that_workers_have_settings_of_their_own(
    two_workers: Client, build: Callable[..., pm.Model], tmp_path: Path
) -> None:
    model = build()
    cp.sample(model, **SHORT, cluster=two_workers, cache=tmp_path)
    assert cp.explain(model, **SHORT, cluster=two_workers, cache=tmp_path).hit
    assert not cp.explain(model, **SHORT, cache=tmp_path).hit


def test_overwrite_draws_anew(two_workers: Client, build: Callable[..., pm.Model]) -> None:
    request = {**SHORT, "random_seed": None}
    first = cp.sample(build(), **request, cluster=two_workers)
    assert_same(first, cp.sample(build(), **request, cluster=two_workers))
    fresh = cp.sample(build(), **request, cluster=two_workers, overwrite=True)
    assert not np.array_equal(draws(first)["small::mu"], draws(fresh)["small::mu"])


@pytest.mark.usefixtures("exact")
def test_seed_that_a_cluster_drew_repeats_the_run(
    two_workers: Client, build: Callable[..., pm.Model]
) -> None:
    result = cp.sample(build(), **{**SHORT, "random_seed": None}, cluster=two_workers)
    seed = result.attrs["cloudposterior_random_seed"]
    assert_same(result, plain(build(), random_seed=seed))


def test_two_clients_that_ask_for_the_same_run_get_the_same_draws(
    two_workers: Client, build: Callable[..., pm.Model]
) -> None:
    """No seed is given, so they can be the same only if one joined the other."""
    request = {**SHORT, "random_seed": None, "draws": 3000, "tune": 1000}
    results: dict[str, Any] = {}
    begun = threading.Event()

    def first(client: Client) -> None:
        results["first"] = cp.sample(build(), **request, cluster=client, cache=cp.MemoryCache())

    with Client(two_workers.scheduler.address, set_as_default=False) as other:
        thread = threading.Thread(target=first, args=(other,))
        thread.start()
        until(lambda: any(two_workers.processing().values()))
        begun.set()
        results["second"] = cp.sample(
            build(), **request, cluster=two_workers, cache=cp.MemoryCache()
        )
        thread.join()
    assert_same(results["first"], results["second"])


def test_overwrite_joins_no_run_that_is_under_way(
    two_workers: Client, build: Callable[..., pm.Model]
) -> None:
    request = {**SHORT, "random_seed": None, "draws": 3000, "tune": 1000}
    results: dict[str, Any] = {}

    def first(client: Client) -> None:
        results["first"] = cp.sample(build(), **request, cluster=client, cache=cp.MemoryCache())

    with Client(two_workers.scheduler.address, set_as_default=False) as other:
        thread = threading.Thread(target=first, args=(other,))
        thread.start()
        until(lambda: any(two_workers.processing().values()))
        anew = cp.sample(
            build(), **request, cluster=two_workers, cache=cp.MemoryCache(), overwrite=True
        )
        thread.join()
    assert not np.array_equal(draws(results["first"])["small::mu"], draws(anew)["small::mu"])


def bad_start() -> pm.Model:
    with pm.Model(name="bad") as model:
        x = pm.Normal("x", 0.0, 1.0)
        pm.Potential("nowhere", pm.math.switch(x > -np.inf, -np.inf, 0.0))
    return model


def test_bad_initial_point_is_pymcs_error_with_chain_and_worker(two_workers: Client) -> None:
    with pytest.raises(cp.ChainError, match=r"(?s)chain \d failed on tcp://.*Initial evaluation"):
        cp.sample(bad_start(), **SHORT, cluster=two_workers, cache=False)
    # client and cluster are as usable as before
    assert two_workers.submit(sum, [1, 2]).result() == 3


def test_keep_chains_returns_the_good_ones_with_a_warning(
    two_workers: Client, build: Callable[..., pm.Model]
) -> None:
    with (
        failing_chain(two_workers, 1),
        pytest.warns(cp.ClusterWarning, match="chain 1 failed .*keep_chains=True"),
        pytest.warns(cp.CacheWarning, match="2 of 3 chains"),
    ):
        result = cp.sample(build(), **{**SHORT, "chains": 3}, cluster=two_workers, keep_chains=True)
    assert to_tree(result)["posterior"].sizes["chain"] == 2


def test_without_keep_chains_the_error_is_raised(
    two_workers: Client, build: Callable[..., pm.Model]
) -> None:
    with (
        failing_chain(two_workers, 1),
        pytest.raises(cp.ChainError, match="chain 1 failed on tcp://.*scripted"),
    ):
        cp.sample(build(), **SHORT, cluster=two_workers, cache=False)


class failing_chain:
    """Workers in which one chain fails."""

    def __init__(self, client: Client, chain: int) -> None:
        self.client, self.chain = client, chain

    def __enter__(self) -> None:
        self.client.run(break_chain, self.chain)

    def __exit__(self, *_: object) -> None:
        self.client.run(mend)


def break_chain(chain: int) -> None:
    from cloudposterior.samplers import pymc_chains

    own = pymc_chains.PyMCChains.advance

    def advance(self: Any, model: Any, run: Any, state: Any, budget: Any) -> Any:
        if chain in state.chains:
            raise ValueError("scripted")
        return own(self, model, run, state, budget)

    pymc_chains.PyMCChains.own = own
    pymc_chains.PyMCChains.advance = advance


def mend() -> None:
    from cloudposterior.samplers import pymc_chains

    pymc_chains.PyMCChains.advance = pymc_chains.PyMCChains.own


def test_a_million_observations_travel_without_a_warning(two_workers: Client) -> None:
    values = np.random.default_rng(1).normal(size=1_000_000)
    with pm.Model(name="many") as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Normal("y", mu, 1.0, observed=values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = cp.sample(
            model, **{**SHORT, "draws": 3, "tune": 3}, quiet=True, cluster=two_workers, cache=False
        )
    assert to_tree(result)["observed_data"]["many::y"].size == 1_000_000


def test_quiet_says_nothing(
    two_workers: Client, build: Callable[..., pm.Model], capsys: pytest.CaptureFixture[str]
) -> None:
    cp.sample(build(), **SHORT, quiet=True, cluster=two_workers, cache=False)
    captured = capsys.readouterr()
    assert captured.out == ""


def test_what_pymc_refuses_is_refused_before_anything_is_sent(
    two_workers: Client, build: Callable[..., pm.Model]
) -> None:
    with pytest.raises(ValueError, match="random_seed = -1"):
        cp.sample(build(), **{**SHORT, "random_seed": -1}, cluster=two_workers, cache=False)
    with pytest.raises(ValueError, match="defined twice"):
        cp.sample(
            build(),
            **SHORT,
            target_accept=0.9,
            nuts={"target_accept": 0.8},
            cluster=two_workers,
            cache=False,
        )


def test_what_pymc_refuses_while_it_initializes_is_named(
    two_workers: Client, build: Callable[..., pm.Model]
) -> None:
    with pytest.raises(cp.ChainError, match="chain . failed on tcp.*Unknown initializer: nowhere"):
        cp.sample(build(), **SHORT, init="nowhere", cluster=two_workers, cache=False)


INTERRUPTED = """
    import cloudposterior as cp, pymc as pm, signal, threading, os
    from distributed import Client, LocalCluster

    if __name__ == "__main__":
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
            with Client(cluster) as client:
                with pm.Model(name="long") as model:
                    x = pm.Normal("x", shape=3)
                def watch(trace, draw):
                    if draw.draw_idx == 150 and draw.chain == 0:
                        print("DRAWING", flush=True)
                with cp.cloud(model, cluster=client, cache="memory"):
                    result = pm.sample(
                        draws=10_000_000, tune=100, chains=2, progressbar=False, callback=watch,
                        nuts_sampler="pymc", compute_convergence_checks=False, random_seed=1,
                    )
                print("KEPT", result["posterior"].sizes["draw"] > 0)
                print("CHAINS", result["posterior"].sizes["chain"])
                print("WORKERS", len(client.scheduler_info()["workers"]))
                print("USABLE", client.submit(sum, [1, 2]).result() == 3, flush=True)
"""


def end_late(process: subprocess.Popen[str]) -> None:
    """End a script that does not end."""
    try:
        process.wait(2 * PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def test_interrupt_returns_what_was_drawn(tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(textwrap.dedent(INTERRUPTED))
    said = []
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        threading.Thread(target=end_late, args=(process,), daemon=True).start()
        for line in process.stdout:
            said.append(line)
            if line == "DRAWING\n":
                # as a terminal does it: all processes of the group get it
                os.killpg(process.pid, signal.SIGINT)
    text = "".join(said)
    assert "KEPT True" in text, text
    assert "WORKERS 2" in text, text
    assert "KeyboardInterrupt" not in text, text
    assert "USABLE True" in text, text
    assert "not cached" in text


def test_run_that_is_stopped_before_its_first_draw_is_interrupted(
    two_workers: Client, build: Callable[..., pm.Model]
) -> None:
    """As PyMC is, while it compiles: there is nothing to return."""

    def stop() -> None:
        (run,) = until(cp.runs)
        run.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt, match="before the first draw"):
        cp.sample(slow_to_compile(), **SHORT, cluster=two_workers, cache=False)
    thread.join()
    assert two_workers.submit(sum, [1, 2]).result() == 3


def slow_to_compile() -> pm.Model:
    with pm.Model(name="slow") as model:
        xs = [pm.Normal(f"x{i}", 0.0, 1.0 + i) for i in range(30)]
        pm.Normal("y", sum(x**2 for x in xs), 1.0, observed=0.0)
    return model


def test_scheduler_that_dies_is_named(commands: Commands, build: Callable[..., pm.Model]) -> None:
    address = commands.scheduler()
    commands.worker(address)

    def kill_scheduler(trace: Any, draw: Any) -> None:
        if draw.draw_idx == 5:
            commands.running[0].kill()
            commands.running[0].wait()

    request = {**SHORT, "draws": 3_000_000, "chains": 1, "callback": kill_scheduler}
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "500ms"}),
        Client(address, set_as_default=False) as client,
        pytest.raises(cp.ClusterError, match="lost chain 0: its scheduler was restarted or closed"),
    ):
        client.wait_for_workers(1, timeout=60)
        cp.sample(build(), **request, cluster=client, cache=False)


def test_two_clusters_in_one_process_each_get_their_own(
    two_workers: Client, dask_commands: str, build: Callable[..., pm.Model]
) -> None:
    results: dict[str, Any] = {}

    def sample(name: str, cluster: Any) -> None:
        results[name] = cp.sample(build(), **SHORT, cluster=cluster, cache=False)

    with Client(dask_commands, set_as_default=False) as other:
        clusters = {"one": two_workers, "other": other}
        threads = [threading.Thread(target=sample, args=of) for of in clusters.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name, client in clusters.items():
            workers = set(client.scheduler_info()["workers"])
            assert workers, name
    assert_same(results["one"], results["other"])


def test_workers_are_checked_before_anything_is_sampled(
    two_workers: Client, build: Callable[..., pm.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.1")
    with (
        Client(two_workers.cluster, set_as_default=False) as client,
        pytest.raises(cp.ClusterError, match="nothing was sampled.*\n.*Python 3.*here 3.99"),
    ):
        cp.sample(build(), **SHORT, cluster=client, cache=False)
