"""The two tables of the page: the chains of a run, and what it estimates.

Whatever is text in them comes from users, and is drawn by Bokeh as text. The templates hold HTML,
and get numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, CustomJS
from bokeh.models.widgets import (
    DataTable,
    HTMLTemplateFormatter,
    NumberFormatter,
    StringFormatter,
    TableColumn,
)
from bokeh.palettes import Category10, Viridis256

from cloudposterior.progress.dashboard.diagnostics import ESS_LIMIT, R_HAT_LIMIT, Diagnostics
from cloudposterior.progress.table import Row

__all__ = ["ALARM", "ChainsTable", "ElementsTable", "color_of"]

ALARM = "#c8102e"
_BAR = "#f3a05a"
_DONE = "#6aa84f"

# Bokeh gives tables a layer of their own, over the menus of Dask's navigation bar
_STYLE = """
:host { font-size: 12px; }
.bk-data-table { z-index: 0; }
.slick-header-column { background: #eeeeee; font-weight: bold; }
"""

_BAR_TEMPLATE = f"""
<div style="background: #e6e6e6; border-radius: 2px; height: 12px; margin-top: 4px">
<div style="height: 100%; border-radius: 2px; width: <%= Math.round(100 * Number(fraction)) %>%;
background: <%= divergences > 0 ? '{ALARM}' : fraction >= 1 ? '{_DONE}' : '{_BAR}' %>">
</div></div>
"""
_CHAIN_TEMPLATE = """
<span style="display: inline-block; width: 9px; height: 9px; border-radius: 2px; margin-right: 6px;
background: rgb(<%= Number(red) %>, <%= Number(green) %>, <%= Number(blue) %>)"></span>
<%= Number(value) %>
"""


def color_of(chain: int, chains: int) -> str:
    """Give a chain its color, ``"#rrggbb"``, the same wherever it is drawn."""
    if chains <= 10:
        return str(Category10[10][chain % 10])
    return str(Viridis256[round(chain * 240 / max(chains - 1, 1))])


def _alarming(condition: str, digits: int) -> HTMLTemplateFormatter:
    """Show a number in red where a condition in JavaScript holds for its `value`."""
    style = f"<%= {condition} ? 'color: {ALARM}; font-weight: bold' : '' %>"
    number = f"<%= isNaN(value) ? '-' : Number(value).toFixed({digits}) %>"
    return HTMLTemplateFormatter(
        template=f'<div style="text-align: right"><span style="{style}">{number}</span></div>'
    )


def _number(form: str) -> NumberFormatter:
    return NumberFormatter(format=form, nan_format="-", text_align="right")


def _make_table(
    source: ColumnDataSource, columns: Sequence[tuple[str, str, int, Any]], **settings: Any
) -> DataTable:
    table = DataTable(
        source=source,
        columns=[
            TableColumn(field=field, title=title, width=width, formatter=formatter)
            for field, title, width, formatter in columns
        ],
        index_position=None,
        reorderable=False,
        row_height=22,
        stylesheets=[_STYLE],
        **settings,
    )
    # Bokeh 3.9 draws a table anew only if it has more or fewer rows than before
    source.js_on_change("data", CustomJS(args={"view": table.view}, code="view.change.emit()"))
    return table


class ChainsTable:
    """The chains of a run, a row each."""

    def __init__(self, **settings: Any) -> None:
        columns = [
            ("chain", "Chain", 55, HTMLTemplateFormatter(template=_CHAIN_TEMPLATE)),
            ("fraction", "Progress", 110, HTMLTemplateFormatter(template=_BAR_TEMPLATE)),
            ("phase", "Phase", 75, StringFormatter()),
            ("drawn", "Draws", 55, _number("0")),
            ("divergences", "Divergences", 95, _alarming("value > 0", 0)),
            ("step_size", "Step size", 75, _number("0.000")),
            ("gradients", "Gradients/draw", 115, _number("0.0")),
            ("draws_per_s", "Draws/s", 65, _number("0.0")),
            ("worker", "Worker", 160, StringFormatter()),
        ]
        self._source = ColumnDataSource()
        self.root = _make_table(self._source, columns, selectable=False, **settings)
        self.update(())

    def update(self, rows: Sequence[Row]) -> None:
        """Show chains."""
        colors = [color_of(row.chain, len(rows)) for row in rows]
        self._source.data = {
            "chain": [row.chain for row in rows],
            "fraction": [row.fraction for row in rows],
            "phase": [row.phase for row in rows],
            "drawn": [row.drawn for row in rows],
            "divergences": [row.divergences for row in rows],
            "step_size": [_or_nan(row.step_size) for row in rows],
            "gradients": [_or_nan(row.gradients) for row in rows],
            "draws_per_s": [_or_nan(row.draws_per_s) for row in rows],
            "worker": [row.worker for row in rows],
            "red": [int(color[1:3], 16) for color in colors],
            "green": [int(color[3:5], 16) for color in colors],
            "blue": [int(color[5:7], 16) for color in colors],
        }


class ElementsTable:
    """What a run estimates, the worst first. One row is chosen."""

    def __init__(self, **settings: Any) -> None:
        columns = [
            ("name", "Parameter", 220, StringFormatter()),
            ("mean", "Mean", 70, _number("0.000")),
            ("sd", "SD", 70, _number("0.000")),
            ("r_hat", "R-hat", 60, _alarming(f"value > {R_HAT_LIMIT}", 3)),
            ("ess_bulk", "ESS bulk", 65, _alarming(f"value < {ESS_LIMIT}", 0)),
            ("ess_tail", "ESS tail", 65, _alarming(f"value < {ESS_LIMIT}", 0)),
        ]
        self.source = ColumnDataSource()
        self.root = _make_table(self.source, columns, **settings)
        self.update(None, None)

    def update(self, diagnostics: Diagnostics | None, chosen: str | None) -> None:
        """Show elements, and which of them is chosen."""
        elements = diagnostics.elements if diagnostics is not None else ()
        names = [element.name for element in elements]
        self.source.data = {
            "name": names,
            **{
                field: np.array([getattr(element, field) for element in elements], dtype="float64")
                for field in ("mean", "sd", "r_hat", "ess_bulk", "ess_tail")
            },
        }
        self.source.selected.indices = [names.index(chosen)] if chosen in names else []


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
