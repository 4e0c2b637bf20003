"""A client, or a scheduler, that dies in mid-run: the same call goes on from what had come in."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import pytest
from distributed import Client, LocalCluster

import cloudposterior as cp
from cloudposterior.cache.store import PARTIAL_PREFIX
from cloudposterior.cluster.drive import Drive
from tests.cluster import models
from tests.cluster.conftest import PATIENCE_S, Commands, until
from tests.cluster.crashing import RUN
from tests.cluster.sameness import assert_same_result, plain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.once,
    pytest.mark.usefixtures("quick_compiling", "in_moments"),
]

SCHEDULER_S = 30


@pytest.fixture
def in_moments() -> Iterator[None]:
    names = {"segment": "50ms", "first-segment": "50ms", "keep-every": "50ms"}
    with dask.config.set({f"cloudposterior.cluster.{k}": v for k, v in names.items()}):
        yield


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """The first draw of each chain that was drawn in this process's runs, by chain."""
    first: dict[int, int] = {}
    draw = Drive.draw

    def noting(self: Any, groups: Any, take: Any, **options: Any) -> Any:
        def taking(segment: Any, state: Any) -> None:
            first.setdefault(segment.chain, segment.first)
            take(segment, state)

        return draw(self, groups, taking, **options)

    monkeypatch.setattr(Drive, "draw", noting)
    return first


def parts(cache: Any) -> list[Any]:
    return [entry for entry in cache.entries() if entry.record.part_of is not None]


def chains_in(cache: Any) -> set[int]:
    return {entry.record.manifest["chain"] for entry in parts(cache)}


@pytest.mark.parametrize("writing", [False, True], ids=["drawing", "writing"])
def test_client_that_is_killed_loses_nothing_that_had_come_in(
    two_workers: Client, tmp_path: Path, begun: dict[int, int], writing: bool
) -> None:
    cache, mark = cp.DiskCache(tmp_path / "cache"), tmp_path / "writing"
    address = two_workers.scheduler.address
    program = [sys.executable, "-W", "ignore", "-m", "tests.cluster.crashing"]
    client = subprocess.Popen(
        [*program, address, str(cache.root), *([str(mark)] if writing else [])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # both chains have draws that are kept, and more than once
        until(mark.exists if writing else lambda: chains_in(cache) == {0, 1})
        assert chains_in(cache) == {0, 1}
    finally:
        client.kill()
        client.wait()
    if writing:
        assert list(cache.root.rglob(f"{PARTIAL_PREFIX}*"))
    (seed,) = {entry.record.random_seed for entry in parts(cache)}
    result = cp.sample(
        models.normal(), cluster=two_workers, cache=cache, **{**RUN, "random_seed": None}
    )
    assert sorted(begun) == [0, 1]
    assert min(begun.values()) > 0
    assert result.attrs["cloudposterior_random_seed"] == seed
    assert_same_result(result, plain(models.normal(), **{**RUN, "random_seed": seed}))
    assert parts(cache) == []
    assert cache.verify() == []


@pytest.mark.parametrize(
    ("does", "kind"), [("kill", "disk"), ("kill", "memory"), ("suspend", "disk")]
)
def test_scheduler_that_is_killed_loses_nothing_that_had_come_in(
    commands: Commands, tmp_path: Path, begun: dict[int, int], does: str, kind: str
) -> None:
    """One that is suspended is connected, and says no more."""
    cache: Any = cp.DiskCache(tmp_path / "cache") if kind == "disk" else cp.MemoryCache()
    address = commands.scheduler()
    for _ in range(2):
        commands.worker(address)
    failed: list[Exception] = []

    def sample() -> None:
        try:
            with dask.config.set({"cloudposterior.cluster.scheduler-timeout": "3s"}):
                cp.sample(models.normal(), cluster=address, cache=cache, **RUN)
        except Exception as error:
            failed.append(error)

    client = threading.Thread(target=sample)
    client.start()
    until(lambda: sorted(begun) == [0, 1])
    scheduler = commands.running[0]
    scheduler.send_signal(signal.SIGKILL if does == "kill" else signal.SIGSTOP)
    client.join(SCHEDULER_S)
    scheduler.kill()
    assert not client.is_alive(), "there was no error in time"
    (error,) = failed
    assert isinstance(error, cp.ClusterError), error
    assert "scheduler" in str(error)
    assert any("are kept in the cache" in note for note in error.__notes__)
    begun.clear()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as other,
        Client(other, set_as_default=False) as another,
    ):
        result = cp.sample(models.normal(), cluster=another, cache=cache, **RUN)
    assert min(begun.values()) > 0
    assert_same_result(result, plain(models.normal(), **RUN))
    assert parts(cache) == []
    assert PATIENCE_S > SCHEDULER_S
