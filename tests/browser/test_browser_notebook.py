"""The table in JupyterLab, as who runs the cells sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

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

TOKEN = "loopback"


def test_jupyterlab_shows_a_table_in_place_stops_the_run_and_saves_html(
    open_page: Callable[..., Page], tmp_path: Path, port: int
) -> None:
    file = tmp_path / "notebooks" / "runs.ipynb"
    file.parent.mkdir()
    sources = (SETTING_UP, SAMPLING, TWO_RUNS, REPEATED)
    written = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(of) for of in sources])
    written.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python",
        "language": "python",
    }
    nbformat.write(written, file)
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "ServerApp.root_dir": file.parent,
        "IdentityProvider.token": TOKEN,
    }
    settings = tmp_path / "home/settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    silent = {"checkForUpdates": False, "fetchNews": "false"}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(silent))
    given = [f"--{name}={value}" for name, value in options.items()]
    with serving(tmp_path, port, "jupyterlab", *given):
        lab = open_page(f"http://127.0.0.1:{port}/lab/tree/{file.name}?token={TOKEN}", height=1600)
        cells = lab.locator(".jp-Notebook .jp-CodeCell")
        expect(cells).to_have_count(len(sources))
        expect(lab.get_by_text("| Idle")).to_be_visible()
        run_cell(cells.nth(0), "ready to sample")

        sampling = cells.nth(1)
        run_cell(sampling)
        table = sampling.locator(".cp-run")
        expect(table.get_by_text(f"Sampler Progress: {HOSTILE}")).to_be_visible()
        expect_to_rise(table.locator("tr:nth-child(2) td:nth-child(3)"))
        assert color_of(table) == color_of_theme(lab, "ui")
        lab.screenshot(path=tmp_path / "under-way.png")
        table.get_by_role("button", name="Stop").click()
        expect_printed(sampling, re.compile(r"drew \d+ True"))
        expect(sampling.get_by_text(re.compile("Stopped after"))).to_be_visible()
        expect(sampling.locator(".cp-stop")).to_have_count(0)

        run_cell(cells.nth(2), "both done")
        expect(cells.nth(2).get_by_text(re.compile("Finished after"))).to_have_count(2)
        expect(cells.nth(2).locator(".cp-run")).to_have_count(0)
        run_cell(cells.nth(3), "had it")
        expect(cells.nth(3).get_by_text("cached result:")).to_be_visible()

        lab.keyboard.press("Escape")
        lab.keyboard.press("Control+s")
        lab.wait_for_function("!document.title.startsWith('*')")
        saved_text = wait_for_text(lab, file, "cached result:")
        lab.screenshot(path=tmp_path / "ended.png")
        assert lab.evaluate("window.hacked") is None
        check_saved(saved_text)

        # the saved state, in the other theme
        (settings / "themes.jupyterlab-settings").write_text('{"theme": "JupyterLab Dark"}')
        light = color_of_theme(lab, "content")
        lab.reload()
        saved = cells.nth(1).get_by_text(re.compile("Stopped after"))
        expect(saved).to_be_visible()
        lab.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
        assert color_of(saved) == color_of_theme(lab, "content") != light
        lab.screenshot(path=tmp_path / "dark.png")
        assert lab.evaluate("window.hacked") is None


def run_cell(cell: Locator, printed: str = "") -> None:
    cell.locator(".cm-content").click()
    cell.page.keyboard.press("Control+Enter")
    if printed:
        expect_printed(cell, printed)


def expect_printed(cell: Locator, text: Any) -> None:
    expect(cell.locator(".jp-OutputArea-output").filter(has_text=text).first).to_be_visible()


def color_of(shown: Locator) -> str:
    return str(shown.evaluate("node => getComputedStyle(node).color"))


def color_of_theme(page: Page, kind: str) -> str:
    read = """kind => {
      const node = document.body.appendChild(document.createElement("i"));
      node.style.color = `var(--jp-${kind}-font-color1)`;
      const color = getComputedStyle(node).color;
      node.remove();
      return color;
    }"""
    return str(page.evaluate(read, kind))


def check_saved(text: str) -> None:
    assert "token=" not in text
    assert "cp-stop" not in text
    assert "widget-view" not in text
    cells = json.loads(text)["cells"]
    shown = [[of["data"] for of in cell["outputs"] if "data" in of] for cell in cells]
    assert [len(of) for of in shown] == [0, 1, 2, 1]
    for data in (data for of in shown for data in of):
        assert data.keys() == {"text/html", "text/plain"}
        assert "<script" not in "".join(data["text/html"])
    assert "Stopped after" in "".join(shown[1][0]["text/html"])
    assert "Stopped after" in "".join(shown[1][0]["text/plain"])
    assert "cached result" in "".join(shown[3][0]["text/plain"])
