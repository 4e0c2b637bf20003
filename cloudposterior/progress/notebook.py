"""The table of a run in a notebook: Jupyter, what speaks its protocol, and marimo.

While a run is under way there is a widget, with a button; at its end static HTML takes its place,
which is what a saved notebook keeps.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloudposterior.events import literal
from cloudposterior.progress.html import line_html, table_html
from cloudposterior.progress.table import COLUMNS, Table

__all__ = ["NotebookTable", "in_notebook", "show_line"]

_HERE = Path(__file__).parent


def in_notebook() -> bool:
    """Tell whether a cell of a notebook shows what is displayed."""
    return _marimo() is not None or hasattr(_ipython_shell(), "kernel")


def _ipython_shell() -> Any:
    # where nobody imported it, there is none
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _marimo() -> Any:
    marimo = sys.modules.get("marimo")
    return marimo if marimo is not None and marimo.running_in_notebook() else None


def show_line(line: str) -> None:
    """Show one line of text."""
    marimo = _marimo()
    if marimo is not None:
        marimo.output.append(marimo.Html(line_html(line)))
    else:
        _display({"text/plain": literal(line), "text/html": line_html(line)})


def _display(bundle: dict[str, Any]) -> Any:
    display = importlib.import_module("IPython.display").display
    return display(bundle, raw=True, display_id=True)


class NotebookTable:
    """Shows the table in the cell that samples.

    Parameters
    ----------
    stop : callable
        Stops the run.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        # a click can be answered while the cell runs only where another thread samples
        blocking = threading.current_thread() is threading.main_thread()
        self._widget = _widget_class()(blocking=blocking)
        self._widget.on_msg(lambda _, content, __: stop() if content == _STOP else None)
        self._handle: Any = None
        self._place: Any = None
        self._shown = False

    def link(self, address: str) -> None:
        """Show a link."""
        self._widget.link = address

    def show(self, table: Table) -> None:
        """Show the table."""
        self._widget.table = _as_plain(table)
        if not self._shown:
            self._shown = True
            self._begin(table)

    def _begin(self, table: Table) -> None:
        marimo = _marimo()
        if marimo is not None:
            self._place = _place_class()(marimo.ui.anywidget(self._widget))
            marimo.output.append(self._place)
            return
        made = self._widget._repr_mimebundle_()
        bundle = dict(made[0] if isinstance(made, tuple) else made)
        self._handle = _display({**bundle, **_static(table)})

    def close(self, table: Table) -> None:
        """Leave the table as it stands."""
        if not self._shown:
            return
        self._widget.table = _as_plain(table)
        # it has the secret that stops the run
        self._widget.link = ""
        marimo = _marimo()
        if self._handle is not None:
            self._handle.update(_static(table), raw=True)
        elif marimo is not None:
            self._place.shown = marimo.Html(table_html(table))
            # has the output of the cell shown once more
            marimo.output.append(marimo.Html(""))
        self._widget.close()


_STOP = {"kind": "stop"}


def _static(table: Table) -> dict[str, str]:
    return {"text/html": table_html(table), "text/plain": "\n".join(table.lines())}


def _as_plain(table: Table) -> dict[str, Any]:
    return {
        "lines": table.lines(),
        "columns": list(COLUMNS),
        "rows": [
            {
                "fraction": row.fraction,
                "diverging": row.divergences > 0,
                "finished": row.phase == "finished",
                "texts": list(row.texts()),
            }
            for row in (table.rows if table.has_rows else ())
        ],
        "phase": table.phase,
        "ended": table.ended,
    }


@functools.cache
def _widget_class() -> type[Any]:
    # brings in ipywidgets
    anywidget, traitlets = map(importlib.import_module, ("anywidget", "traitlets"))

    class RunWidget(anywidget.AnyWidget):  # type: ignore[misc,name-defined]
        _esm = (_HERE / "notebook.js").read_text(encoding="utf-8")
        _css = (_HERE / "notebook.css").read_text(encoding="utf-8")
        table = traitlets.Dict().tag(sync=True)
        link = traitlets.Unicode().tag(sync=True)
        blocking = traitlets.Bool(True).tag(sync=True)

    return RunWidget


@functools.cache
def _place_class() -> type[Any]:
    marimo = importlib.import_module("marimo")

    class Place(marimo.Html):  # type: ignore[misc,name-defined]
        """What stands in one place of a cell's output in marimo: the widget, later static HTML."""

        def __init__(self, shown: Any) -> None:
            self.shown = shown
            super().__init__(shown.text)

        @property
        def text(self) -> str:
            return str(self.shown.text)

    return Place
