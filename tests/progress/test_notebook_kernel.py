"""The button against a real kernel, with messages as browsers without subshells send them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A kernel with nothing of the user's."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    manager, client = start_new_kernel(
        kernel_name="python3", env={**os.environ, "PYTHONPATH": path}
    )
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def until(client: Any, kind: str, parent: str | None = None) -> dict[str, Any]:
    """Read what the kernel publishes until there is a message of a kind."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        message: dict[str, Any] = client.get_iopub_msg(timeout=PATIENCE_S)
        assert message["msg_type"] != "error", "\n".join(message["content"]["traceback"])
        if message["msg_type"] == kind and parent in (None, message["parent_header"].get("msg_id")):
            return message
    raise AssertionError(f"no {kind}")


def opened(client: Any) -> tuple[str, str]:
    """Wait for a display, and give its address and its word."""
    while True:
        content = until(client, "comm_open")["content"]
        if "word" in content["data"]["state"]:
            return content["comm_id"], content["data"]["state"]["word"]


def send(client: Any, comm: str, content: dict[str, Any]) -> None:
    """Send a custom message of a widget through the shell channel."""
    data = {"method": "custom", "content": content}
    client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": comm, "data": data}))


def text_of(client: Any, request: str) -> str:
    """Give what a cell printed first."""
    return until(client, "stream", request)["content"]["text"].strip()


def test_button_stops_running_cell_and_queued_cells_run_after_in_order(kernel: Any) -> None:
    first = kernel.execute(
        "from tests.progress.notebook_run import Run\n"
        "import threading\n"
        "seen = []\n"
        "run = Run(); threading.current_thread() is threading.main_thread() and run.go(60)"
    )
    comm, word = opened(kernel)
    for number in range(3):
        kernel.execute(f"seen.append({number})")
    send(kernel, comm, {"stop": "another word"})
    send(kernel, comm, {"stop": word})
    began = time.monotonic()
    last = kernel.execute("seen.append(3); print(seen, len(run.stopped))")
    assert until(kernel, "execute_result", first)["content"]["data"]["text/plain"] == "'stopped'"
    assert text_of(kernel, last) == "[0, 1, 2, 3] 1"
    assert time.monotonic() - began < 5


def test_two_runs_of_one_cell_hear_their_own_buttons(kernel: Any) -> None:
    request = kernel.execute(
        "from tests.progress.notebook_run import Run\n"
        "one, two = Run(), Run()\n"
        "import time\n"
        "end = time.monotonic() + 20\n"
        "while not two.stopped and time.monotonic() < end:\n"
        "    one.display.poll(); time.sleep(.2); two.display.poll()\n"
        "print(len(one.stopped), len(two.stopped))"
    )
    opened(kernel)
    send(kernel, *_stop(opened(kernel)))
    assert text_of(kernel, request) == "0 1"


def _stop(where: tuple[str, str]) -> tuple[str, dict[str, Any]]:
    comm, word = where
    return comm, {"stop": word}


def test_last_output_is_html_in_place_of_the_widget(kernel: Any) -> None:
    kernel.execute(
        "from tests.progress.notebook_run import Run\n"
        "run = Run(diverging=(1,)); run.report(1500, 0); run.end()"
    )
    shown = until(kernel, "display_data")["content"]
    assert "application/vnd.jupyter.widget-view+json" in shown["data"]
    assert "text/html" in shown["data"]
    last = until(kernel, "update_display_data")["content"]
    assert last["transient"] == shown["transient"]
    assert set(last["data"]) == {"text/html", "text/plain"}
    assert "1537/2000" in last["data"]["text/html"]


def test_without_anywidget_html_is_updated_in_place(kernel: Any) -> None:
    kernel.execute(
        "import sys; sys.modules['anywidget'] = None\n"
        "from tests.progress.notebook_run import Run\n"
        "run = Run(); run.report(500, 0); run.report(1500, 0); run.end()"
    )
    shown = until(kernel, "display_data")["content"]
    assert set(shown["data"]) == {"text/html", "text/plain"}
    assert "interrupt the cell" in shown["data"]["text/html"]
    updates = [until(kernel, "update_display_data")["content"] for _ in range(3)]
    assert {update["transient"]["display_id"] for update in updates} == {
        shown["transient"]["display_id"]
    }
    assert "537/2000" in updates[0]["data"]["text/html"]
    assert "interrupt the cell" not in updates[-1]["data"]["text/html"]


def test_interrupt_reaches_the_run_and_the_kernel_lives(kernel: Any) -> None:
    request = kernel.execute(
        "from tests.progress.notebook_run import Run\n"
        "run = Run()\n"
        "import _thread, threading\n"
        "threading.Timer(1, _thread.interrupt_main).start()\n"
        "try: run.go(60)\n"
        "except KeyboardInterrupt: print('interrupted', run.end())"
    )
    assert text_of(kernel, request).startswith("interrupted")
    assert text_of(kernel, kernel.execute("print('alive')")) == "alive"
