"""Headless Chromium, a cluster with a dashboard, runs that go on while one looks, notebooks."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.config
import pymc as pm
import pytensor
import pytest
from distributed import Client, LocalCluster
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

import cloudposterior as cp
from cloudposterior.cluster import place
from cloudposterior.progress.table import Table

PATIENCE_S = 120
PATIENCE_MS = 1000 * PATIENCE_S

# nothing but loopback is asked
_FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

HOSTILE = "<script>window.hacked=1<img src=x onerror=\"window.hacked='2'\"> $$x$$ &amp;"
"""A name that would do something wherever it is not shown as text."""

HOSTILE_COORDINATE = "</script><script>window.hacked=3</script>"
"""One with what PyMC lets no name have."""

REQUEST: dict[str, Any] = {
    "draws": 5_000_000,
    "tune": 100,
    "chains": 2,
    "random_seed": 3,
    "compute_convergence_checks": False,
    "nuts_sampler": "pymc",
}
"""A run that does not end by itself."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the browser of one module: while it is open, its event loop runs in this thread."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("Debian's chromium is needed: apt-get install chromium", pytrace=False)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages; no script of theirs may fail."""
    contexts, errors = [], []

    def open_page(address: str = "about:blank", *, width: int = 1300, height: int = 1100) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Connect to two worker processes of one thread each, with a dashboard on loopback."""
    with (
        # on a busy machine it warns
        dask.config.set({"distributed.admin.system-monitor.gil.enabled": False}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@dataclass
class Looked:
    """A display that keeps the link to the page, as a notebook does."""

    address: Future[str] = field(default_factory=Future)

    def link(self, address: str) -> None:
        self.address.set_result(address)

    def show(self, table: Table) -> None:
        """Show nothing."""

    close = show


@dataclass
class UnderWay:
    """A run in another thread.

    Attributes
    ----------
    result : Future
        What the call returns.
    link : str
        The page of the run, with the secret that stops it.
    """

    result: Future[Any]
    link: str


@pytest.fixture
def start(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., UnderWay]]:
    """Start runs on the cluster in another thread; those that a test leaves are stopped."""
    # a run is judged at the ends of segments
    settings = {"cloudposterior.cluster.segment": "600ms"}
    begun: list[Future[Any]] = []
    flags = {"mode": "FAST_COMPILE", "numba__fastmath": False}

    def sample(*arguments: Any, **keywords: Any) -> Any:
        with warnings.catch_warnings():
            # a run that was stopped says that it is not cached
            warnings.simplefilter("ignore", cp.CacheWarning)
            return cp.sample(*arguments, **keywords)

    with (
        ThreadPoolExecutor() as threads,
        dask.config.set(settings),
        # tiny models take longer to compile than to draw
        pytensor.config.change_flags(**flags),
    ):

        def start(model: pm.Model, **changed: Any) -> UnderWay:
            looked = Looked()
            monkeypatch.setattr(place, "choose_display", lambda stop, *, silent: looked)
            arguments = {**REQUEST, "cache": False, **changed}
            result = threads.submit(sample, model, **arguments, cluster=client)
            begun.append(result)
            return UnderWay(result, looked.address.result(PATIENCE_S))

        yield start
        for run in cp.runs():
            run.stop()
        for result in begun:
            result.exception(PATIENCE_S)


SETTING_UP = f"""\
import pymc as pm, pytensor
import dask
import cloudposterior as cp
from distributed import Client, LocalCluster
pytensor.config.mode = "FAST_COMPILE"
dask.config.set({{"distributed.admin.system-monitor.gil.enabled": False}})
cluster = LocalCluster(
    n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
)
client = Client(cluster)
with pm.Model(name={HOSTILE!r}) as model:
    pm.Normal("x", shape=3)
request = {REQUEST!r}
print("ready", "to sample")"""
"""What a notebook does first; a text that it prints is not in its source."""

SAMPLING = """\
with cp.cloud(model, cluster=client):
    result = pm.sample(**request)
print("drew", result.posterior.sizes["draw"], "cloudposterior_stopped" in result.attrs)"""
"""A run that does not end by itself."""

TWO_RUNS = """\
short = {**request, "draws": 40, "tune": 40}
with cp.cloud(model, cluster=client):
    pm.sample(**short)
    pm.sample(**{**short, "random_seed": 4})
print("both", "done")"""

REPEATED = """\
with cp.cloud(model, cluster=client):
    pm.sample(**short)
print("had", "it")"""


@contextmanager
def serving(directory: Path, port: int, *command: str) -> Iterator[None]:
    """Serve notebooks on loopback, with files of their own, and end that with its kernels."""
    home = directory / "home"
    home.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(cp.__file__).parents[1]),
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        **{f"JUPYTER_{of}_DIR": str(home / of.lower()) for of in ("CONFIG", "DATA", "RUNTIME")},
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        **{f"XDG_{of}_HOME": str(home / of.lower()) for of in ("CONFIG", "DATA", "CACHE", "STATE")},
    }
    log = directory / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=directory,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            _wait_for(port, server, log)
            yield
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            pause.wait(0.1)
        else:
            return


def expect_to_rise(cell: Locator) -> None:
    """Wait until a figure is there, and then until there is a larger one in its place."""
    expect(cell).to_have_text(re.compile(r"[1-9]\d*"))
    before = cell.inner_text()
    expect(cell).not_to_have_text(before)
    assert int(cell.inner_text()) > int(before)


def wait_for_text(page: Page, file: Path, text: str) -> str:
    """Wait until a server has written a text into a file, and give all that is in it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (file.exists() and text in file.read_text()):
        assert time.monotonic() < deadline, f"{text!r} was not saved"
        page.wait_for_timeout(50)
    return file.read_text()


@pytest.fixture
def port() -> int:
    """A free port of loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
