"""Check that what is installed is the lowest that pyproject.toml states, and not just near it."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version


def main(extras: list[str]) -> int:
    """Print each package that is not of its stated version; return how many there are."""
    file = Path(__file__).parent.parent / "pyproject.toml"
    project = tomllib.loads(file.read_text())["project"]
    stated = list(project["dependencies"])
    for extra in extras:
        stated += project["optional-dependencies"][extra]
    wrong = 0
    for requirement in map(Requirement, stated):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        (lowest,) = (one.version for one in requirement.specifier if one.operator == ">=")
        installed = Version(importlib.metadata.version(requirement.name))
        # 2025.1 is stated, and 2025.1.0 its first release
        if not (Version(lowest) <= installed and str(installed).startswith(lowest)):
            wrong += 1
            print(f"{requirement.name} {installed} is installed, {lowest} is stated")
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
