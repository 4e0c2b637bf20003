"""The table of a run as HTML that needs nothing else: what a saved notebook keeps."""

from __future__ import annotations

from html import escape

from cloudposterior.progress.table import COLUMNS, Row, Table

__all__ = ["line_html", "table_html"]

# readable on light and on dark: colours of the page's own, and others between the two
_GREEN, _RED, _BLUE = "#2ca02c", "#e15759", "#4e79a7"
_CELL = "padding:2px 10px;text-align:right;border:none;background:none;color:inherit"
_BOX = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.5;overflow-x:auto"
_TRACK = "width:140px;height:10px;background:rgba(128,128,128,.3);border-radius:5px"


def table_html(table: Table) -> str:
    """Write a table down.

    Parameters
    ----------
    table : Table
        The table; all its texts are escaped.
    """
    first, *others = map(escape, table.lines())
    lines = [f"<div><b>{first}</b></div>", *(f"<div>{line}</div>" for line in others)]
    rows = _rows(table) if table.has_rows else ""
    return f'<div style="{_BOX}">{"".join(lines)}{rows}</div>'


def line_html(line: str) -> str:
    """Write one line down."""
    return f'<div style="{_BOX}">{escape(line)}</div>'


def _rows(table: Table) -> str:
    head = "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in COLUMNS)
    body = "".join(f"<tr>{_bar(row)}{_cells(row)}</tr>" for row in table.rows)
    return f'<table style="border-collapse:collapse"><tr>{head}</tr>{body}</table>'


def _bar(row: Row) -> str:
    colour = _RED if row.divergences else _GREEN if row.phase == "finished" else _BLUE
    style = f"width:{100 * row.fraction:.0f}%;height:10px;background:{colour};border-radius:5px"
    return f'<td style="{_CELL}"><div style="{_TRACK}"><div style="{style}"></div></div></td>'


def _cells(row: Row) -> str:
    return "".join(f'<td style="{_CELL}">{escape(text)}</td>' for text in row.texts())
