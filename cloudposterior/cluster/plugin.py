"""What runs in the scheduler: it keeps the board of all runs, and puts the page on the dashboard.

Nothing here waits, and nothing imports PyMC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

from cloudposterior.events import TOPIC, StopAsked, from_message, to_message
from cloudposterior.progress.board import Board

if TYPE_CHECKING:
    from distributed import Scheduler

__all__ = ["NAME", "PosteriorPlugin"]

NAME = "cloudposterior"


class PosteriorPlugin(SchedulerPlugin):  # type: ignore[misc]
    """Takes in what workers and clients tell of runs; the first one that is registered stays.

    Attributes
    ----------
    board : Board
        What is known of all runs.
    page : bool
        Whether there is a page.
    problem : str
        Why there is none; empty where nobody misses it, as without a dashboard.
    """

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.board = Board()
        self.page = False
        self.problem = ""

    async def start(self, scheduler: Scheduler) -> None:
        """Open the way for clients, and the page."""
        self._scheduler = scheduler
        scheduler.handlers["cloudposterior_tell"] = self.tell
        try:
            # it brings in Bokeh
            page = importlib.import_module("cloudposterior.progress.page")
            self.page = page.open_page(scheduler, self.board, self.stop)
        except ImportError as error:
            self.problem = f"since what that is made of cannot be imported there ({error})"
        except Exception as error:  # noqa: BLE001  (a scheduler outranks a page)
            self.problem = f"since it could not be added to the dashboard ({error!r})"

    def log_event(self, topic: str, msg: Any) -> None:
        """Take in what a worker tells."""
        if topic == TOPIC and isinstance(msg, dict):
            read = from_message(msg)
            if read is not None:
                self.board.take(*read)

    def tell(self, message: dict[str, Any], client: str) -> tuple[bool, str]:
        """Take in what a client tells; answer whether there is a page, and why there is none."""
        read = from_message(message)
        if read is not None:
            self.board.take(*read, client=client)
        return self.page, self.problem

    def stop(self, key: str, secret: str) -> bool:
        """Ask the client that gave the secret out to stop its run; say whether there is one."""
        run = self.board.get(key)
        digest = run.stop_digest(secret) if run is not None else None
        if digest is None:
            return False
        self._scheduler.log_event(TOPIC, to_message(key, StopAsked(digest)))
        return True

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Note that nobody waits any more for what a client wanted."""
        self.board.lose(client)
