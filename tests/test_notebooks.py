"""The committed notebooks: they have outputs, of no error and of no one machine."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NAMES = ("basics", "caching", "cluster", "monitoring", "parallelism", "recovery")
MARIMO = NOTEBOOKS / "caching_marimo.py"

SECTIONS = [
    "Two caching modes",
    "Start fresh",
    "Setup with the radon model",
    "Local caching: no cluster needed",
    "Disk caching",
    "Forcing a re-run with `overwrite`",
    "Cache layout",
    "Model iteration: `radon_slopes`",
    "`az.summary` of `radon_slopes`",
]


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    """The script that runs them."""
    spec = importlib.util.spec_from_file_location("notebooks_run", NOTEBOOKS / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notebooks_are_those_that_are_tested() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_was_run_from_top_to_bottom_without_an_error(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert len(outputs) >= len(cells) / 2
    assert not [of for of in outputs if of.output_type == "error"]


@pytest.mark.parametrize("name", NAMES)
def test_notebook_holds_nothing_that_the_runner_complains_of(name: str, runner: ModuleType) -> None:
    notebook = read(name)
    assert runner.complaints(notebook) == []
    assert not [cell.source for cell in notebook.cells if runner.MACHINE_PATH.search(cell.source)]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_need_no_kernel_and_hold_no_secret(name: str) -> None:
    text = (NOTEBOOKS / f"{name}.ipynb").read_text()
    assert "widget-view" not in text
    assert "token=" not in text
    assert "widgets" not in read(name).metadata


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_there_and_small(name: str) -> None:
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", prose(read(name))):
        file = NOTEBOOKS / picture
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size < 300_000


def test_notebooks_are_small_and_leave_no_cache() -> None:
    assert sum(path.stat().st_size for path in NOTEBOOKS.rglob("*.*") if path.is_file()) < 3_000_000
    assert not (NOTEBOOKS / ".cloudposterior").exists()


def test_caching_has_its_sections_in_order() -> None:
    assert re.findall(r"^## (.*)$", prose(read("caching")), re.MULTILINE) == SECTIONS


def test_caching_lists_the_tree_of_the_cache() -> None:
    shown = [
        output.text
        for cell in code_cells(read("caching"))
        for output in cell.outputs
        if output.output_type == "stream" and ".cloudposterior/\n" in output.text
    ]
    assert re.search(r"radon_intercepts/\n\s+draws\w+-[0-9a-f]{8}\.nc", shown[0])
    assert "radon_slopes/" not in shown[0]
    assert re.search(r"radon_slopes/\n\s+draws\w+-[0-9a-f]{8}\.nc", shown[-1])


def test_caching_for_marimo_has_the_same_sections() -> None:
    assert re.findall(r"^ *## (.*)$", MARIMO.read_text(), re.MULTILINE) == SECTIONS


def test_caching_for_marimo_is_a_notebook() -> None:
    checked = [sys.executable, "-m", "marimo", "check", "--strict", str(MARIMO)]
    subprocess.run(checked, check=True, capture_output=True, timeout=60)
    tree = ast.parse(MARIMO.read_text())
    cells = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(cells) > len(SECTIONS)


def test_code_that_is_only_shown_is_python() -> None:
    shown = {name: fenced(prose(read(name)), "python") for name in NAMES}
    for name, blocks in shown.items():
        for block in blocks:
            compile(block, name, "exec")
    text = "\n".join(shown["cluster"])
    for kind in ("SLURMCluster(", "KubeCluster(", "coiled_cluster("):
        assert kind in text


def test_recovery_shows_that_a_killed_worker_changes_no_draw() -> None:
    printed = "".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for cell in code_cells(read("recovery"))
        for output in cell.outputs
    )
    assert re.search(r"worker killed after \d+ of \d+ draws", printed)
    assert printed.count("{'posterior': True, 'sample_stats': True}") == 2


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("stdout", "kept in /tmp/x/radon.nc", True),
        ("stderr", "/opt/v/lib/python3.13/site-packages/arviz/__init__.py:39: FutureWarning", True),
        ("stderr", "CacheWarning: sampling was interrupted", True),
        ("stdout", "CacheWarning: sampling was interrupted", False),
        ("stderr", "cloudposterior: could not be saved", True),
        ("stdout", "kept in .cloudposterior/radon/draws500.nc", False),
        ("stderr", "Sampling 4 chains on tcp://127.0.0.1:8786", False),
        ("stderr", "see https://example.org/home/tmp", False),
        ("stdout", "\x1b[1mmodel\x1b[0m", True),
    ],
)
def test_runner_complains_of_paths_warnings_of_ours_and_styles_of_a_terminal(
    runner: ModuleType, kind: str, text: str, found: bool
) -> None:
    cell = nbformat.v4.new_code_cell()
    cell.outputs = [nbformat.v4.new_output("stream", name=kind, text=text)]
    assert bool(runner.complaints(nbformat.v4.new_notebook(cells=[cell]))) is found
