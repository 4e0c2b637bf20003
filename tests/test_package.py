"""What is shipped beside the code: types, licences, and words on where it comes from."""

from __future__ import annotations

import importlib.resources
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import cloudposterior as cp

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# others' packages are taken for untyped: reading NumPy's types takes half a minute
SETTINGS = """
[mypy]
strict = true
[mypy-anywidget.*,bokeh.*,dask.*,distributed.*,fsspec.*,IPython.*,numpy.*,pandas.*,pytensor.*]
follow_imports = skip
[mypy-rich.*,scipy.*,sklearn.*,traitlets.*,xarray.*]
follow_imports = skip
"""


def checked(directory: Path, program: str) -> list[str]:
    """Give what mypy says of a user's program, with the package as it is installed."""
    pytest.importorskip("mypy")
    (directory / "mypy.ini").write_text(SETTINGS)
    (directory / "user.py").write_text(program)
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "user.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stderr == ""
    return finished.stdout.splitlines()


@pytest.mark.slow
def test_public_names_have_types_for_those_who_check_theirs(tmp_path: Path) -> None:
    assert importlib.resources.files("cloudposterior").joinpath("py.typed").is_file()
    shown = "".join(f"reveal_type(cp.{name})\n" for name in cp.__all__)
    program = f'import cloudposterior as cp\n{shown}cp.cloud(None, cach="disk")\n'
    *said, wrong, _, _ = checked(tmp_path, program)
    types = dict(zip(cp.__all__, said, strict=True))
    assert all('Revealed type is "def (' in line for line in types.values()), types
    assert "-> cloudposterior.api.cloud" in types["cloud"]
    assert "cloudposterior.cluster.submitted.SubmittedRun" in types["submit"]
    assert 'Unexpected keyword argument "cach" for "cloud"' in wrong


def test_licence_is_that_of_the_file() -> None:
    assert PROJECT["license"] == "BSD-3-Clause"
    first, _, holder, *_ = (ROOT / "LICENSE").read_text().splitlines()
    assert first == "BSD 3-Clause License"
    assert holder == "Copyright (c) 2026, the cloudposterior developers"
    assert all((ROOT / file).is_file() for file in PROJECT["license-files"])


def test_citation_is_of_this_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    for key, value in (("title", "name"), ("version", "version"), ("license", "license")):
        assert citation[key] == PROJECT[value]


def test_extras_that_share_a_package_state_it_alike() -> None:
    extras = PROJECT["optional-dependencies"]
    assert set(extras) >= {"nutpie", "jax", "coiled", "notify", "s3", "validation", "test", "lint"}
    seen: dict[str, str] = {}
    for row in [row for rows in extras.values() for row in rows]:
        assert seen.setdefault(Requirement(row).name, row) == row


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda p: p.name)
def test_forms_and_workflows_can_be_read(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_workflow_runs_what_ci_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert "bash .ci/run" in [step.get("run") for step in steps]
