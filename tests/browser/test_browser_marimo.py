"""The table in marimo, as who runs the cells sees it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import (
    HOSTILE,
    REPEATED,
    SAMPLING,
    SETTING_UP,
    TWO_RUNS,
    expect_to_rise,
    serving,
    wait_for_text,
)

pytestmark = pytest.mark.once


def test_marimo_shows_a_table_in_place_stops_the_run_and_leaves_html(
    open_page: Callable[..., Page], tmp_path: Path, port: int
) -> None:
    file = tmp_path / "runs.py"
    file.write_text(notebook(SETTING_UP, SAMPLING, TWO_RUNS, REPEATED))
    options = ("--headless", "--no-token", "--skip-update-check", "--host=127.0.0.1")
    with serving(tmp_path, port, "marimo", "edit", *options, f"--port={port}", str(file)):
        page = open_page(f"http://127.0.0.1:{port}", height=1800)
        # that of all cells, once there is a kernel
        page.locator("button.yellow[data-testid=run-button]").click()

        table = page.locator(".cp-run")
        expect(table.get_by_text(f"Sampler Progress: {HOSTILE}")).to_be_visible()
        expect_to_rise(table.locator("tr:nth-child(2) td:nth-child(3)"))
        page.screenshot(path=tmp_path / "under-way.png")
        # marimo hands nothing to a kernel that is busy: the dashboard is asked
        table.get_by_role("button", name="Stop").click()
        expect(page.get_by_text(re.compile(r"drew \d+ True"))).to_be_visible()
        expect(page.get_by_text("Stopped after")).to_be_visible()

        expect(page.get_by_text("both done")).to_be_visible()
        expect(page.get_by_text("Finished after")).to_have_count(2)
        expect(page.get_by_text("had it")).to_be_visible()
        expect(page.get_by_text("cached result:")).to_be_visible()
        expect(page.locator(".cp-run")).to_have_count(0)
        page.screenshot(path=tmp_path / "ended.png")
        assert page.evaluate("window.hacked") is None

        saved = wait_for_text(page, tmp_path / "__marimo__/session/runs.py.json", "cached result:")
        assert "Stopped after" in saved
        assert "token=" not in saved
        assert "anywidget" not in saved


def notebook(*cells: str) -> str:
    """Write cells down as marimo does, each in a function."""
    bodies = (f"\n\n@app.cell\ndef _():\n{indent(cell, '    ')}\n" for cell in cells)
    return f"import marimo\n\napp = marimo.App()\n{''.join(bodies)}"
