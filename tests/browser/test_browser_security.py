"""What strangers send to a scheduler, in a browser: nothing of it runs, and it is seen as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from distributed import Client
from playwright.sync_api import Page, expect

from cloudposterior.cluster.share import Shared
from cloudposterior.events import (
    TOPIC,
    ChainReport,
    Diagnosis,
    Event,
    Phase,
    RunStarted,
    literal,
    to_message,
)
from cloudposterior.progress import notebook
from cloudposterior.progress.notebook import _as_plain
from cloudposterior.progress.table import RunTable
from tests.browser.conftest import HOSTILE, HOSTILE_COORDINATE

pytestmark = pytest.mark.once

ATTRIBUTE = '"\' onmouseover=window.hacked=4 autofocus onfocus=window.hacked=5 x="'
TEMPLATE = "<%= window.hacked=6 %> ${window.hacked=7} {{window.hacked=8}} $$\\href{x}{y}$$"
CONTROL = "\x1b[31m\u202eeman\x00"
ALL = f"{HOSTILE} {HOSTILE_COORDINATE} {ATTRIBUTE} {TEMPLATE} {CONTROL}"
SEEN = literal(ALL)


def diagnosis(names: tuple[str, ...]) -> Diagnosis:
    one = (1.0,) * len(names)
    return Diagnosis((0, 1), 9, len(names), names, one, one, one, one, one)


def tell(client: Client, run: str, event: Event, **changes: Any) -> None:
    """Tell a scheduler's board as a client does, with anything."""
    message = {**to_message(run, event), **changes}
    client.sync(client.scheduler.cloudposterior_tell, message=message, who="")


def expect_nothing_ran(page: Page) -> None:
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x], [onmouseover], [onfocus]").count() == 0


def test_page_shows_what_strangers_send_as_text(
    client: Client, open_page: Callable[..., Page]
) -> None:
    # it brings the page
    link = Shared(client, "own", "own", 2).link
    tell(client, "strange", RunStarted(ALL, 2, f"owner {ALL}"))
    tell(client, "strange", Phase("sampling", detail=f"detail {ALL}"))
    tell(client, "strange", Phase(f"phase {ALL}", 0, f"worker {ALL}"))
    tell(client, "strange", ChainReport(1, f"other {ALL}", 30, 10, 40, 3, 0.5, 7.0, 1.0))
    tell(client, "strange", diagnosis((f"name {ALL}", "plain")))
    # where there is no text to be: that is no event
    for name in ("draws", "parameters", "traced", "points", "chains", "r_hat", "ess_bulk", "trace"):
        tell(client, "strange", diagnosis(("worse",)), **{name: ALL})
        tell(client, "strange", diagnosis(("worse",)), **{name: (ALL,)})
    for name in ("drawn", "divergences", "step_size", "gradients", "elapsed_s"):
        tell(client, "strange", ChainReport(0, "w", 30, 10, 40), **{name: ALL})

    page = open_page(link.replace("run=own", "run=strange"))
    expect(page.locator("h2")).to_have_text(SEEN)
    for text in (f"owner {SEEN}", f"detail {SEEN}"):
        expect(page.get_by_text(text)).to_be_visible()
    chains, parameters = page.locator(".bk-DataTable").all()
    for text in (f"phase {SEEN}", f"worker {SEEN}", f"other {SEEN}"):
        expect(chains.get_by_text(text, exact=True)).to_be_attached()
    cell = parameters.get_by_text(f"name {SEEN}", exact=True)
    expect(cell).to_be_attached()
    expect(parameters.get_by_text("worse")).to_have_count(0)
    expect(page.locator("h3")).to_contain_text(f"name {SEEN}")
    (chosen,) = page.locator("select option:checked").all_inner_texts()
    assert HOSTILE in chosen
    # with the mouse over all of it, and one chosen
    for shown in (page.locator("h2"), chains, parameters, page.locator("h3")):
        shown.hover()
    parameters.get_by_text("plain").click()
    expect(page.locator("h3")).to_contain_text("plain")
    expect_nothing_ran(page)


@pytest.mark.parametrize("argument", ["run", "token"])
def test_address_of_the_page_is_text(
    client: Client, open_page: Callable[..., Page], argument: str
) -> None:
    link = urlsplit(Shared(client, "own", "own", 2).link)
    page = open_page(f"{link.scheme}://{link.netloc}{link.path}?{argument}={quote(ALL)}")
    expect(page.locator("h2")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    expect_nothing_ran(page)


def test_page_stops_a_run_for_its_own_token_only_and_when_asked_only(
    client: Client, open_page: Callable[..., Page]
) -> None:
    shared, other = Shared(client, "own", "own", 2), Shared(client, "other", "other", 2)
    (token,), (others,) = (
        parse_qs(urlsplit(link).query)["token"] for link in (shared.link, other.link)
    )
    asked: list[Any] = []
    client.subscribe_topic(TOPIC, asked.append)
    for wrong in ("", others, shared.stop_digest, token[:-1]):
        page = open_page(shared.link.replace(token, wrong))
        expect(page.locator("h2")).to_have_text("own")
        expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    page = open_page(shared.link)
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_be_enabled()
    page.reload()
    expect(stop).to_be_enabled()
    # of another run that it lists, it stops none
    listed = page.locator("select option").all_inner_texts()
    own_label, other_label = (
        next(of for of in listed if f" {title}, " in of) for title in ("own", "other")
    )
    page.locator("select").select_option(label=other_label)
    expect(page.locator("h2")).to_have_text("other")
    expect(stop).to_be_disabled()
    assert asked == []
    page.locator("select").select_option(label=own_label)
    expect(stop).to_be_enabled()
    stop.click()
    expect(page.get_by_role("button", name="Stopping...")).to_be_visible()
    client.unsubscribe_topic(TOPIC)
    assert [of[1]["stop_digest"] for of in client.get_events(TOPIC) if "stop_digest" in of[1]] == [
        shared.stop_digest
    ]


RENDER = """async ([source, values]) => {
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const widget = (await import(address)).default;
  const model = { get: (name) => values[name], on() {}, off() {}, send() {} };
  widget.render({ model, el: document.body });
}"""


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("http://127.0.0.1:1/posterior?run=a&token=b", True),
        ("/user/me/proxy/8787/posterior", True),
        (f'http://127.0.0.1:1/"><script>window.hacked=9</script>{ATTRIBUTE}', True),
        ("javascript:window.hacked=10", False),
        (" javascript:window.hacked=10", False),
        ("data:text/html,<script>window.hacked=11</script>", False),
        ("", False),
    ],
)
def test_table_of_a_notebook_shows_what_strangers_send_as_text(
    open_page: Callable[..., Page], link: str, shown: bool
) -> None:
    run = RunTable("run", f"title {ALL}", 2)
    run.update(Phase("sampling", detail=f"detail {ALL}"))
    run.update(Phase("compiling", 0, f"worker {ALL}"))
    run.update(ChainReport(1, f"other {ALL}", 20, 10, 40, 3, 0.5, 7.0, 1.0))
    run.update(diagnosis((ALL,)))
    source = (Path(notebook.__file__).parent / "notebook.js").read_text(encoding="utf-8")
    page = open_page()
    values = {"table": _as_plain(run.snapshot()), "link": link, "blocking": True}
    page.evaluate(RENDER, [source, values])
    expect(page.locator("b")).to_have_text(f"title {SEEN}")
    for text in (f"detail {SEEN}", f"worker {SEEN}", f"other {SEEN}"):
        expect(page.get_by_text(text).first).to_be_visible()
    expect(page.get_by_text("Dask dashboard")).to_be_visible(visible=shown)
    page.locator(".cp-run").hover()
    expect_nothing_ran(page)
