"""marimo: where a table is put, and what the browser sent while a cell still runs."""

from __future__ import annotations

import inspect
import queue
import sys
from typing import Any

__all__ = ["MarimoPlace", "in_marimo"]


def in_marimo() -> bool:
    """Tell whether cells are run by marimo."""
    marimo = sys.modules.get("marimo")
    return marimo is not None and bool(marimo.running_in_notebook())


class MarimoPlace:
    """A place of its own in the output of a cell."""

    interrupt = (
        "marimo has not answered. To stop the run, press marimo's interrupt button (the square); "
        "the draws so far are kept."
    )

    def __init__(self) -> None:
        self._number = 0
        self._taken: list[Any] = []

    def put(self, widget: Any, html: str, text: str) -> None:
        """Show a widget, or the HTML where there is none."""
        import marimo

        self._number = _shown()
        marimo.output.append(marimo.Html(html) if widget is None else widget)

    def replace(self, html: str, text: str) -> None:
        """Show HTML in place of what is there."""
        import marimo

        # somebody may have cleared the output meanwhile
        marimo.output.replace_at_index(marimo.Html(html), min(self._number, _shown()))

    def hear(self, word: str) -> bool:
        """Tell whether the browser has sent a word.

        marimo hands what widgets send to two queues: one that it reads when the cell has ended,
        and one by which it then knows what may be merged. Only the second is read here; `close`
        puts back what was in it.
        """
        new = list(_drain(_mergeable()))
        self._taken += new
        return any(word in repr(command) for command in new)

    def close(self) -> None:
        """Put back what was taken, in its order."""
        commands = _mergeable()
        if commands is not None and self._taken:
            self._taken += _drain(commands)
            for command in self._taken:
                commands.put_nowait(command)
        self._taken = []


def _shown() -> int:
    """Count what stands in the output of the cell."""
    from marimo._runtime.context import get_context

    execution = get_context().execution_context
    return 0 if execution is None else len(execution.output)


def _mergeable() -> Any:
    """Find the queue of what may be merged; None where this marimo has none."""
    from marimo._runtime.context import get_context

    kernel = getattr(get_context(), "_kernel", None)
    enqueue = getattr(kernel, "enqueue_control_request", None)
    if not inspect.isfunction(enqueue):
        return None
    return inspect.getclosurevars(enqueue).nonlocals.get("set_ui_element_queue")


def _drain(commands: Any) -> list[Any]:
    drained: list[Any] = []
    while commands is not None:
        try:
            drained.append(commands.get_nowait())
        except queue.Empty:
            break
    return drained
