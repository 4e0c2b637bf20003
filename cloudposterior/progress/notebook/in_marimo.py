"""marimo: where a table is put, and what the browser sent while a cell still runs."""

from __future__ import annotations

import contextlib
import inspect
import queue
import sys
from collections.abc import Collection
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["MarimoPlace", "in_marimo"]

_TAKEN: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
"""What was taken from a queue and goes back into it: a process may serve many notebooks."""


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

    def hear(self, words: Collection[str]) -> set[str]:
        """Tell which of some words the browser has sent.

        marimo hands what widgets send to two queues: one that it reads when the cell has ended,
        and one by which it then knows what may be merged. Only the second is read here; `close`
        puts back what was in it.
        """
        commands = _mergeable()
        if commands is None:
            return set()
        new = _drain(commands)
        _TAKEN.setdefault(commands, []).extend(new)
        return {word for word in words if any(word in repr(command) for command in new)}

    def close(self) -> None:
        """Put back what was taken, in its order."""
        commands = _mergeable()
        taken = _TAKEN.pop(commands, []) if commands is not None else []
        if taken:
            taken += _drain(commands)
        for command in taken:
            commands.put_nowait(command)


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
    with contextlib.suppress(queue.Empty):
        while True:
            drained.append(commands.get_nowait())
    return drained
