"""What workers tell of a run agrees with what it gives."""

from __future__ import annotations

import threading
from typing import Any

import dask.config
import numpy as np
import pymc as pm
import pytest
from distributed import Client

import cloudposterior as cp
from cloudposterior.cluster import place
from cloudposterior.posterior import to_tree
from cloudposterior.progress.table import Table
from cloudposterior.progress.terminal import line_of
from tests.cluster.conftest import until


class Kept:
    def __init__(self) -> None:
        self.tables: list[Table] = []

    def show(self, table: Table) -> None:
        self.tables.append(table)

    def link(self, address: str) -> None:
        self.address = address

    def close(self, table: Table) -> None:
        self.tables.append(table)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Kept:
    kept = Kept()
    monkeypatch.setattr(
        place, "choose_display", lambda stop, *, silent: Silent() if silent else kept
    )
    return kept


class Silent(Kept):
    def link(self, address: str) -> None:
        pass

    def show(self, table: Table) -> None:
        """Show nothing."""

    close = show


def funnel() -> pm.Model:
    """A model that diverges."""
    with pm.Model(name="funnel") as model:
        v = pm.Normal("v", 0, 3)
        pm.Normal("x", 0, pm.math.exp(v / 2), shape=5)
    return model


REQUEST = {
    "draws": 150,
    "tune": 60,
    "chains": 3,
    "random_seed": 2,
    "compute_convergence_checks": False,
    "nuts_sampler": "pymc",
    # large steps, which diverge
    "target_accept": 0.5,
}


def test_last_table_agrees_with_the_sample_stats(two_workers: Client, shown: Kept) -> None:
    with dask.config.set({"cloudposterior.cluster.segment": "20ms"}):
        result = cp.sample(funnel(), **REQUEST, cluster=two_workers, cache=False)
    stats = to_tree(result)["sample_stats"]
    last = shown.tables[-1]
    assert last.phase == "finished"
    assert int(stats["diverging"].sum()) > 0
    for row in last.rows:
        of = stats.sel(chain=row.chain) if hasattr(stats, "sel") else stats.isel(chain=row.chain)
        assert (row.drawn, row.total) == (210, 210)
        assert row.divergences == int(of["diverging"].sum())
        assert row.step_size == pytest.approx(float(of["step_size"][-1]))
        assert row.worker in two_workers.scheduler_info()["workers"]


def test_nutpie_tells_from_within_its_task(two_workers: Client, shown: Kept) -> None:
    pytest.importorskip("nutpie")
    request = {**REQUEST, "draws": 100_000, "chains": 2, "nuts_sampler": "nutpie"}
    result = to_tree(cp.sample(funnel(), **request, cluster=two_workers, cache=False))
    under_way = [row for table in shown.tables for row in table.rows if 0 < row.drawn < row.total]
    assert under_way
    assert all(row.total == 100_060 and row.step_size and row.gradients for row in under_way)
    # the run draws while its chains do
    assert "sampling" in {table.phase for table in shown.tables}
    last = shown.tables[-1]
    assert [row.phase for row in last.rows] == ["finished"] * 2
    stats = result["sample_stats"].to_dataset()
    for row in last.rows:
        of = stats.isel(chain=row.chain)
        assert (row.drawn, row.total) == (100_060, 100_060)
        assert row.divergences == int(of["diverging"].sum())
        assert row.step_size == pytest.approx(float(of["step_size"][-1]))


def test_chains_that_talk_to_each_other_tell_of_each(two_workers: Client, shown: Kept) -> None:
    with pm.Model(name="together") as model:
        pm.Normal("x", shape=2)
        step = pm.DEMetropolis()
    request = {**REQUEST, "draws": 1500, "chains": 4, "step": step}
    del request["target_accept"]
    cp.sample(model, **request, cluster=two_workers, cache=False)
    last = shown.tables[-1]
    assert [(row.drawn, row.total, row.phase) for row in last.rows] == [
        (1560, 1560, "finished")
    ] * 4


def test_run_that_is_stopped_in_tuning_is_interrupted(two_workers: Client, shown: Kept) -> None:
    """As in plain PyMC, there is nothing that a posterior could be made of."""

    def stop() -> None:
        (run,) = until(cp.runs)
        until(lambda: any(row.drawn for row in run.status().rows))
        run.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    request = {**REQUEST, "tune": 5_000_000, "chains": 2}
    with pytest.raises(KeyboardInterrupt, match="before the first draw after tuning"):
        cp.sample(funnel(), **request, cluster=two_workers, cache=False)
    thread.join()
    assert shown.tables[-1].phase == "stopped"


def test_table_names_the_phases_before_the_draws(two_workers: Client, shown: Kept) -> None:
    cp.sample(funnel(), **REQUEST, cluster=two_workers)
    phases = list(dict.fromkeys(table.phase for table in shown.tables))
    order = [
        "connecting",
        "waiting for workers",
        "sending the model",
        "compiling",
        "sampling",
        "gathering",
        "saving",
        "finished",
    ]
    assert [phase for phase in phases if phase in order] == order


@pytest.mark.parametrize("how", [{"progress": False}, {"progressbar": False}, {"quiet": True}])
def test_table_can_be_silenced(two_workers: Client, shown: Kept, how: dict[str, Any]) -> None:
    cp.sample(funnel(), **REQUEST, **how, cluster=two_workers, cache=False)
    assert shown.tables == []


def test_run_that_reached_its_target_is_finished_with_full_bars(
    two_workers: Client, shown: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    request = {**REQUEST, "draws": 50_000, "until": {"r_hat": 50.0}}
    with caplog.at_level("INFO", logger="pymc"):
        result = cp.sample(funnel(), **request, cluster=two_workers, cache=False)
    told = f"until={result.attrs['cloudposterior_until']}"
    draws = to_tree(result)["posterior"].sizes["draw"]
    assert told == f"until=R-hat 50: reached after {draws} draws"
    assert told in caplog.text
    last = shown.tables[-1]
    assert last.lines()[-1 - bool(last.health)].startswith(f"Finished ({told}) after ")
    assert (last.finished, last.phase) == (3, "finished")
    for row in last.rows:
        assert (row.drawn, row.total, row.fraction) == (60 + draws, 60 + draws, 1.0)
    (text,) = (line for line in line_of(last).splitlines() if "of the draws" in line)
    assert "100% of the draws, 3 of 3 chains finished" in text


def test_run_that_is_stopped_before_its_target_says_so(
    two_workers: Client, shown: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(trace: Any, draw: Any) -> None:
        if draw.draw_idx == 100:
            (run,) = cp.runs()
            run.stop()

    request = {**REQUEST, "draws": 5_000_000, "callback": stop, "until": {"ess": 1e6}}
    cp.sample(funnel(), **request, cluster=two_workers, cache=False)
    assert "until=ESS 1e+06 was not reached before the run was stopped" in caplog.text
    last = shown.tables[-1]
    assert last.phase == "stopped"
    assert all(row.total == 5_000_060 and row.phase == "stopped" for row in last.rows if row.total)


def test_run_that_is_stopped_gives_the_draws_it_has(two_workers: Client, shown: Kept) -> None:
    def stop(trace: Any, draw: Any) -> None:
        if draw.draw_idx == 100:
            (run,) = cp.runs()
            run.stop()

    request = {**REQUEST, "draws": 5_000_000, "callback": stop}
    with pytest.warns(cp.CacheWarning, match="not cached"):
        result = cp.sample(funnel(), **request, cluster=two_workers, cache=cp.MemoryCache())
    posterior = to_tree(result)["posterior"]
    assert 0 < posterior.sizes["draw"] < 5_000_000
    assert not np.isnan(posterior["funnel::v"].values).any()
    assert "cloudposterior_stopped" in result.attrs
    phases = [table.phase for table in shown.tables]
    assert phases.index("stopping") < phases.index("gathering")
    assert phases[-1] == "stopped"
