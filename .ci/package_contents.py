"""Check what an sdist and a wheel hold: ``package_contents.py FILE...``."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "cloudposterior"
IN_SDIST = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "PKG-INFO", "pyproject.toml"}
MAY_BE_IN_SDIST = {".gitignore"}
"""Hatchling puts it there by itself."""


def names_in(path: Path) -> set[str]:
    """List the files of an sdist, without its outer folder, or of a wheel."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return set(wheel.namelist())
    with tarfile.open(path) as sdist:
        return {name.partition("/")[2] for name in sdist.getnames()}


def shipped() -> set[str]:
    """List the files of the package in this clone, less what Python leaves behind."""
    files = (path for path in PACKAGE.rglob("*") if path.is_file())
    return {
        str(path.relative_to(PACKAGE.parent)) for path in files if "__pycache__" not in path.parts
    }


def check(path: Path) -> None:
    """Exit with what is missing from a file, or should not be in it."""
    names = names_in(path)
    ours = {name for name in names if name.startswith("cloudposterior/")}
    others = names - ours
    if path.suffix == ".whl":
        wanted = {name for name in others if ".dist-info/" in name}
        licences = {name.partition("/licenses/")[2] for name in wanted if "/licenses/" in name}
        others_missing = {"LICENSE", "cloudposterior/data/LICENSE"} - licences
    else:
        wanted = IN_SDIST | MAY_BE_IN_SDIST
        others_missing = IN_SDIST - others
    missing = (shipped() - ours) | others_missing
    unasked = (ours - shipped()) | (others - wanted)
    if missing or unasked:
        sys.exit(f"{path.name}: lacks {sorted(missing)}, and should not have {sorted(unasked)}")
    print(f"{path.name}: {len(ours)} files of the package")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        check(Path(argument))
