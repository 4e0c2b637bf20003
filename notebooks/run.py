"""Run the notebooks from top to bottom, and keep what they put out.

``python notebooks/run.py --out DIR`` leaves executed copies in a directory; ``--write`` updates
those that are committed. Each is run in a directory of its own, so that no cache is left here. An
error in a cell, a warning of cloudposterior, or a path of this machine or a style of a terminal in
an output is a failure.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).parent
SECONDS = 300
"""How long a cell may take."""

MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(?:root|home|tmp|work|Users|usr|opt|var|private)\b|site-packages"
)
OURS = re.compile(
    r"\b(?:cloudposterior: |(?:Cache|Callback|Cluster|Display|Token)Warning: )"
    r"|/cloudposterior/\S+\.py:\d+"
)
"""What a warning of this package looks like on stderr."""

_QUIET = {
    # ArviZ 0.x says at its import that it will be another; PyMC, that a first step overflows
    "PYTHONWARNINGS": "ignore::FutureWarning:arviz,"
    "ignore::RuntimeWarning:pymc.step_methods.hmc.quadpotential",
    # Dask, that a worker takes more than four seconds to end, as it does on a busy machine
    "DASK_LOGGING": "{'distributed.nanny': 'error'}",
    # and cloudposterior, that a scheduler has no page of it, which takes that long to load it
    "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": "['cloudposterior.progress.page']",
}
"""What others say on some machines, and not on all."""


def executed(path: Path) -> nbformat.NotebookNode:
    """Run a notebook, and give it with what it puts out.

    Parameters
    ----------
    path : pathlib.Path
        The notebook; the file stays as it is.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": directory}},
        ).execute(env=_environment())
    return _tidied(notebook)


def _environment() -> dict[str, str]:
    # `!cloudposterior` is that of this Python
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, **_QUIET}


def _tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what changes from run to run, and what only a live kernel can show."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        cell.metadata.pop("ExecuteTime", None)
        if cell.cell_type == "code":
            cell.outputs = _joined(filter(_is_shown, cell.outputs))
    return notebook


def _is_shown(output: nbformat.NotebookNode) -> bool:
    """Tell whether there is anything to see without a kernel."""
    data = output.get("data")
    if data is None:
        return True
    output.pop("transient", None)
    data.pop("application/vnd.jupyter.widget-view+json", None)
    # rich's bars leave a widget in the place of a bar, and an empty line at its end
    text = data.get("text/plain", "").strip()
    return bool(text.strip()) and text != "Output()"


def _joined(outputs: Iterable[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Put what was written into one stream in a row into one output."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def texts(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    """Give all text that a notebook has put out, each with the stream or the type it is of."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                yield output.name, output.text
            for kind, value in output.get("data", {}).items():
                if not kind.startswith("image/png"):
                    yield kind, value if isinstance(value, str) else str(value)


def complaints(notebook: nbformat.NotebookNode) -> list[str]:
    """Say what is in the outputs of a notebook and has no place there."""
    found = []
    for kind, text in texts(notebook):
        for line in text.splitlines():
            if MACHINE_PATH.search(line):
                found.append(f"a path of this machine: {line:.200}")
            elif "\x1b" in line:
                found.append(f"a style of a terminal: {line!r:.200}")
            elif kind == "stderr" and OURS.search(line):
                found.append(f"a warning: {line:.200}")
    return found


def main() -> int:
    """Run the command line; give the number of notebooks that failed."""
    parser = argparse.ArgumentParser(description="Run the notebooks from top to bottom.")
    parser.add_argument("names", nargs="*", help="which ones, without .ipynb (default: all)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--write", action="store_true", help="update the committed ones")
    where.add_argument("--out", type=Path, metavar="DIR", help="leave executed copies here")
    options = parser.parse_args()
    paths = [HERE / f"{name}.ipynb" for name in options.names] or sorted(HERE.glob("*.ipynb"))
    out = HERE if options.write else options.out
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in paths:
        began = time.perf_counter()
        try:
            notebook = executed(path)
            wrong = complaints(notebook)
        except CellExecutionError as error:
            wrong = [str(error)]
        else:
            if not (wrong and options.write):
                nbformat.write(notebook, out / path.name)
        failed += bool(wrong)
        print(
            f"{path.stem:12} {time.perf_counter() - began:6.1f} s", *wrong, sep="\n  ", flush=True
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
