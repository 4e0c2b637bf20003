"""What a benchmark gives, and how each script of this folder is run."""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Row:
    """A figure of ours beside another, measured in the same run; less is better.

    Attributes
    ----------
    what : str
        What was measured.
    ours, theirs : float
        The figures; theirs is None where there is nothing to compare with.
    against : str
        What theirs is.
    unit : str, default "s"
        Of both.
    bar : float, optional
        How large the ratio may be.
    limit : float, optional
        How large ours may be.
    """

    what: str
    ours: float
    theirs: float | None = None
    against: str = ""
    unit: str = "s"
    bar: float | None = None
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def is_missed(self) -> bool:
        """Whether it is above its bar or its limit."""
        too_high = self.bar is not None and self.ratio is not None and self.ratio > self.bar
        return too_high or (self.limit is not None and self.ours > self.limit)

    def __str__(self) -> str:
        theirs = "" if self.theirs is None else f"{shown(self.theirs, self.unit)} {self.against}"
        ratio = "" if self.ratio is None else f"{self.ratio:.3g}"
        bar = f"bar {self.told_bar}{', missed' * self.is_missed}" if self.told_bar else ""
        return f"{self.what:44} {shown(self.ours, self.unit):>9} {ratio:>8}  {theirs}  {bar}"

    @property
    def told_bar(self) -> str:
        """The bar as text."""
        if self.limit is not None:
            return shown(self.limit, self.unit)
        return "" if self.bar is None else f"{self.bar:.3g}"


@dataclass(frozen=True)
class Point:
    """How long something takes at one size.

    Attributes
    ----------
    panel : str
        What grows.
    curve : str
        What is timed.
    size : int
        How much there is of what grows.
    seconds : float
        How long it takes.
    """

    panel: str
    curve: str
    size: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.panel:16} {self.size:>12,} {self.curve:36} {shown(self.seconds):>9}"


@dataclass(frozen=True)
class Fact:
    """What a tool does in a case that is no matter of time."""

    case: str
    tool: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.case:36} {self.tool:24} {self.outcome}"


Found = Row | Point | Fact
KINDS: dict[str, type[Found]] = {"rows": Row, "points": Point, "facts": Fact}


def to_json(found: Iterable[Found]) -> dict[str, list[dict[str, Any]]]:
    found = list(found)
    return {
        name: [asdict(one) for one in found if isinstance(one, kind)]
        for name, kind in KINDS.items()
    }


def from_json(stored: Mapping[str, Any]) -> list[Any]:
    return [kind(**one) for name, kind in KINDS.items() for one in stored.get(name, ())]


def shown(value: float, unit: str = "s") -> str:
    """Show a figure to three digits: seconds as what suits them."""
    if unit != "s":
        return f"{value:,.4g} {unit}"
    for size, name in ((1.0, "s"), (1e-3, "ms")):
        if value >= size:
            return f"{value / size:.3g} {name}" if value < 1000 else f"{value:,.0f} s"
    return f"{value * 1e6:.3g} µs"


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Time a call, in seconds, and give what it gives."""
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def best(function: Callable[[], Any], repeats: int = 5) -> float:
    """Time a call, the best of several, in seconds."""
    return min(timed(function)[0] for _ in range(repeats))


def middle(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Give the pair (ours, theirs) whose ratio is the median."""
    ordered = sorted(pairs, key=lambda pair: pair[0] / pair[1])
    return ordered[len(ordered) // 2]


def middle_of(values: Iterable[float]) -> float:
    return float(median(values))


Sizes = Mapping[str, tuple[Any, Any]]
Side = Callable[[argparse.Namespace], dict[str, Any]]


def run_script(
    doc: str | None,
    measure: Callable[[argparse.Namespace], Iterable[Found]],
    sizes: Sizes,
    sides: Mapping[str, Side] | None = None,
) -> None:
    """Run a benchmark as its command line asks.

    Parameters
    ----------
    doc : str
        What the benchmark says of itself.
    measure : callable
        Gives what it measures.
    sizes : mapping of str to tuple
        Its options: what each is in full, and when it only has to be quick.
    sides : mapping of str to callable, optional
        What it runs in processes of their own, see `in_new_process`.
    """
    asked = _parse(doc, sizes)
    warnings.simplefilter("ignore")
    logging.getLogger("pymc").setLevel(logging.ERROR)
    if asked.side:
        print("\n" + json.dumps((sides or {})[asked.side](asked)))
        return
    found = []
    for one in measure(asked):
        print(one, flush=True)
        found.append(one)
    if asked.json:
        Path(asked.json).write_text(json.dumps(to_json(found)))


def _parse(doc: str | None, sizes: Sizes) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument("--json", help="a file for what was found")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    for name, (full, _) in sizes.items():
        several = isinstance(full, list)
        kind = type(full[0] if several else full)
        more = {"nargs": "+"} if several else {}
        parser.add_argument(f"--{name}", type=kind, default=full, help=" ", **more)
    if "--quick" in sys.argv:
        parser.set_defaults(**{name: quick for name, (_, quick) in sizes.items()})
    asked = parser.parse_args()
    asked.sizes = {name: getattr(asked, name) for name in sizes}
    return asked


def in_new_process(
    script: str, side: str, asked: argparse.Namespace, *, directory: str
) -> dict[str, Any]:
    """Run a side of a script in a process of its own, without Numba's fast math.

    Parameters
    ----------
    script : str
        Its path.
    side : str
        Its name.
    asked : argparse.Namespace
        What the script was asked for.
    directory : str
        For what PyTensor compiles; where it only has to be quick, that of this process.
    """
    words = [script, "--side", side]
    for name, value in asked.sizes.items():
        words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return run_python(words, None if asked.quick else directory, "numba__fastmath=False")


def run_python(
    words: Iterable[str], directory: str | None, *flags: str, python: str = sys.executable
) -> dict[str, Any]:
    """Run a script that prints JSON in its last line.

    Parameters
    ----------
    words : iterable of str
        Its path and its arguments.
    directory : str or None
        For what PyTensor compiles; None is that of this process.
    *flags : str
        More of PyTensor's flags.
    python : str, optional
        The interpreter; this one by default.
    """
    place = f"base_compiledir={directory}" if directory else ""
    more = [os.environ.get("PYTENSOR_FLAGS", ""), place, *flags]
    told = subprocess.run(
        [python, "-W", "ignore", *words],
        env={**os.environ, "PYTENSOR_FLAGS": ",".join(filter(None, more))},
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        raise RuntimeError(told.stderr)
    answer: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return answer
