"""On the client: diagnostics on their way to the page.

They go straight to the plugin. The scheduler's log of events keeps the last thousand for good, and
sends each to all who listen; these are too large for that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from cloudposterior.progress.dashboard.diagnostics import Diagnostics, diagnose

if TYPE_CHECKING:
    from distributed import Client, Scheduler

__all__ = ["PLUGIN_NAME", "DiagnosticsSender"]

PLUGIN_NAME = "cloudposterior"
"""Under which the plugin is registered on the scheduler."""

_EVERY_S = 2.0
_REST = 20
"""How many times its cost to wait, so that large models cost no larger part of the client."""


class DiagnosticsSender:
    """Computes diagnostics of one run and sends them, but not too often.

    Parameters
    ----------
    client : distributed.Client
        Connected to a scheduler that `register.register_page` has put the page on.
    run : str
        Tells the run from others.
    """

    def __init__(self, client: Client, run: str) -> None:
        self._client = client
        self._run = run
        self._next = time.monotonic() + _EVERY_S

    @property
    def due(self) -> bool:
        """Whether it is time to send again."""
        return time.monotonic() >= self._next

    def send(self, draws: Mapping[str, np.ndarray], lengths: Sequence[int]) -> None:
        """Compute and send, whether or not it is due.

        Parameters
        ----------
        draws, lengths
            As `diagnostics.diagnose` takes them.
        """
        # of the thread, for a busy machine makes nothing more costly
        began = time.thread_time()
        diagnostics = diagnose(draws, lengths)
        if diagnostics is not None:
            # the run itself will say that the scheduler is away; a page is not worth an error
            with suppress(OSError):
                self._client.run_on_scheduler(_take, self._run, diagnostics)
        cost = time.thread_time() - began
        self._next = time.monotonic() + max(_EVERY_S, _REST * cost)


def _take(run: str, diagnostics: Diagnostics, dask_scheduler: Scheduler) -> None:
    """Hand diagnostics to the plugin; runs on the scheduler."""
    plugin: Any = dask_scheduler.plugins.get(PLUGIN_NAME)
    if plugin is not None:
        plugin.runs.take_diagnostics(run, diagnostics)
