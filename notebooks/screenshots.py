"""Make the pictures of `basics` again, from a live run of its model.

``python notebooks/screenshots.py`` takes playwright, and a chromium on the path.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
from distributed import Client, LocalCluster
from playwright.sync_api import Page, sync_playwright

import cloudposterior as cp

HERE = Path(__file__).parent
IMAGES = HERE / "images"
DRAWS = 200_000
"""More than are drawn until the last picture is taken: then the run is stopped."""

FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def model_of_basics() -> Any:
    """Run the cells of the notebook as far as its model."""
    namespace: dict[str, Any] = {}
    for cell in nbformat.read(HERE / "basics.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, namespace)
        if "model" in namespace:
            break
    return namespace["model"]


def take_pictures(page: Page, dashboard: str) -> None:
    """Photograph the pages of a run that is under way."""
    page.goto(f"{dashboard}/posterior")
    # parameters are there once somebody has looked at the draws; the worst one is plotted
    page.locator("h3").get_by_text("radon_intercepts::").wait_for()
    page.wait_for_timeout(10_000)
    page.screenshot(path=IMAGES / "posterior.png", full_page=True)

    page.goto(f"{dashboard}/status")
    page.wait_for_timeout(4_000)
    page.screenshot(path=IMAGES / "tasks.png")


def main() -> None:
    """Sample, and look at it meanwhile."""
    IMAGES.mkdir(exist_ok=True)
    model = model_of_basics()
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
        ThreadPoolExecutor(1) as threads,
        sync_playwright() as playwright,
    ):
        sampling: Future[Any] = threads.submit(
            cp.sample,
            model,
            draws=DRAWS,
            tune=1000,
            chains=2,
            random_seed=1,
            nuts_sampler="pymc",
            cluster=client,
            cache=False,
        )
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(FLAGS)
        )
        page = browser.new_page(viewport={"width": 1200, "height": 760})
        page.set_default_timeout(180_000)
        take_pictures(page, client.dashboard_link.removesuffix("/status"))
        browser.close()
        for run in cp.runs():
            run.stop()
        sampling.result()


if __name__ == "__main__":
    main()
