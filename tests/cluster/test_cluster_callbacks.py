"""Callbacks of runs on a cluster: how they stand, in the thread that samples."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pymc as pm
import pytest
from distributed import Client

import cloudposterior as cp
from cloudposterior.progress.display import Silence
from cloudposterior.progress.table import RunTable, Table
from cloudposterior.progress.view import RunView

pytestmark = pytest.mark.once

Build = Callable[..., pm.Model]

SHORT = {
    "draws": 200,
    "tune": 100,
    "chains": 2,
    "random_seed": 1,
    "nuts_sampler": "pymc",
    "progressbar": False,
    "compute_convergence_checks": False,
}


class Heard:
    """Keeps what it is told, when, and in which thread."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.tables: list[Table] = []
        self.times: list[float] = []
        self.threads: set[threading.Thread] = set()

    def _take(self, name: str) -> None:
        self.names.append(name)
        self.threads.add(threading.current_thread())

    def on_start(self, run: cp.RunInfo) -> None:
        self._take("on_start")

    def on_segment(self, run: cp.RunInfo, status: Table) -> None:
        self._take("on_segment")
        self.tables.append(status)
        self.times.append(time.monotonic())

    def on_finish(self, run: cp.RunInfo, summary: cp.RunSummary) -> None:
        self._take("on_finish")

    def on_error(self, run: cp.RunInfo, error: BaseException) -> None:
        self._take("on_error")


class BreaksDown:
    def on_segment(self, run: cp.RunInfo, status: Table) -> None:
        raise OSError("no such table")


@pytest.mark.usefixtures("cut_small", "quick_compiling", "exact")
def test_run_is_told_while_it_is_drawn(
    cluster: Client, build: Build, assert_same_draws: Callable[[Any, Any], None]
) -> None:
    heard, model = Heard(), build()
    with model:
        plain = pm.sample(**SHORT, cores=1)
    with pytest.warns(cp.CallbackWarning, match=r"BreaksDown\.on_segment .*no such table") as told:
        result = cp.sample(
            model, cluster=cluster, cache=False, callbacks=[BreaksDown(), heard], **SHORT
        )
    assert sum(w.category is cp.CallbackWarning for w in told) == 1
    assert_same_draws(result, plain)
    middle = heard.names[1:-1]
    assert heard.names == ["on_start", *middle, "on_finish"]
    assert set(middle) == {"on_segment"}
    assert heard.threads == {threading.current_thread()}
    assert all(b - a >= 1 for a, b in zip(heard.times, heard.times[1:], strict=False))
    for table in heard.tables:
        assert [row.chain for row in table.rows] == [0, 1]
        assert all(0 <= row.drawn <= 300 and row.divergences >= 0 for row in table.rows)


@pytest.mark.usefixtures("quick_compiling")
def test_run_that_fails_on_a_worker_is_told_with_its_error(cluster: Client, build: Build) -> None:
    heard = Heard()
    initvals = {"small::mu": float("nan")}
    with pytest.raises(Exception, match="Initial evaluation") as raised:
        cp.sample(
            build(), cluster=cluster, cache=False, callbacks=[heard], initvals=initvals, **SHORT
        )
    assert heard.names[0] == "on_start" and heard.names[-1] == "on_error"
    assert heard.names.count("on_error") == 1 and raised.value is not None


@pytest.mark.usefixtures("quick_compiling")
def test_cached_result_of_a_cluster_has_no_segments(cluster: Client, build: Build) -> None:
    heard = Heard()
    cp.sample(build(), cluster=cluster, **SHORT)
    cp.sample(build(), cluster=cluster, callbacks=[heard], **SHORT)
    assert heard.names == ["on_start", "on_finish"]


def test_view_is_heard_once_a_second_at_most_and_only_while_it_is_drawn() -> None:
    tables: list[Table] = []
    with RunView(RunTable("run", "radon", 2), lambda stop: Silence()) as view:
        view.listener = tables.append
        view.phase("compiling")
        assert tables == []
        for _ in range(100):
            view.phase("sampling")
        view.phase("saving")
    assert [table.phase for table in tables] == ["sampling"]
