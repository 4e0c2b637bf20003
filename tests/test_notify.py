"""Notifications: what a server on loopback gets of a run, and that nobody else gets the URL."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import pickle
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dask.config
import pymc as pm
import pytest
from dask.base import tokenize

import cloudposterior as cp

pytest.importorskip("apprise")
pytestmark = [pytest.mark.once, pytest.mark.usefixtures("in_tmp_path", "exact")]

Build = Callable[..., pm.Model]
Check = Callable[[Any, Any], None]
Options = dict[str, Any]

SECRET = "hunter2secret"
PATH = "topic9f3a"


class Server:
    """A server on loopback that keeps what it is sent.

    Parameters
    ----------
    status : int
        What it answers.
    hangs : bool
        Whether it answers only when it is closed.
    """

    def __init__(self, status: int = 200, *, hangs: bool = False) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.requests.append((self.path, json.loads(body)))
                if hangs:
                    server.closing.wait(30)
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args: Any) -> None:
                pass

            def handle(self) -> None:
                # who asked may have gone
                with contextlib.suppress(OSError):
                    super().handle()

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._http.server_port
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def url(self, schema: str = "json") -> str:
        return f"{schema}://someone:{SECRET}@127.0.0.1:{self.port}/{PATH}"

    @property
    def titles(self) -> list[str]:
        return [body["title"] for _, body in self.requests]

    @property
    def bodies(self) -> list[str]:
        return [body["message"] for _, body in self.requests]

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers."""
    servers: list[Server] = []

    def serve(*args: Any, **kwargs: Any) -> Server:
        servers.append(Server(*args, **kwargs))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()
    # those that were still being sent
    for thread in threading.enumerate():
        if thread.name.startswith("cloudposterior-notify"):
            thread.join(30)


@pytest.fixture
def refused() -> str:
    """A URL of a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"json://someone:{SECRET}@127.0.0.1:{free.getsockname()[1]}/{PATH}"


def fails(**_: Any) -> None:
    raise RuntimeError("disk full\nsecond line")


def test_run_sends_its_start_and_its_end(
    build: Build, short: Options, serve: Callable[..., Server], assert_same_draws: Check
) -> None:
    with build():
        plain = pm.sample(**short)
    server = serve()
    result = cp.sample(build(), notify=server.url(), **short)
    assert_same_draws(result, plain)
    assert server.titles == [
        "small: sampling 2 chains started",
        "small: sampling 2 chains finished",
    ]
    started, finished = server.bodies
    assert started == "20 draws for tuning and 20 draws of each chain"
    words = finished.split(", ")
    assert words[0].startswith("took ") and " second" in words[0]
    assert words[1].startswith("R-hat up to ") and words[2].startswith("ESS from ")
    divergences = int(result["sample_stats"]["diverging"].sum())
    assert words[3] == f"{divergences} divergence{'s' * (divergences != 1)}"
    assert [body["type"] for _, body in server.requests] == ["info", "success"]


def test_ntfy_gets_them_too(
    build: Build, stub_runs: list[pm.Model], serve: Callable[..., Server]
) -> None:
    server = serve()
    cp.sample(build(), notify=server.url("ntfy"), chains=2)
    assert [body["topic"] for _, body in server.requests] == [PATH] * 2
    assert server.titles[1] == "small: sampling 2 chains finished"


def test_failed_run_sends_its_error(
    build: Build, short: Options, serve: Callable[..., Server]
) -> None:
    server = serve()
    with pytest.raises(RuntimeError, match="disk full"):
        cp.sample(build(), notify=server.url(), **short, callback=fails)
    assert server.titles[1:] == ["small: sampling 2 chains failed"]
    assert server.bodies[1:] == ["RuntimeError: disk full"]


def interrupted_in_chain(number: int) -> Callable[..., None]:
    """Give what interrupts a chain in its draws after tuning."""

    def interrupt(*, draw: Any, **_: Any) -> None:
        if draw.chain == number and draw.draw_idx == 30:
            raise KeyboardInterrupt

    return interrupt


def test_run_that_ends_early_says_so(
    build: Build, short: Options, serve: Callable[..., Server]
) -> None:
    server = serve()
    with pytest.warns(cp.CacheWarning, match="interrupted"):
        cp.sample(build(), notify=server.url(), **short, callback=interrupted_in_chain(0))
    assert server.titles[1:] == ["small: sampling 2 chains ended incomplete"]
    assert "of 2 chains" in server.bodies[1]
    assert server.requests[1][1]["type"] == "warning"


def test_run_that_is_interrupted_says_so(
    build: Build, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "cloudposterior.samplers.pymc.SAMPLE", functools.wraps(pm.sample)(interrupted)
    )
    server = serve()
    with pytest.raises(KeyboardInterrupt):
        cp.sample(build(), notify=server.url(), chains=2)
    assert server.titles[1:] == ["small: sampling 2 chains was interrupted"]
    assert server.bodies[1:] == ["KeyboardInterrupt"]


def test_cached_result_sends_nothing_unless_asked_to(
    build: Build, stub_runs: list[pm.Model], serve: Callable[..., Server]
) -> None:
    server = serve()
    cp.sample(build())
    cp.sample(build(), notify=server.url())
    assert server.requests == []
    cp.sample(build(), callbacks=[cp.Notifier(server.url(), cached=True)])
    assert len(stub_runs) == 1
    assert [title.rpartition(" ")[2] for title in server.titles] == ["finished"]
    assert server.bodies[0].startswith("cached result, read in ")


def test_several_services_get_each_message(
    build: Build, stub_runs: list[pm.Model], serve: Callable[..., Server]
) -> None:
    one, other = serve(), serve()
    cp.sample(build(), notify=[one.url(), other.url("ntfy")])
    assert len(one.titles) == 2
    assert one.titles == other.titles


def test_many_calls_are_not_held_up(
    build: Build, stub_runs: list[pm.Model], serve: Callable[..., Server]
) -> None:
    server = serve()
    notifier = cp.Notifier(server.url("ntfy"))
    began = time.monotonic()
    for _ in range(4):
        cp.sample(build(), callbacks=[notifier], cache=False)
    # what Apprise waits between two messages would be six times 5.5 seconds
    assert time.monotonic() - began < 5.5
    assert len(server.requests) == 8


def test_names_are_sent_as_text(
    build: Build, stub_runs: list[pm.Model], serve: Callable[..., Server]
) -> None:
    server = serve()
    cp.sample(build("a<b>\x1b[31m"), notify=server.url())
    assert server.titles[0].startswith("a<b>\\x1b[31m: sampling")


def told_of(run: Callable[[], Any]) -> tuple[Any, list[str], float]:
    """Run, and give what came of it, our warnings, and how long it took."""
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run()
    took = time.monotonic() - began
    return result, [str(w.message) for w in caught if w.category is cp.CallbackWarning], took


def test_server_that_answers_500_costs_a_warning(
    build: Build, stub_runs: list[pm.Model], serve: Callable[..., Server]
) -> None:
    server = serve(500)
    result, told, _ = told_of(lambda: cp.sample(build(), notify=server.url()))
    assert "posterior" in result
    (line,) = told
    assert line.startswith("2 notifications to json://*** were not accepted")
    assert len(server.requests) == 2


def test_server_that_is_not_there_costs_a_warning(
    build: Build, stub_runs: list[pm.Model], refused: str
) -> None:
    result, told, _ = told_of(lambda: cp.sample(build(), notify=refused))
    assert "posterior" in result
    (line,) = told
    assert "json://***" in line and SECRET not in line and PATH not in line


def test_server_that_hangs_is_not_waited_for(
    build: Build, stub_runs: list[pm.Model], serve: Callable[..., Server]
) -> None:
    server = serve(hangs=True)
    notifier = cp.Notifier(server.url())
    times = []
    with dask.config.set({"cloudposterior.notify-timeout": "1500ms"}):
        for _ in range(2):
            result, told, took = told_of(
                lambda: cp.sample(build(), callbacks=[notifier], overwrite=True)
            )
            assert "posterior" in result
            (line,) = told
            assert "json://***" in line and "in time" in line
            times.append(took)
    # Apprise itself would wait four seconds for each message
    assert 1.5 <= times[0] < 4
    # it is known by now that nobody answers
    assert times[1] < 1.5


def test_servers_that_hang_hold_up_no_other(
    build: Build, stub_runs: list[pm.Model], serve: Callable[..., Server]
) -> None:
    hanging, sound = serve(hangs=True), serve()
    urls = [*[hanging.url()] * 8, sound.url()]
    with dask.config.set({"cloudposterior.notify-timeout": "1s"}):
        _, told, _ = told_of(lambda: cp.sample(build(), notify=urls))
    assert len(told) == 8
    assert len(sound.requests) == 2
    # a thread that is no daemon would be waited for when the process ends
    sending = [t for t in threading.enumerate() if "notify" in t.name.lower()]
    assert len(sending) >= 8 and all(thread.daemon for thread in sending)


def test_interrupt_while_it_waits_returns_the_result(
    build: Build, stub_runs: list[pm.Model], serve: Callable[..., Server], monkeypatch: Any
) -> None:
    server = serve(hangs=True)

    def interrupted(self: Any, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cloudposterior.notify._Message.wait", interrupted)
        result, told, _ = told_of(lambda: cp.sample(build(), notify=server.url()))
    assert "posterior" in result
    assert told == ["callbacks were interrupted; the result is returned"]


@pytest.mark.parametrize("schema", ["json", "ntfy"])
@pytest.mark.parametrize("status", [200, 500, None])
def test_no_log_and_no_file_has_the_url(
    schema: str,
    status: int | None,
    build: Build,
    stub_runs: list[pm.Model],
    serve: Callable[..., Server],
    refused: str,
    in_tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url = refused.replace("json", schema) if status is None else serve(status).url(schema)
    caplog.set_level(1)
    for name in ("apprise", "urllib3", "urllib3.connectionpool", "requests"):
        caplog.set_level(1, logger=name)
    _, told, _ = told_of(lambda: cp.sample(build(), cache="disk", notify=url))
    assert len(told) == (status != 200)
    logging.getLogger("urllib3.connectionpool").debug("others are heard")
    assert "others are heard" in caplog.text
    written = [path for path in in_tmp_path.rglob("*") if path.is_file()]
    assert written
    shown = "".join((caplog.text, *told, *capfd.readouterr()))
    for word in (SECRET, PATH, "someone"):
        assert word not in shown
        assert not any(word.encode() in path.read_bytes() for path in written)


def test_nothing_that_holds_the_url_shows_it(build: Build) -> None:
    url = f"ntfy://someone:{SECRET}@127.0.0.1:1/{PATH}"
    notifier = cp.Notifier([url, f"json://127.0.0.1:1/{PATH}"])
    assert repr(notifier) == "<cloudposterior.Notifier ntfy://***, json://***>"
    block = cp.cloud(build(), notify=url)
    for shown in (repr(vars(notifier)), repr(vars(block)), str(notifier)):
        assert SECRET not in shown and PATH not in shown
    with pytest.raises(TypeError, match="neither kept nor sent"):
        pickle.dumps(notifier)


def test_url_is_in_no_token(build: Build) -> None:
    plain = tokenize(build())
    with cp.cloud(model := build(), notify="json://127.0.0.1:1"):
        assert tokenize(model) == plain


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        (f"nosuch://someone:{SECRET}@host/{PATH}", "begins with nosuch://"),
        (f"json://someone:{SECRET}@:{PATH}", "begins with json://"),
        (f"tgram://{SECRET}", "begins with tgram://"),
        (SECRET, "one without a scheme"),
        ("", "one without a scheme"),
        (["json://127.0.0.1", f"https://example.com/{SECRET}"], "begins with https://"),
        ([], "has no URL in it"),
    ],
)
def test_url_that_apprise_does_not_understand_is_refused(
    urls: Any, words: str, build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    caplog.set_level(1, logger="apprise")
    with pytest.raises(ValueError, match=words) as raised:
        cp.cloud(build(), notify=urls)
    # what Apprise said is not chained to it
    assert raised.value.__cause__ is None and raised.value.__context__ is None
    for word in (SECRET, PATH):
        assert word not in str(raised.value) and word not in caplog.text


@pytest.mark.parametrize("urls", [5, [b"json://127.0.0.1"], Path("json:")])
def test_what_is_no_text_is_refused(urls: Any, build: Build) -> None:
    with pytest.raises(TypeError, match="takes a URL as text.*got an object of type"):
        cp.sample(build(), notify=urls)


def test_apprise_that_is_missing_is_said(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ImportError, match="pip install apprise") as raised:
        cp.cloud(build(), notify=f"ntfy://{SECRET}")
    assert SECRET not in str(raised.value)
