"""The table and the plots of what was measured, for the docs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from rows import Fact, Point, Row, from_json, shown

TITLES = {
    "token_time": "Keys",
    "hit_time": "Hits",
    "peers": "Beside others",
    "cluster_time": "First and second runs, first draws, segments",
    "more_time": "More of the same, and enough of it",
    "many_fits": "Many fits",
    "operations_cost": "Predictions, log-likelihoods and SMC",
    "large_result": "Large results",
    "result_on_disk": "Results larger than memory",
    "progress_cost": "Showing how it goes",
    "scheduler_time": "Many workers",
    "fault_cost": "Workers that die",
    "growth": "How cost grows",
}
INTRO = """\
# Benchmarks: the figures

Made by `python benchmarks/run.py`, which says what is measured, and how; not to be edited.
A ratio is what cloudposterior takes over what the other takes, in the same run: less is better.
A bar is of the ratio where it is a plain number, and of cloudposterior's own figure otherwise.
"""
# readable on white and on black
INK, GOOD, BAD = "#808690", "#2f8fd8", "#e07b28"
STYLE = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "font.size": 8,
    "svg.hashsalt": "cloudposterior",
    # text stays text: smaller, and found by who searches
    "svg.fonttype": "none",
    "font.family": "sans-serif",
}

Results = Mapping[str, Mapping[str, Any]]


def write(results: Results, docs: Path) -> None:
    """Write page and plots.

    Parameters
    ----------
    results : mapping
        By benchmark, as `run.py` keeps them.
    docs : pathlib.Path
        The directory of the docs.
    """
    found = {name: from_json(results[name]) for name in TITLES if name in results}
    static = docs / "_static"
    static.mkdir(parents=True, exist_ok=True)
    (docs / "benchmarks_table.md").write_text(page(results, found))
    every = [one for group in found.values() for one in group]
    with mpl.rc_context(STYLE):
        save(plot_ratios([one for one in every if isinstance(one, Row)]), static / "benchmarks.svg")
        save(plot_growth([one for one in every if isinstance(one, Point)]), static / "growth.svg")


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})


def page(results: Results, found: Mapping[str, list[Any]]) -> str:
    parts = [INTRO, "![Ratios of all benchmarks, on a log axis](_static/benchmarks.svg)\n"]
    for name, group in found.items():
        parts += [f"## {TITLES[name]}\n", told(name, results[name]["about"])]
        rows, points, facts = (
            [one for one in group if isinstance(one, kind)] for kind in (Row, Point, Fact)
        )
        parts += [row_table(rows)] * bool(rows) + [fact_table(facts)] * bool(facts)
        if points:
            parts += ["![Seconds at each size](_static/growth.svg)\n", *growth_tables(points)]
    return "\n".join(parts)


def told(name: str, about: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{package} {number}" for package, number in about["packages"].items())
    return (
        f"`{name}.py`, {about['date']}: {about['cpus']} cores, {about['system']}, load "
        f"{about['load']} when it began, Python {about['python']}, {packages}.\n"
    )


def table(head: list[str], body: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def row_table(rows: list[Row]) -> str:
    return table(
        ["what", "cloudposterior", "against", "takes", "ratio", "bar"],
        (
            [
                row.what,
                shown(row.ours, row.unit),
                row.against,
                "" if row.theirs is None else shown(row.theirs, row.unit),
                "" if row.ratio is None else f"{row.ratio:.2g}",
                row.told_bar + ", **missed**" * row.is_missed,
            ]
            for row in rows
        ),
    )


def fact_table(facts: list[Fact]) -> str:
    tools = list(dict.fromkeys(fact.tool for fact in facts))
    cases = list(dict.fromkeys(fact.case for fact in facts))
    outcomes = {(fact.case, fact.tool): fact.outcome for fact in facts}
    return table(
        ["asked again", *tools],
        ([case, *(outcomes.get((case, tool), "") for tool in tools)] for case in cases),
    )


def curves_of(points: list[Point]) -> dict[str, dict[str, dict[int, float]]]:
    """Give the seconds by panel, curve and size."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for point in points:
        of = found.setdefault(point.panel, {}).setdefault(point.curve, {})
        of[point.size] = point.seconds
    return found


def exponent(curve: Mapping[int, float]) -> str:
    """Give the power of the size with which a curve ends to grow."""
    (small, before), (large, after) = list(curve.items())[-2:]
    return f"{math.log(after / before) / math.log(large / small):.1f}" if before > 0 < after else ""


def growth_tables(points: list[Point]) -> Iterable[str]:
    for panel, curves in curves_of(points).items():
        sizes = list(dict.fromkeys(size for curve in curves.values() for size in curve))
        yield table(
            [panel, *(f"{size:,}" for size in sizes), "grows as size to the"],
            (
                [name, *(shown(curve[size]) for size in sizes), exponent(curve)]
                for name, curve in curves.items()
            ),
        )


def plot_ratios(rows: list[Row]) -> Figure:
    """Draw each ratio as a dot, and its bar as a stroke."""
    rows = [row for row in rows if row.ratio][::-1]
    figure = Figure(figsize=(6, 0.6 + 0.2 * len(rows)))
    axes = figure.subplots()
    for height, row in enumerate(rows):
        axes.plot(row.ratio, height, "o", color=GOOD if row.ratio <= 1 else BAD, markersize=5)
        if row.bar is not None:
            axes.plot(row.bar, height, "|", color=INK, markersize=10, markeredgewidth=2)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set(xscale="log", ylim=(-1, len(rows)))
    axes.set_xlabel("time, or memory, of cloudposterior over the other's (a stroke is a bar)")
    labels = [f"{row.what} / {row.against}".replace("`", "") for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.grid(axis="x")
    return figure


def plot_growth(points: list[Point]) -> Figure:
    """Draw a small panel for each thing that grows."""
    panels = curves_of(points)
    figure = Figure(figsize=(9, 7), layout="constrained")
    for axes, (panel, curves) in zip(figure.subplots(2, 2).flat, panels.items(), strict=False):
        for name, curve in curves.items():
            axes.plot(
                list(curve), list(curve.values()), "o-", markersize=3, label=name.replace("`", "")
            )
        axes.set(xscale="log", yscale="log", title=panel, ylabel="seconds")
        axes.grid()
        axes.legend(frameon=False, fontsize=7)
    return figure
