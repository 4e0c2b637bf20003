"""The table of a run in a cell of a notebook, with a button that stops the run."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Collection
from functools import cache
from typing import Any, Protocol
from weakref import WeakValueDictionary

from cloudposterior.errors import DisplayWarning, tell
from cloudposterior.progress.notebook.html import COLUMNS, dressed, plain, read, state
from cloudposterior.progress.notebook.in_jupyter import JupyterPlace, in_jupyter
from cloudposterior.progress.notebook.in_marimo import MarimoPlace, in_marimo
from cloudposterior.progress.table import RunTable, Table

__all__ = ["NotebookDisplay", "in_notebook"]

_NO_BUTTON = "To stop the run, interrupt the cell; the draws so far are kept."

_PRESSED: WeakValueDictionary[str, threading.Event] = WeakValueDictionary()
"""For the word of each run under way, whether its button was pressed."""


def in_notebook() -> bool:
    """Tell whether a cell of a notebook is what runs: Jupyter, VS Code, Colab or marimo."""
    return in_marimo() or in_jupyter()


class _Place(Protocol):
    """A place in the output of a cell, as `JupyterPlace` and `MarimoPlace` have it."""

    interrupt: str

    def put(self, widget: Any, html: str, text: str) -> None: ...

    def replace(self, html: str, text: str) -> None: ...

    def hear(self, words: Collection[str]) -> set[str]: ...

    def close(self) -> None: ...


class NotebookDisplay:
    """A run as a table in the cell that started it.

    It is shown at once. Nothing that goes wrong in it reaches the run: the first failure is a
    `DisplayWarning`, and after it the table stands still.

    Parameters
    ----------
    stop : callable
        Called once, by `poll`, when the button is pressed.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._place: _Place = MarimoPlace() if in_marimo() else JupyterPlace()
        # only this widget's model knows it, so nothing else in a message can look like it
        self._word = uuid.uuid4().hex
        self._pressed = threading.Event()
        self._stopping = False
        self._widget: Any = None
        self._broken = False
        self._table = RunTable(run="", title="cloudposterior", chains=0).snapshot()
        self._try(self._begin)

    def show(self, table: Table) -> None:
        """Show the run as it stands."""
        self._table = table
        self._try(self._draw)

    def poll(self) -> None:
        """Take what the browser sent; to be called often from the thread that waits."""
        self._try(self._listen)
        if self._pressed.is_set() and not self._stopping:
            self._stopping = True
            self._try(self._draw)
            self._stop()

    def close(self, table: Table) -> None:
        """Leave the last state as HTML, which a saved notebook keeps."""
        self._table = table
        self._try(self._end)

    def _begin(self) -> None:
        widget = _widget_class()
        if widget is not None:
            self._widget = widget(
                state=self._state(),
                columns=list(COLUMNS),
                word=self._word,
                interrupt=self._place.interrupt,
            )
            self._widget.on_msg(self._take)
            _PRESSED[self._word] = self._pressed
        self._place.put(self._widget, self._html(), plain(self._table))

    def _draw(self) -> None:
        if self._widget is None:
            self._place.replace(self._html(), plain(self._table))
        else:
            self._widget.state = self._state()

    def _listen(self) -> None:
        # of two runs under way, each may come upon what was sent to the other
        for word in self._place.hear(list(_PRESSED)) if self._widget is not None else ():
            _PRESSED[word].set()

    def _take(self, _: Any, content: Any, __: Any) -> None:
        """Take a message that the notebook handled by itself, in whichever thread it does so."""
        if isinstance(content, dict) and content.get("stop") == self._word:
            self._pressed.set()

    def _end(self) -> None:
        _PRESSED.pop(self._word, None)
        self._place.close()
        self._place.replace(dressed(self._table), plain(self._table))
        if self._widget is not None:
            self._widget.close()

    def _state(self) -> str:
        shown = state(self._table, stopping=self._stopping)
        return json.dumps(shown, separators=(",", ":"))

    def _html(self) -> str:
        note = _NO_BUTTON if self._widget is None and not self._table.ended else ""
        return dressed(self._table, note=note)

    def _try(self, step: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001  (whatever a notebook raises, the run goes on)
            self._broken = True
            tell(
                DisplayWarning,
                f"the table in the notebook stands still from here on ({error!r}); the run goes "
                "on, and interrupting the cell stops it",
            )


@cache
def _widget_class() -> Any:
    """Make the widget's class; None without anywidget."""
    try:
        import anywidget
        import traitlets
    except ImportError:
        return None
    body = {"_esm": read("widget.js"), "_css": read("widget.css")}
    traits = {
        "state": traitlets.Unicode().tag(sync=True),
        "columns": traitlets.List(traitlets.Unicode()).tag(sync=True),
        "word": traitlets.Unicode().tag(sync=True),
        "interrupt": traitlets.Unicode().tag(sync=True),
    }
    return type("RunWidget", (anywidget.AnyWidget,), {"__module__": __name__, **body, **traits})
