"""Waiting for workers, and whether they run what the client runs."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import pytest
from distributed import Client, Event, Future, LocalCluster

from cloudposterior.cluster.workers import check_workers, wait_for_workers
from cloudposterior.errors import ClusterError
from tests.cluster.conftest import PATIENCE_S, Commands, until

pytestmark = pytest.mark.once

PACKAGES = ["cloudposterior", "pymc", "pytensor", "numpy", "nutpie"]


def install(directory: Path, name: str, version: str) -> None:
    """Install a distribution without content: what is known of it is its version."""
    info = directory / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def fail(line: str) -> None:
    raise AssertionError(f"told {line!r}")


@pytest.fixture
def empty_cluster() -> Iterator[Client]:
    """A client of a cluster without a worker."""
    with (
        LocalCluster(
            n_workers=0, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def hold(number: int) -> None:
    """Take a worker's only thread until told to go on."""
    Event(f"started-{number}").set()
    assert Event("go-on").wait(PATIENCE_S)


@pytest.fixture
def busy(two_workers: Client) -> Iterator[list[Future]]:
    """A task in each thread of the two workers."""
    addresses = two_workers.scheduler_info()["workers"]
    tasks = [
        two_workers.submit(hold, number, pure=False, workers=[address])
        for number, address in enumerate(addresses)
    ]
    for number in range(len(tasks)):
        assert Event(f"started-{number}", client=two_workers).wait(PATIENCE_S)
    yield tasks
    Event("go-on", client=two_workers).set()
    two_workers.gather(tasks)
    for name in ("go-on", *(f"started-{number}" for number in range(len(tasks)))):
        Event(name, client=two_workers).clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Which workers were asked something, call by call."""
    calls: list[list[str]] = []
    run = Client.run

    def counted(self: Client, *args: Any, **kwargs: Any) -> Any:
        calls.append(sorted(kwargs["workers"]))
        return run(self, *args, **kwargs)

    monkeypatch.setattr(Client, "run", counted)
    return calls


def test_no_wait_where_a_worker_is_there(two_workers: Client) -> None:
    wait_for_workers(two_workers, tell=fail)


@pytest.mark.usefixtures("busy")
def test_no_wait_where_all_workers_are_busy(two_workers: Client) -> None:
    wait_for_workers(two_workers, tell=fail)


def test_worker_that_comes_later_is_waited_for(commands: Commands) -> None:
    address = commands.scheduler()
    told: list[str] = []

    def start_worker(line: str) -> None:
        told.append(line)
        commands.worker(address)

    with Client(address, set_as_default=False) as client:
        wait_for_workers(client, tell=start_worker)
        assert len(client.scheduler_info()["workers"]) == 1
        until(lambda: not client.futures)
    assert told == [
        f"waiting for a worker of {address} (an adaptive or cloud cluster may take minutes; "
        "at most 10 minutes: cloudposterior.cluster.wait-timeout)"
    ]


def test_adaptive_cluster_starts_its_first_worker(empty_cluster: Client) -> None:
    empty_cluster.cluster.adapt(minimum=0, maximum=1, interval="50ms")
    told: list[str] = []
    wait_for_workers(empty_cluster, tell=told.append)
    assert len(told) == 1
    assert len(empty_cluster.scheduler_info()["workers"]) == 1


def test_wait_ends_at_the_timeout(empty_cluster: Client) -> None:
    with (
        dask.config.set({"cloudposterior.cluster.wait-timeout": "100ms"}),
        pytest.raises(
            ClusterError,
            match=r"no worker of inproc://.* came within 100ms: start workers \(`dask worker",
        ),
    ):
        wait_for_workers(empty_cluster, tell=str)
    until(lambda: not empty_cluster.futures)


def test_wait_ends_when_the_run_is_stopped(empty_cluster: Client) -> None:
    with pytest.raises(KeyboardInterrupt, match="before there was a worker"):
        wait_for_workers(empty_cluster, tell=str, watch=lambda: True)
    until(lambda: not empty_cluster.futures)


def test_wait_ends_where_the_scheduler_goes_away(commands: Commands) -> None:
    address = commands.scheduler()

    def kill_scheduler(_: str) -> None:
        commands.running[0].kill()
        commands.running[0].wait()

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "500ms"}),
        Client(address, set_as_default=False) as client,
        pytest.raises(ClusterError, match=f"scheduler at {address} went away"),
    ):
        wait_for_workers(client, tell=kill_scheduler)


def test_equal_workers_pass_and_are_asked_once(two_workers: Client, asked: list[list[str]]) -> None:
    with Client(two_workers.cluster, set_as_default=False) as client:
        check_workers(client, PACKAGES)
        check_workers(client, PACKAGES)
        assert asked == [sorted(client.scheduler_info()["workers"])]
        check_workers(client, [*PACKAGES, "arviz"])
        assert len(asked) == 2


def test_worker_that_joins_later_is_asked_alone(commands: Commands, asked: list[list[str]]) -> None:
    address = commands.scheduler()
    with Client(address, set_as_default=False) as client:
        commands.worker(address)
        client.wait_for_workers(1, timeout=PATIENCE_S)
        check_workers(client, PACKAGES)
        first = set(client.scheduler_info()["workers"])
        commands.worker(address)
        client.wait_for_workers(2, timeout=PATIENCE_S)
        check_workers(client, PACKAGES)
        second = set(client.scheduler_info()["workers"]) - first
    assert asked == [sorted(first), sorted(second)]


def test_busy_workers_are_asked_without_waiting(two_workers: Client, busy: list[Future]) -> None:
    with Client(two_workers.cluster, set_as_default=False) as client:
        check_workers(client, PACKAGES)
    assert not any(task.done() for task in busy)


def test_other_version_on_a_worker_is_named(commands: Commands, tmp_path: Path) -> None:
    install(tmp_path / "other", "pymc", "1.2.3")
    ours = importlib.metadata.version("pymc")
    address = commands.scheduler()
    with Client(address, set_as_default=False) as client:
        commands.worker(address)
        client.wait_for_workers(1, timeout=PATIENCE_S)
        (equal,) = client.scheduler_info()["workers"]
        commands.worker(address, PYTHONPATH=str(tmp_path / "other"))
        client.wait_for_workers(2, timeout=PATIENCE_S)
        (other,) = set(client.scheduler_info()["workers"]) - {equal}
        with pytest.raises(ClusterError) as told:
            check_workers(client, PACKAGES)
        message = str(told.value)
        assert f"  {other}: pymc 1.2.3, here {ours}\n" in message
        assert equal not in message
        assert "pytensor" not in message
        assert f"pip install pymc=={ours}" in message
        with pytest.raises(ClusterError, match=r"pymc 1\.2\.3"):
            check_workers(client, PACKAGES)


def test_package_that_workers_lack_is_named(
    two_workers: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "samplerofmine", "4.5")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ClusterError) as told:
        check_workers(two_workers, ["pymc", "samplerofmine"])
    for address in two_workers.scheduler_info()["workers"]:
        assert f"  {address}: samplerofmine not installed, here 4.5\n" in str(told.value)
    assert "pip install samplerofmine==4.5" in str(told.value)


def test_package_that_is_only_there_is_named(commands: Commands, tmp_path: Path) -> None:
    install(tmp_path / "other", "samplerofmine", "4.5")
    address = commands.scheduler()
    commands.worker(address, PYTHONPATH=str(tmp_path / "other"))
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=PATIENCE_S)
        with pytest.raises(
            ClusterError, match=r"samplerofmine 4\.5, here not installed\ninstall here what"
        ):
            check_workers(client, ["samplerofmine"])


def test_other_python_is_named(two_workers: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ".".join(platform.python_version_tuple()[:2])
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.1")
    # a client of its own: what one has found equal is not asked again
    with (
        Client(two_workers.cluster, set_as_default=False) as client,
        pytest.raises(ClusterError) as told,
    ):
        check_workers(client, ["pymc"])
    for address in two_workers.scheduler_info()["workers"]:
        assert f"  {address}: Python {theirs}, here 3.99\n" in str(told.value)
    assert "start the workers with Python 3.99" in str(told.value)


def test_worker_of_the_same_minor_python_passes(
    two_workers: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = ".".join(platform.python_version_tuple()[:2])
    monkeypatch.setattr(platform, "python_version", lambda: f"{theirs}.99")
    with Client(two_workers.cluster, set_as_default=False) as client:
        check_workers(client, ["pymc"])


def test_worker_that_leaves_meanwhile_is_no_error(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the scheduler tries to reach a worker for that long
    address = commands.scheduler(DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="500ms")
    worker = commands.worker(address)
    run = Client.run

    def killed_before(self: Client, *args: Any, **kwargs: Any) -> Any:
        worker.kill()
        worker.wait()
        return run(self, *args, **kwargs)

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=PATIENCE_S)
        monkeypatch.setattr(Client, "run", killed_before)
        check_workers(client, PACKAGES)
