"""What others keep of `pymc.sample`: plain PyMC (nothing), joblib, and the namesake on PyPI.

Each runs in processes of its own: one that samples and asks again in several ways, and others, as
after a restart of the kernel, where what a tool imports by itself counts. `joblib.Memory` is put
around `pm.sample`, with the model as an argument; and around a function of the data alone that
builds the model, where the functions and numbers of the model are globals, as in notebooks. The
package ``cloudposterior`` 0.7 from PyPI has its cache asked, on this machine, with h5netcdf beside
it, without which it keeps nothing. Times are those to build the model and to have its posterior.

``--peers yes`` makes a virtual environment for the latter, beside temporary files, and keeps it
there for the next time; without it, its column stays empty.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymc as pm
from rows import Fact, Found, Row, run_python, run_script

NAMESAKE = "cloudposterior 0.7 of PyPI"
OURS, PLAIN = "cloudposterior", "plain PyMC"
SIZES = {"draws": (1000, 20), "peers": ("no", "no")}
TIMED = {"first time", "same model again", "model built again"}
SIDE = str(Path(__file__).with_name("peer_side.py"))

Answers = dict[str, dict[str, Any]]


def namesake_python() -> str:
    """Make the namesake's environment where there is none, and give its interpreter."""
    place = Path(tempfile.gettempdir()) / f"cloudposterior-0.7-pymc-{pm.__version__}"
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = place / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        # with ArviZ 1 it cannot write its files without h5netcdf, which it does not ask for
        wanted = ["cloudposterior==0.7.*", f"pymc=={pm.__version__}", "h5netcdf", "h5py"]
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
        done.touch()
    return str(python)


def tools(asked: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Give of each tool its name in `peer_side` and the interpreter."""
    found = {
        OURS: ("cloudposterior", sys.executable),
        PLAIN: ("plain", sys.executable),
        "joblib.Memory": ("joblib", sys.executable),
        "joblib.Memory, of the data": ("joblib-of-data", sys.executable),
    }
    if asked.peers == "yes":
        found[NAMESAKE] = ("cloudposterior", namesake_python())
    return found


def answers(asked: argparse.Namespace, tool: str, python: str) -> Answers:
    """Ask a tool in all cases."""
    found: Answers = {}
    with tempfile.TemporaryDirectory() as compiled, tempfile.TemporaryDirectory() as kept:
        for phase in ("first", "later", "later-with-arviz"):
            words = [SIDE, tool, phase, kept, str(asked.draws)]
            found |= run_python(words, None if asked.quick else compiled, python=python)
    return found


def measure(asked: argparse.Namespace) -> Iterator[Found]:
    found = {name: answers(asked, *of) for name, of in tools(asked).items()}
    ours = found.pop(OURS)
    for case in [case for case in ours if case in TIMED or case.startswith("kernel")]:
        for name, theirs in found.items():
            if "seconds" in ours[case] and "seconds" in theirs[case]:
                against = f"{name} ({'from its cache' if theirs[case]['kept'] else 'samples'})"
                yield Row(f"radon, {case}", ours[case]["seconds"], theirs[case]["seconds"], against)
    for name, of in {OURS: ours, **found}.items():
        for case, answer in of.items():
            if name != PLAIN and not case.endswith("first time"):
                yield Fact(case, name, outcome(case, answer))


def outcome(case: str, answer: dict[str, Any]) -> str:
    if "error" in answer:
        return f"fails: {answer['error']}"
    if case.endswith("changed"):
        return "**the old answer**" if answer["kept"] else "samples"
    return "from the cache" if answer["kept"] else "samples again"


if __name__ == "__main__":
    run_script(__doc__, measure, SIZES)
