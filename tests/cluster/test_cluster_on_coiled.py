"""Coiled: its arguments by the signature of the installed package, the rest on a stand-in."""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any

import dask.utils
import pytest
from distributed import LocalCluster
from distributed.deploy.cluster import Cluster

from cloudposterior.cluster.connect import check_cluster, open_client
from cloudposterior.cluster.on_coiled import coiled_cluster
from cloudposterior.cluster.sizing import GIB, ClusterOptions
from cloudposterior.cluster.workers import check_workers, wait_for_workers
from cloudposterior.errors import ClusterError

OPTIONS = ClusterOptions(2, 1, 2 * GIB)


class LikeCoiled(LocalCluster):
    """A cluster that takes Coiled's words, and starts workers in this process."""

    def __init__(
        self,
        name: str | None = None,
        *,
        n_workers: int,
        worker_cpu: list[int],
        worker_memory: list[str],
        worker_options: dict[str, Any],
        idle_timeout: str | None = None,
    ) -> None:
        self.arguments = (name, worker_cpu, idle_timeout)
        super().__init__(
            name=name,
            n_workers=n_workers,
            threads_per_worker=worker_options["nthreads"],
            memory_limit=dask.utils.parse_bytes(worker_memory[0]),
            processes=False,
            dashboard_address=":0",
        )


@pytest.fixture
def like_coiled(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("coiled")
    module.Cluster = LikeCoiled  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "coiled", module)


def test_arguments_are_those_of_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    coiled = pytest.importorskip("coiled")
    assert issubclass(coiled.Cluster, Cluster)
    signature = inspect.signature(coiled.Cluster.__init__)
    given: dict[str, Any] = {}

    def take(self: object, *args: Any, **kwargs: Any) -> None:
        given.update(signature.bind(self, *args, **kwargs).arguments)

    monkeypatch.setattr(coiled.Cluster, "__init__", take)
    monkeypatch.setattr(coiled.Cluster, "__del__", lambda self: None)
    coiled_cluster(OPTIONS, name="radon", idle_timeout="5 minutes", n_workers=[0, 8])
    assert given.pop("self") is not None
    assert given == {
        "name": "radon",
        "idle_timeout": "5 minutes",
        **OPTIONS.coiled(),
        "n_workers": [0, 8],
    }
    types_of = {name: str(signature.parameters[name].annotation) for name in OPTIONS.coiled()}
    assert "List[int]" in types_of["worker_cpu"] and "List[int]" in types_of["n_workers"]
    assert "List[str]" in types_of["worker_memory"] and "dict" in types_of["worker_options"]


@pytest.mark.usefixtures("like_coiled")
def test_cluster_of_coiled_is_a_cluster_as_any_other() -> None:
    told: list[str] = []
    with coiled_cluster(OPTIONS, name="radon", idle_timeout="5 minutes") as cluster:
        assert cluster.arguments == ("radon", [1, 2], "5 minutes")
        check_cluster(cluster)
        with open_client(cluster, chains=2) as client:
            wait_for_workers(client, tell=told.append)
            check_workers(client, ["pymc", "numpy"])
            assert client.submit(sum, [1, 2]).result() == 3
            workers = client.scheduler_info()["workers"].values()
            assert [(w["nthreads"], w["memory_limit"]) for w in workers] == [(1, 2 * GIB)] * 2
        assert cluster.status.name == "running"
    with pytest.raises(ClusterError, match=r"cluster=radon.*is closed"):
        check_cluster(cluster)


def test_coiled_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coiled", None)
    with pytest.raises(ClusterError, match=r"Coiled is not installed: `pip install coiled`"):
        coiled_cluster(OPTIONS)
