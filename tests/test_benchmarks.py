"""The benchmarks run, and their table and plots come out; no figure is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ABOUT = {"date": "", "cpus": 1, "system": "", "load": 0.0, "python": "", "packages": {}}


@pytest.mark.slow
def test_benchmarks_make_table_and_plots_and_leave_what_was_not_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    results = tmp_path / "benchmarks" / "results.json"
    results.parent.mkdir()
    results.write_text(json.dumps({"hit_time": {"about": ABOUT}}))
    words = ["--quick", "--to", tmp_path, "--only", "scheduler_time", "token_time"]
    command = [sys.executable, BENCHMARKS / "run.py", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr

    found = json.loads(results.read_text())
    assert set(found) == {"hit_time", "token_time", "scheduler_time"}
    page = (tmp_path / "docs" / "benchmarks_table.md").read_text()
    assert page.index("| token, radon |") < page.index("## Hits") < page.index("| 4 workers, ")
    for plot in ("benchmarks.svg", "growth.svg"):
        assert "<svg" in (tmp_path / "docs" / "_static" / plot).read_text()


def test_benchmarks_are_all_in_the_command() -> None:
    sources = {path.stem: path.read_text() for path in BENCHMARKS.glob("*.py")}
    for name, source in sources.items():
        if "run_script(__doc__" in source:
            assert f'    "{name}": ' in sources["report"], name
