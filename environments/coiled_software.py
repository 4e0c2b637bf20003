"""Create the software environment of Coiled's workers, with the versions that this client has.

Run it in the environment that the client runs in, after ``coiled login``:

    python environments/coiled_software.py --dry-run
    python environments/coiled_software.py --name radon
    cp.coiled_cluster(options, software="radon")

`coiled-worker.yml` says which packages there are. What cloudposterior compares between client and
workers, and what they talk to each other with, gets the version that is installed here.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cloudposterior.cluster.versions import PACKAGES, minor_of

FILE = Path(__file__).with_name("coiled-worker.yml")
OURS = "cloudposterior"
SAME = {**{name: name for name in PACKAGES if name != OURS}, "distributed": "distributed"}
"""By the name on conda-forge, the name that `importlib.metadata` knows."""
SAME |= {"dask-core": "dask", "cloudpickle": "cloudpickle", "nutpie": "nutpie"}


def name_of(row: str) -> str:
    """Take the version off."""
    return re.split("[=<>]", row)[0]


def conda_of(file: Path) -> dict[str, Any]:
    """Read the file, with the versions of this process.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        If one that must be the same is not installed here; nutpie alone is left out then.
    """
    stated = yaml.safe_load(file.read_text())
    packages = {name_of(row): row for row in [*stated["dependencies"], *SAME]}
    packages["python"] = f"python={minor_of(platform.python_version())}"
    for name, here in SAME.items():
        try:
            packages[name] = f"{name}=={importlib.metadata.version(here)}"
        except importlib.metadata.PackageNotFoundError:
            if name != "nutpie":
                raise
            del packages[name]
    dependencies = sorted(packages.values())
    return {"channels": stated["channels"], "dependencies": dependencies}


def ours() -> dict[str, Any]:
    """Say how workers get cloudposterior: as it lies in the clone that it is installed from.

    Its name on PyPI is another package's.
    """
    distribution = importlib.metadata.distribution(OURS)
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        sys.exit(
            f"{OURS} is not installed from a clone, of which workers get a copy: pip install -e ."
        )
    return {"include_local_code": True}


def arguments(name: str, workspace: str | None, *, rebuild: bool) -> dict[str, Any]:
    """Give the arguments of `coiled.create_software_environment`."""
    return {
        "name": name,
        "workspace": workspace,
        "conda": conda_of(FILE),
        "force_rebuild": rebuild,
        **ours(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Create the environment, or print what would be created."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    default = f"{OURS}-pymc-{importlib.metadata.version('pymc').replace('.', '-')}"
    parser.add_argument("--name", default=default, help="default: %(default)s")
    parser.add_argument("--workspace", help="of Coiled; default: yours")
    parser.add_argument("--rebuild", action="store_true", help="even if nothing has changed")
    parser.add_argument("--dry-run", action="store_true", help="print it, and ask nobody")
    asked = parser.parse_args(argv)
    given = arguments(asked.name, asked.workspace, rebuild=asked.rebuild)
    if asked.dry_run:
        yaml.safe_dump(given, sys.stdout, sort_keys=False)
        return
    try:
        import coiled
    except ImportError:
        sys.exit("Coiled is not installed: pip install coiled, then coiled login")
    coiled.create_software_environment(**given)


if __name__ == "__main__":
    main()
