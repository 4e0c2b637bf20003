"""A table as HTML: what a saved notebook keeps, and the texts that the widget shows too."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib import resources

from cloudposterior.progress.table import Row, Table

__all__ = ["COLUMNS", "address", "cells", "dressed", "look", "plain", "read", "state"]

COLUMNS = (
    "Chain",
    "Progress",
    "Draws",
    "Divergences",
    "Step Size",
    "Gradients/Draw",
    "Worker",
)


def cells(row: Row) -> tuple[str, ...]:
    """Give what stands under each of `COLUMNS`; under the second, what stands beside the bar."""
    percent = f" {100 * row.fraction:.0f}%" if 0 < row.fraction < 1 else ""
    return (
        str(row.chain),
        f"{row.phase}{percent}",
        f"{row.drawn}/{row.total}" if row.total else "",
        str(row.divergences) if row.drawn else "",
        "" if row.step_size is None else f"{row.step_size:.2g}",
        "" if row.gradients is None else f"{row.gradients:.0f}",
        row.worker.partition("://")[2] or row.worker,
    )


def look(row: Row) -> str:
    """Name the look of a row: red where it diverges or failed, green where it is drawn."""
    if row.divergences or row.phase == "failed":
        return "wrong"
    if row.phase in ("finished", "cached result"):
        return "done"
    return "" if row.active else "idle"


def address(table: Table) -> str:
    """Give the dashboard's address, unless a browser would do more than go there."""
    return table.dashboard if table.dashboard.startswith(("http://", "https://", "/")) else ""


def state(table: Table, *, stopping: bool = False) -> dict[str, object]:
    """Give what the widget shows: texts, and a bar for each chain as a part of a thousand."""
    return {
        "lines": _lines(table),
        "ended": table.ended,
        "stopping": stopping,
        "dashboard": address(table),
        "rows": [[look(row), round(1000 * _part(row)), *cells(row)] for row in table.rows],
    }


def plain(table: Table) -> str:
    """Write the lines above the rows, for where there is no HTML."""
    return "\n".join(_lines(table))


def dressed(table: Table, *, note: str = "") -> str:
    """Write a table as HTML that needs nothing else.

    Parameters
    ----------
    table : Table
        The run.
    note : str, optional
        A line below the others; none by default.

    Returns
    -------
    str
        One element, with its style inside. Every name in it is escaped.
    """
    title, *others = (escape(line) for line in _lines(table))
    lines = [f'<div class="cp-line">{line}</div>' for line in others]
    if note:
        lines.append(f'<div class="cp-line cp-note">{escape(note)}</div>')
    link = ""
    if to := address(table):
        link = f'<a href="{escape(to)}" target="_blank" rel="noopener">Dashboard</a>'
    return (
        f'<div class="cloudposterior-run cp"><style>{read("widget.css")}</style>'
        f'<div class="cp-head"><div class="cp-title">{title}</div>'
        f'<div class="cp-actions">{link}</div></div>{"".join(lines)}{_rows(table)}</div>'
    )


@cache
def read(name: str) -> str:
    """Read a file that stands beside this one."""
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _lines(table: Table) -> list[str]:
    title, counts, *rest = table.lines()
    # before the chains are known there is nothing to count
    return [title, *([counts] if table.rows else []), *rest]


def _rows(table: Table) -> str:
    if not table.rows:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in COLUMNS)
    body = "".join(_row(row) for row in table.rows)
    return (
        f'<div class="cp-rows"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(row: Row) -> str:
    chain, progress, *others = (escape(cell) for cell in cells(row))
    bar = (
        f'<span class="cp-bar"><span style="width:{100 * _part(row):.1f}%"></span></span>'
        f'<span class="cp-phase">{progress}</span>'
    )
    rest = "".join(f'<td title="{cell}">{cell}</td>' for cell in others)
    return f'<tr class="{look(row)}"><td>{chain}</td><td>{bar}</td>{rest}</tr>'


def _part(row: Row) -> float:
    return min(max(row.fraction, 0.0), 1.0)
