"""The conda files beside what `pyproject.toml` states, and what Coiled is asked for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from cloudposterior.cluster.versions import PACKAGES

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / "environments"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

DEVELOPER = ["nutpie", "test", "lint", "docs", "notebooks"]
# the file, its Python, its PyMC, and the extras that are in it
FILES = {
    "pymc5": ("3.11", 5, ["nutpie"]),
    "pymc6": ("3.13", 6, ["nutpie"]),
    "pymc5-dev": ("3.11", 5, DEVELOPER),
    "pymc6-dev": ("3.13", 6, DEVELOPER),
    "coiled-worker": ("3.13", 6, ["nutpie", "s3", "coiled"]),
}

ON_CONDA_FORGE = {
    # without all that Dask and Matplotlib may bring besides
    "dask": "dask-core",
    "matplotlib": "matplotlib-base",
    "playwright": "playwright-python",
    "types-PyYAML": "types-pyyaml",
}


def stated(python: str, extras: list[str]) -> dict[str, Requirement]:
    """Give what is required on a Python, by the name on conda-forge."""
    rows = list(PROJECT["dependencies"])
    for extra in extras:
        rows += PROJECT["optional-dependencies"][extra]
    requirements = map(Requirement, rows)
    return {
        ON_CONDA_FORGE.get(one.name, one.name): one
        for one in requirements
        if one.marker is None or one.marker.evaluate({"python_version": python})
    }


def read(name: str) -> tuple[dict[str, Any], dict[str, Requirement]]:
    """Read a file; give it as it stands, and its packages by name, those of pip with them."""
    file = yaml.safe_load((ENVIRONMENTS / f"{name}.yml").read_text())
    rows: list[str] = []
    for row in file["dependencies"]:
        rows += [one for one in row["pip"] if one != "-e .."] if isinstance(row, dict) else [row]
    found = map(Requirement, (row for row in rows if not row.startswith("python=")))
    return file, {one.name: one for one in found}


def lowest(requirement: Requirement) -> str | None:
    bounds = [one.version for one in requirement.specifier if one.operator == ">="]
    return max(bounds, key=Version) if bounds else None


def test_every_file_is_compared() -> None:
    assert {path.stem for path in ENVIRONMENTS.glob("*.yml")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_environment_is_that_of_pyproject(name: str) -> None:
    python, pymc, extras = FILES[name]
    file, found = read(name)
    wanted = stated(python, extras)
    assert set(found) == {*wanted, "pip"}
    of_stack = {"pymc", "arviz"} if name != "coiled-worker" else set()
    for package, requirement in wanted.items():
        if package in of_stack:
            continue
        assert lowest(found[package]) == lowest(requirement), package
        assert set(map(str, found[package].specifier)) == set(map(str, requirement.specifier))
    if of_stack:
        assert f"{pymc}.99" in found["pymc"].specifier
        assert f"{11 - pymc}.99" not in found["pymc"].specifier
        # the bounds of the package hold for what the stack leaves of them
        for package in of_stack:
            low = max(Version(str(lowest(one[package]))) for one in (found, wanted))
            assert low in found[package].specifier and low in wanted[package].specifier
    assert f"python={python}" in file["dependencies"]


@pytest.mark.parametrize("name", FILES)
def test_environment_names_conda_forge_and_no_address(name: str) -> None:
    file, _ = read(name)
    assert file["channels"] == ["conda-forge"]
    text = (ENVIRONMENTS / f"{name}.yml").read_text()
    assert "://" not in text and "@" not in text and "==" not in text


def test_minimum_python_is_that_of_the_first_stack() -> None:
    assert PROJECT["requires-python"] == f">={FILES['pymc5'][0]}"


def script() -> Any:
    place = ENVIRONMENTS / "coiled_software.py"
    spec = importlib.util.spec_from_file_location("coiled_software", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_software_of_coiled_has_the_versions_of_the_client() -> None:
    finished = subprocess.run(
        [sys.executable, ENVIRONMENTS / "coiled_software.py", "--dry-run", "--name", "radon"],
        capture_output=True,
        text=True,
        check=True,
    )
    asked = yaml.safe_load(finished.stdout)
    assert asked["name"] == "radon"
    assert asked["conda"]["channels"] == ["conda-forge"]
    rows = asked["conda"]["dependencies"]
    assert f"python={sys.version_info.major}.{sys.version_info.minor}" in rows
    for package in PACKAGES:
        if package != "cloudposterior":
            assert f"{package}=={importlib.metadata.version(package)}" in rows
    names = {Requirement(row).name for row in rows if not row.startswith("python=")}
    assert names >= set(stated("3.13", ["coiled", "s3"]))
    # on PyPI the name is another package's
    assert asked["include_local_code"] and "pip" not in asked


def test_software_of_coiled_is_asked_for_by_the_signature_of_the_installed_package() -> None:
    coiled = pytest.importorskip("coiled")
    given = script().arguments("radon", None, rebuild=False)
    inspect.signature(coiled.create_software_environment).bind(**given)


def test_software_of_coiled_is_created_with_what_was_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import types

    module, asked = types.ModuleType("coiled"), []
    module.create_software_environment = lambda **given: asked.append(given)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "coiled", module)
    made = script()
    made.main(["--name", "radon", "--workspace", "team"])
    assert asked == [made.arguments("radon", "team", rebuild=False)]


def test_coiled_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coiled", None)
    with pytest.raises(SystemExit, match="Coiled is not installed"):
        script().main([])
