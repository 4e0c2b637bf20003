"""What is written in pages: code runs, or at least compiles; links lead somewhere."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import cloudposterior as cp

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FRONT = sorted({*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/README.md"), *ROOT.glob(".github/*.md")})
"""Pages that Sphinx, which looks at all links of the others, does not read."""

NOT_RUN = "<!-- shown, not run -->"
RUN = [
    "getting_started.md",
    "how_to/around_sampling.md",
    "how_to/clusters.md",
    "how_to/debug_worker.md",
    "how_to/many_fits.md",
    "how_to/notifications.md",
    "how_to/stop_and_resume.md",
    "how_to/submit.md",
    "how_to/team_cache.md",
    "how_to/why_miss.md",
]
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A block of Python in a page."""

    text: str
    line: int
    runs: bool

    def compiled(self, page: Path) -> Any:
        """Give its code, whose line numbers are those of the page."""
        return compile("\n" * self.line + self.text, str(page), "exec")


def blocks_of(page: Path) -> Iterator[Block]:
    """Give the blocks of Python of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        if found[1] == "python" and not found[2].startswith(">>>"):
            before = text[: found.start()].rstrip()
            yield Block(found[2], text[: found.start(2)].count("\n"), not before.endswith(NOT_RUN))


def anchors_of(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub makes them."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*FRONT, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_docs_have_code_that_compiles(page: Path) -> None:
    for block in blocks_of(page):
        block.compiled(page)


@pytest.mark.parametrize("name", RUN)
def test_docs_have_code_that_runs(name: str, names: dict[str, Any]) -> None:
    page = ROOT / "docs" / name
    blocks = [block for block in blocks_of(page) if block.runs]
    assert blocks
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*chains.*", category=UserWarning)
        for block in blocks:
            exec(block.compiled(page), names)


@pytest.mark.parametrize("page", FRONT, ids=lambda page: str(page.relative_to(ROOT)))
def test_docs_have_links_that_lead_somewhere(page: Path) -> None:
    targets = [urlsplit(target) for target in _LINK.findall(_FENCE.sub("", page.read_text()))]
    inner = [target for target in targets if not target.scheme]
    for target in inner:
        there = page.parent / target.path if target.path else page
        assert there.exists(), target.geturl()
        assert not target.fragment or target.fragment in anchors_of(there), target.geturl()
    assert inner or page != ROOT / "README.md"


def test_docs_have_each_public_name_in_the_reference() -> None:
    listed = re.findall(r"^   (\w+)$", (ROOT / "docs" / "reference" / "api.md").read_text(), re.M)
    assert sorted(listed) == sorted(cp.__all__)


def test_docs_name_each_module_in_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    # before the first section are the layers, and then there is a section for each folder
    layers, *sections = re.split(r"^## ", page, flags=re.M)
    package = Path(cp.__file__).parent
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert _named(layers) == _modules_of(package) | {f"{folder}/" for folder in folders}
    named = {text.partition("\n")[0]: _named(text) for text in sections}
    for folder in folders:
        assert named[folder] == _modules_of(package / folder), folder


def _named(text: str) -> set[str]:
    """Give the modules and the folders that are named without a path."""
    return set(re.findall(r"`(\w+(?:\.py|/))`", text))


def _modules_of(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.py")} - {"__init__.py"}
