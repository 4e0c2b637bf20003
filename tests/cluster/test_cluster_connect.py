"""What may be passed as ``cluster=``, and how it becomes a client."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import dask.config
import pytest
from distributed import Client, LocalCluster, Security, default_client

from cloudposterior.cluster.connect import check_cluster, open_client
from cloudposterior.errors import ClusterError, ClusterWarning
from tests.cluster.conftest import Commands, Secured

pytestmark = pytest.mark.once

QUICK = {"cloudposterior.cluster.connect-timeout": "500ms"}


class WithClientOnly:
    """A cluster as few as possible: it hands out clients."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get_client(self) -> Client:
        return Client(self._address)


class WithQuietClient(WithClientOnly):
    """As dask-gateway's, whose client need not become the default."""

    def get_client(self, set_as_default: bool = True) -> Client:
        assert not set_as_default
        return Client(self._address, set_as_default=False)


class WithKeptClient(WithClientOnly):
    """A cluster that hands out one client of its own again and again."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.client = Client(address, set_as_default=False)

    def get_client(self) -> Client:
        return self.client


class WithAddressOnly:
    """A cluster that tells where its scheduler is."""

    def __init__(self, address: str) -> None:
        self.scheduler_address = address


@pytest.fixture
def user_client() -> Iterator[Client]:
    """The user's own default client, of another cluster."""
    with (
        LocalCluster(
            n_workers=1, processes=False, dashboard_address=":0", threads_per_worker=1
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def scheduler_id(client: Client) -> str:
    return str(client.scheduler_info()["id"])


@pytest.mark.parametrize("nonsense", [5, 1.5, object(), ["tcp://127.0.0.1:1"], LocalCluster, True])
def test_what_is_no_cluster_is_refused_with_what_is_allowed(nonsense: object) -> None:
    with pytest.raises(TypeError, match=r"is no cluster: pass a distributed.Client.*'local'"):
        check_cluster(nonsense)


@pytest.mark.parametrize("word", ["", "lokal", "localhost:8786", "127.0.0.1"])
def test_word_that_is_no_address_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=f"cluster='{word}' is neither 'local' nor an address"):
        check_cluster(word)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:8787", "unknown address scheme 'http'"),
        ("tcp://127.0.0.1", "missing port"),
        ("tcp://127.0.0.1:port", "invalid literal"),
    ],
)
def test_address_that_dask_cannot_read_is_refused(address: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"{address}.*{reason}"):
        check_cluster(address)


@pytest.mark.parametrize("cluster", [None, "local", "tcp://10.0.0.1:8786", "tls://[::1]:8786"])
def test_check_asks_nobody(cluster: object) -> None:
    check_cluster(cluster)


def test_closed_client_is_refused_by_name(dask_commands: str) -> None:
    client = Client(dask_commands, set_as_default=False)
    check_cluster(client)
    client.close()
    with pytest.raises(ClusterError, match=r"Client.*is closed: make a new one"):
        check_cluster(client)


def test_closed_cluster_is_refused_by_name() -> None:
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster:
        check_cluster(cluster)
    with pytest.raises(ClusterError, match=r"LocalCluster.*is closed"):
        check_cluster(cluster)


def test_asynchronous_client_is_refused_by_name(dask_commands: str) -> None:
    async def check() -> None:
        async with Client(dask_commands, asynchronous=True, set_as_default=False) as client:
            with pytest.raises(TypeError, match=r"Client.*is asynchronous.*pass a synchronous one"):
                check_cluster(client)

    asyncio.run(check())


def test_asynchronous_cluster_is_refused_by_name() -> None:
    async def check() -> None:
        async with LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0", asynchronous=True
        ) as cluster:
            with pytest.raises(TypeError, match=r"LocalCluster.*is asynchronous"):
                check_cluster(cluster)

    asyncio.run(check())


def test_no_cluster_cannot_be_opened() -> None:
    with pytest.raises(TypeError, match="no cluster to connect to"), open_client(None, chains=1):
        pass


def test_users_client_is_used_and_stays_open(two_workers: Client) -> None:
    with open_client(two_workers, chains=2) as client:
        assert client is two_workers
    assert client.status == "running"


@pytest.mark.parametrize("kind", [str, WithAddressOnly, WithClientOnly, WithQuietClient])
def test_client_of_ours_is_no_default_and_is_closed(
    kind: Any, dask_commands: str, user_client: Client
) -> None:
    scheduler = dask.config.get("scheduler")
    before = set(Client._instances)
    with open_client(kind(dask_commands), chains=2) as client:
        assert client.scheduler.address == dask_commands
        assert client.submit(sum, [1, 2], pure=False).result() == 3
        assert default_client() is user_client
        assert dask.config.get("scheduler") == scheduler
    assert client.status == "closed"
    assert default_client() is user_client
    assert {c for c in set(Client._instances) - before if c.status != "closed"} == set()


def test_no_default_client_remains_where_there_was_none(dask_commands: str) -> None:
    with open_client(WithClientOnly(dask_commands), chains=2):
        with pytest.raises(ValueError, match="No clients"):
            default_client()
        assert dask.config.get("scheduler", None) is None


def test_client_that_a_cluster_keeps_stays_open(dask_commands: str) -> None:
    cluster = WithKeptClient(dask_commands)
    with cluster.client, open_client(cluster, chains=2) as client:
        assert client is not cluster.client
        assert client.scheduler.address == dask_commands
        assert cluster.client.status == "running"


def test_cluster_object_is_opened_and_stays_open(two_workers: Client, user_client: Client) -> None:
    cluster = two_workers.cluster
    with open_client(cluster, chains=2) as client:
        assert client is not two_workers
        assert scheduler_id(client) == scheduler_id(two_workers)
        assert client.dashboard_link == cluster.dashboard_link
        assert default_client() is user_client
    assert client.status == "closed"
    assert cluster.status.name == "running"


def test_notebook_whose_loop_runs_can_open_a_cluster(dask_commands: str) -> None:
    async def cell() -> int:
        with open_client(dask_commands, chains=2) as client:
            return int(client.submit(sum, [1, 2], pure=False).result())

    assert asyncio.run(cell()) == 3


def test_two_clusters_are_each_their_own(two_workers: Client, dask_commands: str) -> None:
    with open_client(two_workers, chains=2) as one, open_client(dask_commands, chains=2) as other:
        where = [set(client.scheduler_info()["workers"]) for client in (one, other)]
        assert len(where[0]) == len(where[1]) == 2
        assert where[0].isdisjoint(where[1])
        for client, addresses in zip((one, other), where, strict=True):
            done = client.submit(sum, [1, 2], pure=False)
            assert done.result() == 3
            assert set(next(iter(client.who_has(done).values()))) <= addresses


def test_two_threads_open_clusters_of_their_own(two_workers: Client, dask_commands: str) -> None:
    both = threading.Barrier(2, timeout=30)
    found: dict[str, str] = {}

    def run(name: str, cluster: Any) -> None:
        with open_client(cluster, chains=2) as client:
            both.wait()
            found[name] = client.scheduler.address

    threads = [
        threading.Thread(target=run, args=arguments)
        for arguments in (("object", two_workers.cluster), ("address", dask_commands))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"object": two_workers.cluster.scheduler_address, "address": dask_commands}


def test_address_where_nobody_listens_is_an_error() -> None:
    address = f"tcp://127.0.0.1:{closed_port()}"
    with (
        dask.config.set(QUICK),
        pytest.raises(ClusterError, match=f"{address}.*connect-timeout of dask.config, now 500ms"),
        open_client(address, chains=1),
    ):
        pass


@pytest.mark.parametrize("kind", [str, WithAddressOnly])
def test_address_where_somebody_listens_and_is_silent_is_an_error(
    kind: Any, silent_port: int
) -> None:
    address = f"tcp://127.0.0.1:{silent_port}"
    with (
        dask.config.set(QUICK),
        pytest.raises(ClusterError, match=f"no Dask scheduler answers at {address}"),
        open_client(kind(address), chains=1),
    ):
        pass


def test_address_of_a_worker_is_an_error(two_workers: Client) -> None:
    worker = next(iter(two_workers.scheduler_info()["workers"]))
    with (
        pytest.raises(ClusterError, match=f"at {worker} answers a Worker, and no scheduler"),
        open_client(worker, chains=1),
    ):
        pass


def test_scheduler_that_dies_in_the_block_costs_nothing(commands: Commands) -> None:
    address = commands.scheduler()
    with open_client(address, chains=1) as client:
        commands.running[0].kill()
        commands.running[0].wait()
    assert client.status == "closed"


def test_client_that_cannot_be_closed_costs_a_warning(
    dask_commands: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f"{dask_commands}.*could not be closed.*timed out"
    opened = open_client(dask_commands, chains=1)
    client = opened.__enter__()
    close = client.close

    def slow() -> None:
        close()
        raise TimeoutError("timed out after 20 s")

    # of this client only: others may be collected meanwhile
    monkeypatch.setattr(client, "close", slow)
    with pytest.warns(ClusterWarning, match=told):
        opened.__exit__(None, None, None)
    assert client.status == "closed"


def test_tls_with_dasks_own_configuration(tls_commands: Secured) -> None:
    assert tls_commands.address.startswith("tls://")
    with (
        dask.config.set(tls_commands.config),
        open_client(tls_commands.address, chains=2) as client,
    ):
        assert client.submit(sum, [1, 2], pure=False).result() == 3


def test_tls_with_the_security_of_the_cluster(tls_commands: Secured) -> None:
    cluster = WithAddressOnly(tls_commands.address)
    with dask.config.set(tls_commands.config):
        cluster.security = Security()  # type: ignore[attr-defined]
    with open_client(cluster, chains=2) as client:
        assert client.submit(sum, [1, 2], pure=False).result() == 3


def test_tls_with_dasks_security_loader(
    tls_commands: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dask.config.set(tls_commands.config):
        security = Security()
    asked = []

    def load(info: dict[str, str]) -> Security:
        asked.append(info["address"])
        return security

    monkeypatch.setattr(f"{__name__}.load_security", load, raising=False)
    loader = {"distributed.client.security-loader": f"{__name__}.load_security"}
    with dask.config.set(loader), open_client(tls_commands.address, chains=2) as client:
        assert client.status == "running"
    assert asked == [tls_commands.address]


@pytest.mark.parametrize("scheme", ["tls", "tcp"])
def test_tls_without_certificates_is_an_error(tls_commands: Secured, scheme: str) -> None:
    address = tls_commands.address.replace("tls", scheme)
    with (
        dask.config.set(QUICK),
        pytest.raises(ClusterError, match=f"no Dask scheduler answers at {address}") as told,
        open_client(address, chains=1),
    ):
        pass
    assert ("distributed.comm.tls" in str(told.value)) == (scheme == "tls")
