"""Jupyter's kernel: where a table is put, and what the browser sent while a cell still runs."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Collection
from typing import Any

__all__ = ["JupyterPlace", "in_jupyter"]


def in_jupyter() -> bool:
    """Tell whether cells are run by a Jupyter kernel: Notebook, Lab, VS Code, Colab, nbconvert."""
    # who runs in IPython has it imported, and who does not need not pay for it
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


class JupyterPlace:
    """A place of its own in the output of a cell."""

    interrupt = (
        "The kernel has not answered. To stop the run, interrupt the kernel (the square in the "
        "toolbar); the draws so far are kept."
    )

    def __init__(self) -> None:
        self._name = f"cloudposterior-{uuid.uuid4().hex}"

    def put(self, widget: Any, html: str, text: str) -> None:
        """Show a widget, or the HTML where there is none."""
        from IPython.display import display

        bundle, metadata = {"text/html": html, "text/plain": text}, {}
        if widget is not None:
            # with HTML beside it, which a reader without widgets shows
            view, metadata = widget._repr_mimebundle_()
            bundle = {**view, **bundle}
        display(bundle, raw=True, metadata=metadata, display_id=self._name)

    def replace(self, html: str, text: str) -> None:
        """Show HTML in place of what is there; this is what a saved notebook keeps."""
        from IPython.display import update_display

        update_display({"text/html": html, "text/plain": text}, raw=True, display_id=self._name)

    def hear(self, words: Collection[str]) -> set[str]:
        """Tell which of some words the browser has sent.

        While a cell runs, the kernel reads nothing. So its stream of messages is emptied into the
        queue that it reads next, as the kernel does between two cells, and each is looked at on
        its way: none is kept back, handled, or overtaken by another.
        """
        if threading.current_thread() is not threading.main_thread():
            return set()  # the kernel reads by itself
        stream = _messages()
        if stream is None:
            return set()
        take, heard = stream._recv_callback, set[str]()

        def look(frames: Any) -> Any:
            message = b"".join(bytes(frame) for frame in frames)
            heard.update(word for word in words if word.encode() in message)
            return take(frames)

        stream.on_recv(look, copy=False)
        try:
            stream.flush(1)  # zmq.POLLIN
        finally:
            stream.on_recv(take, copy=False)
        return heard

    def close(self) -> None:
        """Leave what is shown."""


def _messages() -> Any:
    """Find the stream by which messages come to the main thread; None where there is none."""
    kernel = getattr(sys.modules["IPython"].get_ipython(), "kernel", None)
    # from 7 on, ipykernel reads messages in a thread of their own, which hands them on
    thread = getattr(kernel, "shell_channel_thread", None)
    if thread is None:
        stream = getattr(kernel, "shell_stream", None)
    else:
        stream = thread.manager.get_shell_channel_to_subshell_pair(None).to_stream
    return stream if callable(getattr(stream, "_recv_callback", None)) else None
