"""A scheduler that is shared with others: what they send, who stops a run, who listens, TLS."""

from __future__ import annotations

import base64
import hashlib
import http.client
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dask.config
import msgpack
import psutil
import pytest
from distributed import Client, LocalCluster, Security
from distributed.protocol import to_serialize

import cloudposterior as cp
from cloudposterior.cluster import local, place, share
from cloudposterior.cluster.share import Shared
from cloudposterior.events import TOPIC, Event, Phase, RunStarted, to_message
from cloudposterior.progress.feed import events_of
from cloudposterior.progress.notebook import NotebookTable
from cloudposterior.progress.table import RunTable, Table
from cloudposterior.progress.view import views_under_way
from tests.cluster import sameness
from tests.cluster.conftest import PATIENCE_S, Commands, Secured, make_certificates, until
from tests.cluster.models import normal
from tests.cluster.test_cluster_board import board_of, get, post

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("quick_compiling", "cut_small")]

ENDLESS = {**sameness.SHORT, "draws": 3_000_000, "discard_tuned_samples": True}
QUICK = {"cloudposterior.cluster.connect-timeout": "2s"}


@dataclass
class Looked:
    """A display that keeps the link to the page, as a notebook does."""

    links: list[str] = field(default_factory=list)

    def link(self, address: str) -> None:
        self.links.append(address)

    def show(self, table: Table) -> None:
        """Show nothing."""

    close = show


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Looked:
    looked = Looked()
    monkeypatch.setattr(place, "choose_display", lambda stop, *, silent: looked)
    return looked


@pytest.fixture(scope="module")
def with_page() -> Iterator[Client]:
    """A client of a cluster with a dashboard, whose scheduler and workers are processes' own."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def stranger(with_page: Client) -> Iterator[Client]:
    """Somebody else's client of the same scheduler."""
    with Client(with_page.scheduler.address, set_as_default=False) as client:
        yield client


def tell(client: Client, **arguments: Any) -> Any:
    """Call the scheduler as `Shared` does, with anything."""
    return client.sync(client.scheduler.cloudposterior_tell, **arguments)


def log(client: Client, message: Any) -> None:
    """Log an event without the look that `Client.log_event` takes at it."""
    client.sync(client.scheduler.log_event, topic=TOPIC, msg=message)


def report(**changes: Any) -> dict[str, Any]:
    return {**to_message("victim", Phase("sampling", 0, "tcp://10.0.0.1:1")), **changes}


BROKEN: tuple[Any, ...] = (
    None,
    7,
    "text",
    b"\x80\x04.",
    ["victim", "Phase"],
    {},
    {"kind": "Phase"},
    report(run=None),
    report(kind=["Phase"]),
    report(kind="__class__"),
    report(name=7),
    report(name=b"bytes"),
    report(name="n" * 10**6),
    report(chain=-1),
    report(chain=10**18),
    report(chain=float("nan")),
    report(worker={"__class__": "x"}),
    to_message("endless", RunStarted("endless", 10**9)),
    to_message("forged", RunStarted("forged", 2, stop_digest="é" * 64)),
    {**to_message("victim", RunStarted("victim", 2)), "client": 7},
)


# what others send


def test_whatever_others_send_breaks_neither_scheduler_nor_client(
    with_page: Client, stranger: Client, caplog: pytest.LogCaptureFixture
) -> None:
    shared = Shared(with_page, "victim", "victim", 2)
    heard: list[Event] = []
    with caplog.at_level(logging.INFO), events_of(with_page, "victim", heard.append):
        for message in BROKEN:
            tell(stranger, message=message, who="")
            tell(stranger, message=report(), who=message if isinstance(message, list) else 7)
            log(stranger, message)
        sound = to_message("victim", Phase("compiling", 1, "last"))
        until(lambda: log(stranger, sound) or Phase("compiling", 1, "last") in heard)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert "endless" not in {posted["title"] for posted in board_of(with_page)}
    assert board_of(with_page)[0]["title"] == "victim"
    assert get(shared.link)[0] == 200
    shared.tell(Phase("finished"))
    assert board_of(with_page)[0]["phase"] == "finished"


class Marks:
    """Leaves a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_what_is_serialized_in_a_message_stays_so_in_the_scheduler(
    with_page: Client, stranger: Client, tmp_path: Path
) -> None:
    """`docs/explanation/security.md` says what Dask does itself, and this is where that ends."""
    Shared(with_page, "told", "told", 2)
    told, logged, plain = (tmp_path / name for name in ("told", "logged", "plain"))
    tell(stranger, message=report(name=to_serialize(Marks(told))), who="")
    log(stranger, report(name=to_serialize(Marks(logged))))
    assert not told.exists()
    assert not logged.exists()
    # as any of its messages: before it looks for whom it is
    tell(stranger, message=report(name=Marks(plain)), who="")
    assert plain.exists()


def test_client_trusts_its_scheduler(with_page: Client, stranger: Client, tmp_path: Path) -> None:
    """Every client of Dask listens to the topic "print", as this one does to that of runs."""
    for topic in ("print", TOPIC):
        file = tmp_path / topic
        message = {"args": ("a word",), "more": to_serialize(Marks(file))}
        with events_of(with_page, "any", lambda event: None):
            until(
                lambda topic=topic, message=message, file=file: (
                    stranger.sync(stranger.scheduler.log_event, topic=topic, msg=message)
                    or file.exists()
                )
            )


def test_all_that_is_told_of_a_run_is_plain(
    with_page: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not would be pickled by Dask; workers' `log_event` refuses it."""
    sent: list[dict[str, Any]] = []

    def kept(run: str, event: Event) -> dict[str, Any]:
        sent.append(to_message(run, event))
        return sent[-1]

    monkeypatch.setattr(share, "to_message", kept)
    with stopped_when(lambda: any(of["kind"] == "Diagnosis" for of in sent)):
        sameness.on_cluster(normal("plain"), with_page, **ENDLESS)
    assert {of["kind"] for of in sent} == {"RunStarted", "Phase", "Diagnosis"}
    for message in sent:
        assert msgpack.packb(message, strict_types=False)


@contextmanager
def stopped_when(condition: Callable[[], Any]) -> Iterator[None]:
    """Stop the run that samples in this block once a condition holds, or fails."""

    def stop() -> None:
        (run,) = until(cp.runs)
        try:
            until(condition)
        finally:
            run.stop()

    with ThreadPoolExecutor(1) as threads:
        stopping = threads.submit(stop)
        try:
            yield
        except KeyboardInterrupt as error:  # it would end all tests
            stopping.result()
            raise AssertionError("stopped too early") from error
        stopping.result()


def has_draws() -> bool:
    """Tell whether the run that is under way has draws after tuning."""
    return any(row.phase == "sampling" for row in cp.runs()[-1].status().rows)


# who stops a run


def token_of(link: str) -> str:
    return parse_qs(urlsplit(link).query)["token"][0]


def test_nothing_but_its_own_token_stops_a_run(with_page: Client) -> None:
    one, other = Shared(with_page, "one", "one", 2), Shared(with_page, "other", "other", 2)
    tell(with_page, message=to_message("open", RunStarted("nobody's", 2)), who="")
    token, digest = token_of(one.link), one.stop_digest
    assert digest == hashlib.sha256(token.encode()).hexdigest()
    stop = f"{one.link.partition('?')[0]}/stop"
    asked: list[Any] = []
    with_page.subscribe_topic(TOPIC, asked.append)
    for wrong in ("", "guess", token[:-1], f"{token}x", token_of(other.link), digest):
        assert post(stop, run="one", token=wrong) == 403
    for run in ("open", "none", ""):
        for wrong in ("", token):
            assert post(stop, run=run, token=wrong) == 403
    assert post(stop) == 403
    # opening a link is no more than that
    assert get(f"{stop}?run=one&token={token}")[0] == 405
    assert get(one.link)[0] == 200
    # what stands in the address of a post is not looked at
    assert post(f"{stop}?run=one&token={token}") == 403
    assert board_of(with_page)[2]["phase"] != "stopped"
    until(lambda: post(stop, run="one", token=token) == 204 and asked)
    assert {of[1]["stop_digest"] for of in asked} == {digest}
    with_page.unsubscribe_topic(TOPIC)


def test_stop_of_the_page_ends_the_run_whose_link_it_is(with_page: Client, looked: Looked) -> None:
    answers: list[int] = []

    def ask(token: str) -> int:
        (address,) = looked.links
        (run,) = parse_qs(urlsplit(address).query)["run"]
        answers.append(post(f"{address.partition('?')[0]}/stop", run=run, token=token))
        return answers[-1]

    def asked() -> bool:
        (view,) = views_under_way()
        if not (looked.links and has_draws()):
            return False
        ask("guess")
        answers.append(view.stopped)
        ask(token_of(looked.links[0]))
        return bool(until(lambda: view.stopped))

    with stopped_when(asked):
        result = sameness.on_cluster(normal("link"), with_page, **ENDLESS)
    assert answers == [403, False, 204]
    assert "cloudposterior_stopped" in result.attrs


@pytest.mark.parametrize("page", ["status", "posterior"])
def test_page_is_open_to_the_origins_that_dask_is_open_to(page: str) -> None:
    setting = "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin"
    with (
        dask.config.set({setting: ["dash.example:80"]}),
        LocalCluster(
            n_workers=0, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        Shared(client, "run", "radon", 2)
        where = urlsplit(client.dashboard_link).netloc
        assert status_of_websocket(where, page, "http://evil.example") == 403
        # let in, and then asked for the token of a session
        assert status_of_websocket(where, page, "http://dash.example") != 403


def status_of_websocket(where: str, page: str, origin: str) -> int:
    """Ask for a websocket of a page as a browser does for a site."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        "Origin": origin,
    }
    with closing(http.client.HTTPConnection(where, timeout=PATIENCE_S)) as connection:
        connection.request("GET", f"/{page}/ws", headers=headers)
        return connection.getresponse().status


def test_secret_is_in_no_log_event_file_or_repr(
    commands: Commands, looked: Looked, tmp_path: Path
) -> None:
    address = commands.scheduler()
    commands.worker(address)
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=PATIENCE_S)
        told: list[str] = []

        def look() -> bool:
            (link,) = looked.links
            # somebody opens it meanwhile
            assert get(link)[0] == 200
            told.append(repr([cp.runs(), vars(views_under_way()[-1].table)]))
            return has_draws()

        cache = cp.DiskCache(tmp_path / "cache")
        with stopped_when(lambda: looked.links and look()):
            sameness.on_cluster(normal("secret"), client, **ENDLESS)
        cp.sample(normal("kept"), cluster=client, cache=cache, **sameness.SHORT)
        shared = Shared(client, "run", "radon", 1)
        secrets = [token_of(link) for link in (*looked.links, shared.link)]
        assert post(f"{shared.link.partition('?')[0]}/stop", run="run", token=secrets[-1]) == 204
        told += [repr(shared), repr(client), repr(client.run_on_scheduler(all_of_the_board))]
        told += [repr(client.get_events()), str(client.get_scheduler_logs())]
        told += [str(client.get_worker_logs()), commands.logs()]
    assert len(set(secrets)) == 3
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(b"HDF" in content for content in written)
    assert all(len(secret) >= 32 for secret in secrets)
    for secret in secrets:
        assert not [text for text in told if secret in text]
        assert not [content for content in written if secret.encode() in content]


def all_of_the_board(dask_scheduler: Any) -> list[Any]:
    plugin = dask_scheduler.plugins["cloudposterior"]
    return [repr(vars(run)) + repr(vars(run.table)) for run in plugin.board]


# who listens


def listening() -> set[tuple[str, int]]:
    """Give where this process and its children listen."""
    found = set()
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            connections = process.net_connections("inet")
            found |= {tuple(of.laddr) for of in connections if of.status == "LISTEN"}
    return found


def test_local_cluster_listens_on_loopback_only() -> None:
    """Scheduler, its dashboard, workers, their dashboards, nannies."""
    before, during = listening(), []

    def look(trace: Any, draw: Any) -> None:
        if not during:
            during.append(listening() - before)

    try:
        sameness.on_cluster(normal("local"), "local", callback=look)
        workers = len(local._kept[0].cluster.workers)
    finally:
        local._close()
    assert {host for host, _ in during[0]} == {"127.0.0.1"}
    # a scheduler and its dashboard; a nanny and a worker each
    assert len(during[0]) >= 2 + 2 * workers
    assert listening() - before == set()


def test_run_on_a_cluster_of_others_listens_nowhere(with_page: Client) -> None:
    before = listening()
    during = set()

    def look(trace: Any, draw: Any) -> None:
        during.update(listening())

    sameness.on_cluster(normal("silent"), with_page, callback=look)
    assert during | listening() == before


def test_table_of_a_notebook_listens_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    before = listening()
    shown = NotebookTable(lambda: None)
    shown.link("http://127.0.0.1:1/posterior?run=run&token=secret")
    shown.show(RunTable("run", "radon", 2).snapshot())
    assert listening() == before
    shown.close(RunTable("run", "radon", 2).snapshot())
    assert "secret" not in capsys.readouterr().out


# TLS


@pytest.fixture
def tls(tls_commands: Secured) -> Iterator[Secured]:
    with dask.config.set(tls_commands.config):
        yield tls_commands


def test_run_behind_tls_is_the_plain_run_and_is_shown(tls: Secured, looked: Looked) -> None:
    workers: list[str] = []

    def look(trace: Any, draw: Any) -> None:
        workers.append(cp.runs()[-1].status().rows[0].worker)

    with Client(tls.address, set_as_default=False) as client:
        # others have used this scheduler
        before = len(client.get_events("all"))
        ours = sameness.on_cluster(normal(), client, callback=look)
        sameness.assert_same_result(ours, sameness.plain(normal()))
        assert any(worker.startswith("tls://127.0.0.1:") for worker in workers)
        (link,) = looked.links
        assert get(link)[0] == 200
        assert board_of(client)[0]["phase"] == "finished"
        # draws came straight from the workers
        actions = [of[1]["action"] for of in client.get_events("all")[before:]]
        assert "run-function" in actions
        assert "gather" not in actions


def test_run_behind_tls_is_stopped(tls: Secured) -> None:
    with stopped_when(has_draws):
        stopped = sameness.on_cluster(normal(), tls.address, **ENDLESS)
    assert "cloudposterior_stopped" in stopped.attrs


def test_client_with_certificates_of_its_own_samples(tls_commands: Secured) -> None:
    with dask.config.set(tls_commands.config):
        security = Security(require_encryption=True)
    with Client(tls_commands.address, security=security, set_as_default=False) as client:
        ours = sameness.on_cluster(normal(), client)
    sameness.assert_same_result(ours, sameness.plain(normal()))


def test_local_cluster_with_temporary_certificates_samples() -> None:
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        security=True,
    ) as cluster:
        assert cluster.scheduler_address.startswith("tls://")
        ours = sameness.on_cluster(normal(), cluster)
    sameness.assert_same_result(ours, sameness.plain(normal()))


@pytest.mark.parametrize("whose", ["nobody's", "another's"])
def test_who_lacks_the_certificates_samples_nothing(
    whose: str, tls_commands: Secured, tmp_path: Path
) -> None:
    config: dict[str, Any] = dict.fromkeys(tls_commands.config)
    if whose == "another's":
        config = dict(zip(config, make_certificates(tmp_path), strict=True))
    told = f"no Dask scheduler answers at {tls_commands.address}.*distributed.comm.tls"
    with dask.config.set({**config, **QUICK}), pytest.raises(cp.ClusterError, match=told):
        sameness.on_cluster(normal(), tls_commands.address)


def test_cluster_behind_tls_is_not_fooled_by_a_client_that_signed_for_itself(
    tls_commands: Secured, tmp_path: Path
) -> None:
    """One that trusts the right authority, and has a certificate of another."""
    _, certificate, key = make_certificates(tmp_path)
    config = {
        **tls_commands.config,
        "distributed.comm.tls.client.cert": certificate,
        "distributed.comm.tls.client.key": key,
    }
    with (
        dask.config.set({**config, **QUICK}),
        pytest.raises(
            cp.ClusterError, match=f"no Dask scheduler answers at {tls_commands.address}"
        ),
    ):
        sameness.on_cluster(normal(), tls_commands.address)
