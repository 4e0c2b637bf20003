"""Workers that die under PyMC's samplers and under nutpie: the draws are those without a death."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
import pymc as pm
import pytest
from distributed import Client

import cloudposterior as cp
from cloudposterior.cluster.losses import Losses
from cloudposterior.errors import ChainError, ClusterWarning
from cloudposterior.events import TaskBegun
from cloudposterior.posterior import to_tree
from cloudposterior.progress.table import Table
from cloudposterior.progress.view import RunView
from cloudposterior.samplers.pymc_join import PyMCJoin

from . import models
from .conftest import until
from .faults import Kills, Pool, begun_mark, meanwhile, pids, pool_of_workers
from .sameness import SHORT, assert_same_result, on_cluster, plain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("quick_compiling", "cut_small"),
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]

RUN = {**SHORT, "draws": 60, "tune": 60, "chains": 3}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with pool_of_workers(tmp_path_factory.mktemp("pool")) as pool:
        yield pool


@pytest.fixture
def segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Chain, first draw and number of draws of each segment that arrives; workers may know."""
    arrived: list[tuple[int, int, int]] = []
    add = PyMCJoin.add

    def noted(self: PyMCJoin, segment: Any, state: Any = None) -> None:
        arrived.append((segment.chain, segment.first, segment.draws))
        add(self, segment, state)
        (tmp_path / f"here-{segment.chain}-{self.drawn(segment.chain)}").touch()

    hear = Losses.hear

    def heard(self: Losses, event: Any) -> None:
        hear(self, event)
        if isinstance(event, TaskBegun):
            begun_mark(tmp_path, event.key).touch()

    monkeypatch.setattr(PyMCJoin, "add", noted)
    monkeypatch.setattr(Losses, "hear", heard)
    return arrived


@contextmanager
def killing(client: Client, *chains: tuple[int, int], directory: Path, times: int = 1) -> Any:
    """Have workers die; check that they did."""
    client.register_plugin(Kills(str(directory), chains, times))
    try:
        yield
    finally:
        client.unregister_worker_plugin("kills")
    killed = {path.name for path in directory.glob("killed-*")}
    assert killed >= {f"killed-{c}-{at}-{n}" for c, at in chains for n in range(times)}


BUILDS: dict[str, Callable[[], pm.Model]] = {
    "coal": models.changepoint,
    "mixture": models.mixture,
    "opaque": models.opaque,
}

OTHERS = ["radon", "coal", "opaque"]


@pytest.mark.parametrize(
    "name", ["mixture", *(pytest.param(name, marks=pytest.mark.once) for name in OTHERS)]
)
def test_workers_that_die_in_tuning_and_after_do_not_change_a_bit(
    name: str,
    pool: Pool,
    build_radon: Callable[[], pm.Model],
    segments: list[tuple[int, int, int]],
    tmp_path: Path,
) -> None:
    build = BUILDS.get(name, build_radon)
    expected = plain(build(), **RUN)
    client = pool.fill(4)
    with killing(client, (2, 10), (0, 30), (1, 90), directory=tmp_path):
        ours = on_cluster(build(), client, **RUN)
    assert_same_result(ours, expected)
    # each draw came once, and no chain went back to its start
    for chain in range(3):
        parts = [(first, draws) for of, first, draws in segments if of == chain]
        assert [first for first, _ in parts] == [
            sum(draws for _, draws in parts[:i]) for i in range(len(parts))
        ]
        assert len(parts) > 3


@pytest.mark.once
def test_chain_that_kills_its_workers_costs_the_others_nothing(
    pool: Pool,
    segments: list[tuple[int, int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, client = cp.DiskCache(tmp_path / "cache"), pool.fill(4)
    options = {**RUN, "cluster": client, "cache": cache}
    # segments of a few draws, however fast the machine is: one that is whole kills nobody
    monkeypatch.setitem(dask.config.config["cloudposterior"]["cluster"], "segment", "2ms")
    with (
        killing(client, (1, 30), directory=tmp_path, times=3),
        pytest.raises(
            ChainError, match=r"chain 1 failed on tcp://\S+: its worker died, 3 times.* [GM]iB of "
        ) as failed,
    ):
        cp.sample(models.changepoint(), **options)
    assert any("are kept in the cache" in note for note in failed.value.__notes__)
    # what is returned without it is kept, too, and so is what came in of it
    pool.fill(4)
    with (
        killing(client, (1, 90), directory=tmp_path, times=3),
        pytest.warns() as told,
    ):
        two = to_tree(cp.sample(models.changepoint(), keep_chains=True, **options))
    assert {warning.category for warning in told} >= {ClusterWarning, cp.CacheWarning}
    assert "chain 1 failed on tcp://" in str([str(warning.message) for warning in told])
    drawn = {chain: [first for of, first, _ in segments if of == chain] for chain in range(3)}
    segments.clear()
    whole = cp.sample(models.changepoint(), **options)
    # the parts of an earlier run come in once more, each as it was drawn, and then new draws
    assert {chain for chain, first, _ in segments if first not in drawn[chain]} == {1}
    assert max(first for chain, first, _ in segments if chain == 1) >= 90
    assert_same_result(whole, plain(models.changepoint(), **RUN))
    for name, values in to_tree(whole)["posterior"].data_vars.items():
        assert np.array_equal(two["posterior"][name], values[[0, 2]]), name


def wide() -> pm.Model:
    """A model that takes a while to draw from, though not to compile."""
    with pm.Model() as model:
        x = pm.Normal("x", shape=1000)
        pm.Normal("y", x.mean(), 0.1, observed=models.Y)
    return model


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[Table]:
    """How the client's table stood, after each event."""
    seen: list[Table] = []
    take = RunView.take

    def taking(self: RunView, event: Any) -> None:
        take(self, event)
        seen.append(self.status())

    monkeypatch.setattr(RunView, "take", taking)
    return seen


@pytest.mark.filterwarnings("ignore:.*numba.*:UserWarning")
def test_chain_of_nutpie_begins_again_and_nothing_is_counted_twice(
    pool: Pool, tables: list[Table]
) -> None:
    pytest.importorskip("nutpie")
    options = {**SHORT, "nuts_sampler": "nutpie", "draws": 40_000, "tune": 200, "chains": 2}
    client = pool.fill(2)
    expected = on_cluster(wide(), client, **options)
    tables.clear()
    processes, killed = pids(client), []

    def kill() -> None:
        def drawing() -> Any:
            rows = [row for run in cp.runs() for row in run.status().rows]
            return [row for row in rows if 0 < row.drawn < row.total / 2]

        killed.append(until(drawing)[0])
        os.kill(processes[killed[0].worker], signal.SIGKILL)

    with meanwhile(kill):
        ours = on_cluster(wide(), client, **options)
    assert_same_result(ours, expected)
    chain = killed[0].chain
    assert tables[-1].rows[chain].state == "finished (begun again)"
    again = 0
    for table, after in itertools.pairwise(tables):
        for row, later in zip(table.rows, after.rows, strict=True):
            assert row.drawn <= 40_200 and row.divergences <= max(0, row.drawn - 200)
            # within one try it only grows
            assert later.again > row.again or later.drawn >= row.drawn
            again += later.again - row.again
    assert again >= 1
