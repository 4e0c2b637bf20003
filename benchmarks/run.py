"""Run the benchmarks, and make the table and the plots in the docs of what they give.

python benchmarks/run.py --peers                # all in full: more than an hour, best alone
python benchmarks/run.py --only hit_time        # one again; the rest of the table stays
python benchmarks/run.py --quick                # see that all run; nothing in the docs changes
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import report

HERE = Path(__file__).parent
PACKAGES = ("pymc", "pytensor", "arviz", "numba", "dask", "distributed", "xarray", "joblib")


def about_here() -> dict[str, Any]:
    """Say what the figures depend on, and nothing of whose machine this is."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "packages": {name: version(name) for name in PACKAGES},
    }


def run_one(name: str, more: list[str], compiled: str | None) -> dict[str, Any]:
    """Run a benchmark in a process of its own; give nothing if it fails.

    Parameters
    ----------
    name : str
        Of the benchmark.
    more : list of str
        Its options.
    compiled : str or None
        A directory for what PyTensor compiles; None is an empty one.
    """
    about, began = about_here(), time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "found.json"
        flags = f"base_compiledir={compiled or directory}"
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", HERE / f"{name}.py", "--json", file, *more],
            env={**os.environ, "PYTENSOR_FLAGS": flags},
            check=False,
        )
        if ended.returncode:
            return {}
        return {
            "about": {**about, "took_s": round(time.monotonic() - began)},
            **json.loads(file.read_text()),
        }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only see that all run")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=report.TITLES)
    parser.add_argument(
        "--peers",
        action="store_true",
        help="install cloudposterior 0.7 of PyPI, in an environment of its own, and measure it too",
    )
    parser.add_argument(
        "--to",
        type=Path,
        help="where benchmarks/results.json and docs/ are written; "
        "the repository, or build/ in it for --quick",
    )
    return parser.parse_args()


def run_all(asked: argparse.Namespace, to: Path, compiled: str | None) -> list[str]:
    """Run what is asked for, and write what came of it after each; give the names of failures."""
    file = to / "benchmarks" / "results.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(file.read_text()) if file.exists() else {}
    failed = []
    for name in asked.only or report.TITLES:
        print(f"\n== {name}", flush=True)
        words = ["--quick"] * asked.quick + ["--peers", "yes"] * (asked.peers and name == "peers")
        found = run_one(name, words, compiled)
        if not found:
            failed.append(name)
            continue
        results[name] = found
        file.write_text(json.dumps(results, indent=1) + "\n")
        report.write(results, to / "docs")
    return failed


def main() -> None:
    asked = parse()
    with tempfile.TemporaryDirectory() as compiled:
        if asked.quick:
            failed = run_all(asked, asked.to or HERE.parent / "build", compiled)
        else:
            failed = run_all(asked, asked.to or HERE.parent, None)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
