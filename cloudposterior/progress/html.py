"""The table of a run as HTML that needs nothing else: what a saved notebook keeps."""

from __future__ import annotations

from html import escape

from cloudposterior.progress.table import COLUMNS, Row, Table

__all__ = ["line_html", "table_html"]

# readable on light and on dark: colours of the page's own, and others between the two
_GREEN, _RED, _BLUE = "#2ca02c", "#e15759", "#4e79a7"
_CELL = "padding:2px 10px;border:none;background:none;color:inherit;white-space:nowrap"
_LEFT, _RIGHT = f"{_CELL};text-align:left", f"{_CELL};text-align:right"
# as in notebook.css: a bar and words from the left, numbers from the right
_STYLES = (_LEFT, *[_RIGHT] * (len(COLUMNS) - 2), _LEFT)
_BOX = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.5;overflow-x:auto"
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere"
# a name with dollar signs is no formula
_PLAIN = "mathjax_ignore tex2jax_ignore"
_TRACK = "width:140px;height:10px;background:rgba(128,128,128,.3);border-radius:5px"


def table_html(table: Table) -> str:
    """Write a table down.

    Parameters
    ----------
    table : Table
        The table; all its texts are escaped.
    """
    first, *others = map(escape, table.lines())
    lines = [f"<b>{first}</b>", *others]
    text = f'<div style="{_TEXT}">{"<br>".join(lines)}</div>'
    rows = _rows(table) if table.has_rows else ""
    return f'<div class="{_PLAIN}" style="{_BOX}">{text}{rows}</div>'


def line_html(line: str) -> str:
    """Write one line down."""
    return f'<div class="{_PLAIN}" style="{_BOX};{_TEXT}">{escape(line)}</div>'


def _rows(table: Table) -> str:
    head = _cells("th", COLUMNS, _STYLES)
    lines = [_bar(row) + _cells("td", row.texts(), _STYLES[1:]) for row in table.rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table style="border-collapse:collapse"><tr>{head}</tr>{body}</table>'


def _bar(row: Row) -> str:
    colour = _RED if row.divergences else _GREEN if row.phase == "finished" else _BLUE
    style = f"width:{100 * row.fraction:.0f}%;height:10px;background:{colour};border-radius:5px"
    return f'<td style="{_LEFT}"><div style="{_TRACK}"><div style="{style}"></div></div></td>'


def _cells(tag: str, texts: tuple[str, ...], styles: tuple[str, ...]) -> str:
    return "".join(
        f'<{tag} style="{style}">{escape(text)}</{tag}>'
        for text, style in zip(texts, styles, strict=True)
    )
