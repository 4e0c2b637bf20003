"""The page "Posterior" of the dashboard, as who opens it in a browser sees it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
from distributed import Client
from playwright.sync_api import Locator, Page, expect

import cloudposterior as cp
from cloudposterior.events import ChainReport, Diagnosis, Phase
from cloudposterior.posterior import to_tree
from cloudposterior.progress.html import table_html
from cloudposterior.progress.table import RunTable
from tests.browser.conftest import HOSTILE, HOSTILE_COORDINATE, PATIENCE_S, UnderWay, expect_to_rise

pytestmark = pytest.mark.once

LONG = f"{HOSTILE}{200 * 'n'}"[:200]

CHAINS, PARAMETERS = 0, 1
"""The tables of the page, and below the places of columns in them."""
DRAWS, STATE = 2, 7
NAME, R_HAT, ESS_BULK = 0, 3, 4


def cells(page: Page, table: int, column: int) -> Locator:
    return page.locator(".bk-DataTable").nth(table).locator(f".slick-cell.l{column}")


def expect_shown(page: Page, *names: str) -> None:
    """Wait until the page shows figures of two chains and of these parameters."""
    expect(cells(page, CHAINS, DRAWS)).to_have_text([re.compile(r"[1-9]\d*")] * 2)
    expect(cells(page, PARAMETERS, NAME)).to_have_count(len(names))
    assert sorted(cells(page, PARAMETERS, NAME).all_inner_texts()) == sorted(names)
    expect(cells(page, PARAMETERS, R_HAT).first).to_have_text(re.compile(r"\d\.\d{3}"))
    expect(cells(page, PARAMETERS, ESS_BULK).first).to_have_text(re.compile(r"\d+"))


def choose(page: Page, name: str) -> None:
    """Click a parameter, once more where the table was drawn anew under the pointer."""
    for _ in range(12):
        cells(page, PARAMETERS, NAME).get_by_text(name, exact=True).click()
        try:
            expect(page.locator("h3")).to_have_text(name, timeout=5000)
        except AssertionError:
            continue
        return
    pytest.fail(f"{name} was clicked, and is not plotted")


def ask_to_stop(link: str, token: str) -> int:
    """Ask as the button of a notebook does, and give the status of the answer."""
    page, _, query = link.partition("?")
    (run,) = urllib.parse.parse_qs(query)["run"]
    body = urllib.parse.urlencode({"run": run, "token": token}).encode()
    try:
        with urllib.request.urlopen(f"{page}/stop", body, timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_page_shows_a_run_from_its_first_draws_to_its_stop(
    client: Client,
    start: Callable[..., UnderWay],
    open_page: Callable[..., Page],
    tmp_path: Path,
) -> None:
    with pm.Model(name="seen", coords={"part": ["a", "b"]}) as model:
        pm.Normal("x", dims="part")
    cache = cp.MemoryCache()
    run = start(model, cache=cache)

    # from the dashboard, as anybody finds it
    visitor = open_page(client.dashboard_link)
    visitor.locator(".navbar").get_by_text("Posterior", exact=True).first.click()
    expect(visitor).to_have_title("Dask: Posterior")
    expect(visitor.get_by_role("heading", name="Sampler Progress: seen")).to_be_visible()
    expect_shown(visitor, "seen::x[a]", "seen::x[b]")
    expect_to_rise(cells(visitor, CHAINS, DRAWS).first)
    expect(visitor.get_by_role("button", name="Stop")).to_be_disabled()
    assert ask_to_stop(run.link, "wrong") == 403

    # from the link that the client gave out; by now the whole state is there
    page = open_page(run.link)
    expect_shown(page, "seen::x[a]", "seen::x[b]")
    plotted = page.locator("h3")
    expect(plotted).to_have_text(re.compile("seen::x"))
    other = {"seen::x[a]": "seen::x[b]", "seen::x[b]": "seen::x[a]"}[plotted.inner_text()]
    choose(page, other)
    expect_to_rise(cells(page, CHAINS, DRAWS).first)
    expect(plotted).to_have_text(other)
    page.reload()
    expect_shown(page, "seen::x[a]", "seen::x[b]")
    assert not run.result.done()

    page.get_by_role("button", name="Stop").click()
    result = run.result.result(PATIENCE_S)
    posterior = to_tree(result)["posterior"]
    assert posterior.sizes["chain"] == 2
    assert 0 < posterior.sizes["draw"] < 5_000_000
    assert not np.isnan(posterior["seen::x"].values).any()
    assert "cloudposterior_stopped" in result.attrs
    # what was drawn waits for the same call, and is no result
    assert all(entry.record.part_of for entry in cache.entries())

    for looked_at in (page, visitor):
        expect(looked_at.get_by_text("Stopped after")).to_be_visible()
        expect(looked_at.get_by_role("button", name="Stop")).to_be_disabled()
    page.reload()
    expect(page.get_by_text("Stopped after")).to_be_visible()
    expect_shown(page, "seen::x[a]", "seen::x[b]")
    expect(cells(page, CHAINS, STATE)).to_have_text(["stopped", "stopped"])
    assert len(page.screenshot(path=tmp_path / "page.png", full_page=True)) > 20_000
    page.set_viewport_size({"width": 390, "height": 900})
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_page_shows_hostile_names_as_text_and_alone_without_navigation(
    client: Client, start: Callable[..., UnderWay], open_page: Callable[..., Page]
) -> None:
    with pm.Model(name=LONG, coords={"part": [HOSTILE_COORDINATE]}) as model:
        pm.Normal(HOSTILE, dims="part")
    run = start(model)
    name = f"{LONG}::{HOSTILE}[{HOSTILE_COORDINATE}]"

    page = open_page(run.link)
    expect_shown(page, name)
    expect(page.locator("h2")).to_have_text(f"Sampler Progress: {LONG}")
    expect(page.locator("h3")).to_have_text(name)
    # a picker lists it
    (chosen,) = page.locator("select option:checked").all_inner_texts()
    assert f"Sampler Progress: {HOSTILE}" in chosen
    assert page.evaluate("window.hacked") is None

    # as the JupyterLab extension opens it
    base = client.dashboard_link.removesuffix("/status")
    with urllib.request.urlopen(f"{base}/individual-plots.json", timeout=PATIENCE_S) as answer:
        listed = json.load(answer)
    assert listed["Individual Posterior"] == "/individual-posterior"
    assert "/individual-progress" in listed.values()
    alone = open_page(f"{base}/individual-posterior")
    expect_shown(alone, name)
    expect(alone.locator("h2")).to_have_text(f"Sampler Progress: {LONG}")
    expect(alone.locator(".navbar")).to_have_count(0)
    assert alone.evaluate("window.hacked") is None


@pytest.mark.parametrize("ended", [False, True])
def test_table_of_a_saved_notebook_shows_hostile_names_as_text(
    open_page: Callable[..., Page], ended: bool
) -> None:
    table = RunTable("key", LONG, chains=2)
    table.update(Phase("sampling", detail=HOSTILE))
    table.update(ChainReport(0, HOSTILE, drawn=30, tune=10, total=40, step_size=0.5))
    table.update(ChainReport(1, "worker", drawn=20, tune=10, total=40, divergences=3))
    table.update(
        Diagnosis((0, 1), 10, 1, (f"$${HOSTILE}",), (0.0,), (1.0,), (1.2,), (20.0,), (30.0,))
    )
    if ended:
        table.update(Phase("failed", detail=HOSTILE))
    written = table_html(table.snapshot())
    assert "<script" not in written
    assert "<img" not in written
    page = open_page()
    page.set_content(written)
    for text in (LONG, HOSTILE.strip(), "3"):
        expect(page.get_by_text(text).first).to_be_visible()
    assert page.evaluate("window.hacked") is None
    assert page.locator("script, img").count() == 0
