"""The plugin in a scheduler: the board, the page, and who may stop a run."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import dask.config
import pymc as pm
import pytest
from distributed import Client, LocalCluster

import cloudposterior as cp
from cloudposterior.cluster.share import Shared, page_of
from cloudposterior.events import Event, Phase, to_message
from cloudposterior.progress.feed import events_of
from tests.cluster.conftest import NO_DASHBOARD, PATIENCE_S, Commands, until

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("quick_compiling", "cut_small")]

SHORT = {
    "draws": 200,
    "tune": 50,
    "chains": 2,
    "random_seed": 1,
    "nuts_sampler": "pymc",
    "compute_convergence_checks": False,
}


def tiny(name: str = "tiny") -> pm.Model:
    with pm.Model(name=name, coords={"side": ["left", "right"]}) as model:
        pm.Normal("x", dims="side")
    return model


def board_of(client: Client) -> list[dict[str, Any]]:
    """Read the board in the scheduler, the latest run first."""
    return client.run_on_scheduler(_read_board)


def _read_board(dask_scheduler: Any) -> list[dict[str, Any]]:
    plugin = dask_scheduler.plugins.get("cloudposterior")
    return [
        {
            "title": run.started.title,
            "owner": run.started.owner,
            "phase": run.table.phase.name,
            "detail": run.table.phase.detail,
            "drawn": [row.drawn for row in run.table.snapshot().rows],
            "workers": [row.worker for row in run.table.snapshot().rows],
            "names": run.table.diagnosis.names if run.table.diagnosis else (),
        }
        for run in (plugin.board if plugin is not None else ())
    ]


def get(address: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def post(address: str, **fields: str) -> int:
    try:
        data = urlencode(fields).encode()
        with urllib.request.urlopen(address, data=data, timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def with_page() -> Iterator[Client]:
    """A client of a cluster of its own, with a dashboard."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_run_stays_on_the_board_when_it_has_finished(two_workers: Client) -> None:
    cp.sample(tiny("stays"), **SHORT, cluster=two_workers, cache=False)
    posted = board_of(two_workers)[0]
    assert posted["title"] == "Sampler Progress: stays"
    assert " on " in posted["owner"]
    assert (posted["phase"], posted["drawn"]) == ("finished", [250, 250])
    assert set(posted["workers"]) <= set(two_workers.scheduler_info()["workers"])


def test_run_is_on_the_board_while_it_lasts_with_what_its_draws_are_worth(
    two_workers: Client,
) -> None:
    seen: list[dict[str, Any]] = []

    def watch(trace: Any, draw: Any) -> None:
        seen.append(board_of(two_workers)[0])

    # a callback sees every draw, and takes its time
    cp.sample(tiny("lasts"), **{**SHORT, "draws": 20, "callback": watch}, cluster=two_workers)
    assert {posted["phase"] for posted in seen} == {"compiling", "sampling"}


def test_board_shows_parameters_by_their_coordinates(two_workers: Client) -> None:
    request = {**SHORT, "draws": 3_000_000}

    def stop() -> bool:
        return bool(board_of(two_workers)[0]["names"])

    with pytest.warns(cp.CacheWarning, match="not cached"), stopped_when(stop):
        cp.sample(tiny("named"), **request, cluster=two_workers)
    posted = board_of(two_workers)[0]
    assert set(posted["names"]) == {"named::x[left]", "named::x[right]"}
    assert posted["phase"] == "stopped"


class stopped_when:
    """Stop the run that samples in this block once a condition holds."""

    def __init__(self, condition: Any) -> None:
        import threading

        self.thread = threading.Thread(target=self.wait)
        self.condition = condition

    def wait(self) -> None:
        until(cp.runs)
        until(self.condition)
        (run,) = cp.runs()
        run.stop()

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.thread.join()


@pytest.mark.parametrize(
    ("silence", "posted"), [({"progressbar": False}, 1), ({"quiet": True}, 1), ({}, 1)]
)
def test_what_silences_the_cell_leaves_the_page(
    silence: dict[str, Any], posted: int, two_workers: Client
) -> None:
    before = len(board_of(two_workers))
    cp.sample(tiny(), **SHORT, **silence, cluster=two_workers, cache=False)
    assert len(board_of(two_workers)) == before + posted


def test_no_progress_is_shown_nowhere(two_workers: Client) -> None:
    before = len(board_of(two_workers))
    cp.sample(tiny(), **SHORT, progress=False, cluster=two_workers, cache=False)
    assert len(board_of(two_workers)) == before


def test_failed_run_says_so(two_workers: Client) -> None:
    with pytest.raises(cp.ChainError):
        cp.sample(tiny(), **SHORT, init="nowhere", cluster=two_workers, cache=False)
    assert board_of(two_workers)[0]["phase"] == "failed"


def test_page_is_in_the_navigation_and_in_the_list_of_jupyterlab(with_page: Client) -> None:
    base = with_page.dashboard_link.removesuffix("/status")
    cp.sample(tiny(), **SHORT, cluster=with_page, cache=False)
    # registered once more by another client, which has nothing to add
    with Client(with_page.cluster, set_as_default=False) as other:
        cp.sample(tiny(), **SHORT, cluster=other, cache=False)
    status, text = get(f"{base}/posterior")
    assert status == 200
    for page in ("status", "workers", "posterior"):
        text = get(f"{base}/{page}")[1].lower()
        # in the bar, and in the list of single plots
        assert text.count('href="posterior"') == 1, page
        assert text.count('href="individual-posterior"') == 1, page
    plots = json.loads(get(f"{base}/individual-plots.json")[1])
    assert plots["Individual Posterior"] == "/individual-posterior"
    assert plots["Individual Progress"] == "/individual-progress"
    assert get(f"{base}/individual-posterior")[0] == 200
    assert len(board_of(with_page)) == 2


def test_address_of_the_page_stops_a_run_for_who_has_the_token(with_page: Client) -> None:
    shared = Shared(with_page, "run-1", "radon", 2)
    link = urlsplit(shared.link)
    token = parse_qs(link.query)["token"][0]
    address = f"{link.scheme}://{link.netloc}{link.path}/stop"
    heard: list[Any] = []
    with_page.subscribe_topic("cloudposterior", lambda event: heard.append(event))
    assert post(address, run="run-1", token="guess") == 403
    assert post(address, run="run-1") == 403
    assert post(address, run="run-2", token=token) == 403
    # the client may be on its way to the topic yet
    until(lambda: post(address, run="run-1", token=token) == 204 and heard)
    message = heard[0][1]
    assert message == {"run": "run-1", "kind": "StopAsked", "stop_digest": shared.stop_digest}
    assert token not in json.dumps(message)
    shared.tell(Phase("finished"))
    assert post(address, run="run-1", token=token) == 403


def test_page_is_found_behind_a_prefix(commands: Commands) -> None:
    address = commands.scheduler("--dashboard-prefix=/user/me/proxy")
    commands.worker(address)
    with (
        dask.config.set(
            {"distributed.dashboard.link": "http://{host}:{port}/user/me/proxy/status"}
        ),
        Client(address, set_as_default=False) as client,
    ):
        client.wait_for_workers(1, timeout=PATIENCE_S)
        shared = Shared(client, "run-1", "radon", 2)
        link = shared.link
        assert "/user/me/proxy/posterior?run=run-1&token=" in link
        status, text = get(link)
        assert status == 200
        assert 'href="posterior"' in text
        base = link.partition("/posterior")[0]
        assert get(f"{base}/individual-posterior")[0] == 200
        assert "Individual Posterior" in get(f"{base}/individual-plots.json")[1]
        token = parse_qs(urlsplit(link).query)["token"][0]
        assert post(f"{base}/posterior/stop", run="run-1", token=token) == 204


def test_cluster_without_a_dashboard_is_no_error() -> None:
    with (
        LocalCluster(n_workers=1, processes=False, **NO_DASHBOARD) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        shared = Shared(client, "run-1", "radon", 2)
        assert shared.link == ""
        # the board is kept all the same
        assert board_of(client)[0]["title"] == "radon"


def broken(directory: Path, package: str) -> str:
    """Make a directory in which a package cannot be imported."""
    (directory / package).mkdir(parents=True)
    (directory / package / "__init__.py").write_text("raise ImportError('not installed here')")
    return str(directory)


@pytest.mark.parametrize("package", ["bokeh", "cloudposterior"])
def test_scheduler_that_lacks_a_package_costs_one_warning(
    package: str, commands: Commands, tmp_path: Path
) -> None:
    address = commands.scheduler(PYTHONPATH=broken(tmp_path / "lacks", package))
    commands.worker(address)
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=PATIENCE_S)
        with pytest.warns(
            cp.DisplayWarning, match=f"{address} has no page of posteriors.*not installed here"
        ):
            Shared(client, "run-1", "radon", 2)
        # warnings are errors here
        assert Shared(client, "run-2", "radon", 2).link == ""


def test_board_that_fails_costs_one_warning_and_no_run() -> None:
    with (
        LocalCluster(n_workers=1, processes=False, **NO_DASHBOARD) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        shared = Shared(client, "run-1", "radon", 2)
        client.run_on_scheduler(_break_board)
        with pytest.warns(cp.DisplayWarning, match="no page of posteriors.*scripted"):
            shared.tell(Phase("sampling"))
        # warnings are errors here
        shared.tell(Phase("finished"))


def _break_board(dask_scheduler: Any) -> None:
    def take(*_: Any, **__: Any) -> None:
        raise KeyError("scripted")

    dask_scheduler.plugins["cloudposterior"].board.take = take


def test_two_runs_of_one_request_through_one_client_hear_each_their_own(
    two_workers: Client,
) -> None:
    heard: dict[str, list[Event]] = {"one": [], "other": []}
    report = to_message("run-1", Phase("sampling", 0))

    def tell_until(condition: Any) -> None:
        # the client may be on its way to the topic yet
        until(lambda: two_workers.log_event("cloudposterior", report) or condition())

    with events_of(two_workers, "run-1", heard["one"].append):
        with events_of(two_workers, "run-1", heard["other"].append):
            tell_until(lambda: heard["one"] and heard["other"])
        heard["one"].clear()
        before = len(heard["other"])
        tell_until(lambda: heard["one"])
    assert len(heard["other"]) == before


def test_run_whose_client_goes_away_is_said_to_have_failed(two_workers: Client) -> None:
    with Client(two_workers.scheduler.address, set_as_default=False) as other:
        Shared(other, "gone", "radon", 2)
    until(lambda: board_of(two_workers)[0]["phase"] == "failed")
    assert board_of(two_workers)[0]["detail"] == "its client has gone"


@pytest.mark.parametrize(
    ("dashboard", "page"),
    [
        ("http://10.0.0.1:8787/status", "http://10.0.0.1:8787/posterior?run=a&token=b%2Bc"),
        ("https://h/x/proxy/8787/status", "https://h/x/proxy/8787/posterior?run=a&token=b%2Bc"),
        ("/user/me/8787/status", "/user/me/8787/posterior?run=a&token=b%2Bc"),
        ("https://c.host/status?key=1", "https://c.host/posterior?key=1&run=a&token=b%2Bc"),
        ("https://c.host", "https://c.host/posterior?run=a&token=b%2Bc"),
    ],
)
def test_address_of_the_page_is_made_from_that_of_the_dashboard(dashboard: str, page: str) -> None:
    assert page_of(dashboard, run="a", token="b+c") == page
