"""Draw `progress.gif`, the table of a run as a terminal shows it, from a real run.

    python docs/pictures/progress.py

Needs chromium, and the packages of the extra `test`.
"""

from __future__ import annotations

import io
import shutil
import threading
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console

import cloudposterior as cp
from cloudposterior.demo import radon_model
from cloudposterior.progress.table import Table
from cloudposterior.progress.terminal import rendered

HERE = Path(__file__).parent
WIDTH = 118
LINES = 9
EVERY_S = 0.5
FRAME_MS = 250
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def tables_of_a_run() -> list[Table]:
    """Sample the radon model, and look at its table now and then."""
    tables: list[Table] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(EVERY_S):
            tables.extend(run.status() for run in cp.runs())

    options = {"chains": 4, "cluster": "local", "cache": False, "nuts_sampler": "pymc"}
    # workers that have compiled the model
    cp.sample(radon_model(), draws=10, tune=10, **options)
    thread = threading.Thread(target=look)
    thread.start()
    try:
        cp.sample(radon_model(), draws=3000, random_seed=1, **options)
    finally:
        ended.set()
        thread.join()
    return [table for table in tables if any(row.drawn for row in table.rows)]


def svg_of(table: Table) -> str:
    """Give a table as rich draws it, all of one height."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(rendered(table))
    lines = sum(len(list(console.render_lines(part))) for part in rendered(table).renderables)
    console.print("\n" * (LINES - lines))
    return console.export_svg(title="with cp.cloud(model, cluster='local'): pm.sample()")


def main() -> None:
    """Write the picture."""
    tables = tables_of_a_run()
    frames = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )
        page = browser.new_page(viewport={"width": 1100, "height": 400})
        for table in tables:
            page.set_content(f"<body style='margin:0'>{svg_of(table)}</body>")
            shot = page.locator("svg").first.screenshot()
            frames.append(Image.open(io.BytesIO(shot)).convert("P", palette=Image.Palette.ADAPTIVE))
        browser.close()
    first, *others = frames
    first.save(
        HERE / "progress.gif",
        save_all=True,
        append_images=others,
        duration=[*[FRAME_MS] * len(others), 3000],
        loop=0,
        optimize=True,
    )
    print(f"{len(frames)} frames, {(HERE / 'progress.gif').stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
