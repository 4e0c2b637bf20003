"""The figures of one element: its trace, and the ranks of its draws, by chain."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker
from bokeh.plotting import figure

from cloudposterior.progress.dashboard.diagnostics import Diagnostics, Element
from cloudposterior.progress.dashboard.tables import color_of

__all__ = ["RanksFigure", "TraceFigure"]

_BAR_HEIGHT = 0.85


def _make_figure(title: str, **settings: Any) -> Any:
    made = figure(title=title, tools="pan,box_zoom,wheel_zoom,reset", **settings)
    made.toolbar.autohide = True
    made.grid.grid_line_alpha = 0.5
    return made


class TraceFigure:
    """The draws of an element one after the other, a line for each chain."""

    def __init__(self, **settings: Any) -> None:
        self._source = ColumnDataSource({"xs": [], "ys": [], "color": []})
        self.root = _make_figure("Trace by chain", **settings)
        self.root.multi_line(
            "xs", "ys", color="color", source=self._source, line_width=1, line_alpha=0.75
        )
        self.root.xaxis.axis_label = "Draw after tuning"

    def update(self, diagnostics: Diagnostics, element: Element, chains: int) -> None:
        """Show an element of a run with so many chains."""
        traces = element.trace
        draw = np.arange(traces.shape[1], dtype="float64") * diagnostics.step
        self._source.data = {
            "xs": [draw for _ in traces],
            "ys": list(traces),
            "color": [color_of(chain, chains) for chain in diagnostics.chains],
        }


class RanksFigure:
    """How the ranks of an element's draws among those of all chains spread in each chain.

    Chains that agree have bars of one height, up to the line.
    """

    def __init__(self, **settings: Any) -> None:
        fields = ("left", "right", "bottom", "top", "color")
        self._bars = ColumnDataSource({field: [] for field in fields})
        self._lines = ColumnDataSource({"left": [], "right": [], "level": []})
        self._ticker = FixedTicker(ticks=[])
        self.root = _make_figure("Ranks by chain: even where chains agree", **settings)
        self.root.quad(
            left="left",
            right="right",
            bottom="bottom",
            top="top",
            color="color",
            source=self._bars,
            fill_alpha=0.7,
            line_color="white",
            line_width=0.5,
        )
        self.root.segment(
            x0="left",
            x1="right",
            y0="level",
            y1="level",
            source=self._lines,
            color="#444444",
            line_dash="dashed",
        )
        self.root.xaxis.axis_label = "Rank among all draws"
        self.root.yaxis.axis_label = "Chain"
        self.root.yaxis.ticker = self._ticker
        self.root.ygrid.grid_line_color = None

    def update(self, diagnostics: Diagnostics, element: Element, chains: int) -> None:
        """Show an element of a run with so many chains."""
        ranks = element.ranks
        shown, parts = ranks.shape
        numbers = np.array(diagnostics.chains, dtype="float64")
        highest = ranks.max()
        width = diagnostics.draws * shown / parts
        left = np.tile(np.arange(parts) * width, shown)
        bottom = np.repeat(numbers, parts)
        self._bars.data = {
            "left": left,
            "right": left + width,
            "bottom": bottom,
            "top": bottom + _BAR_HEIGHT * ranks.ravel() / highest,
            "color": [color_of(c, chains) for c in diagnostics.chains for _ in range(parts)],
        }
        self._ticker.ticks = list(diagnostics.chains[:: 1 + shown // 20])
        even = diagnostics.draws / parts
        self._lines.data = {
            "left": np.zeros(shown),
            "right": np.full(shown, width * parts),
            "level": numbers + _BAR_HEIGHT * even / highest,
        }
