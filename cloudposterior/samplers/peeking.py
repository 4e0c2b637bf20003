"""Chains that are drawn whole, looked at meanwhile; an idle worker needs no PyMC for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["Window", "peek", "window"]

_PATIENCE_S = 5.0


class Window:
    """Where a chain can be looked at; the thread that draws it shows it, between two waits."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._shown = threading.Event()
        self._draws: Any = None

    def show(self, inspect: Callable[[], Any]) -> None:
        """Show what has been drawn, if somebody asks; `inspect` gives it as `pymc.sample` would."""
        if self._asked.is_set():
            self._asked.clear()
            self._draws = inspect()
            self._shown.set()

    def look(self) -> Any:
        """Ask for what has been drawn; None if nobody shows it in time."""
        self._shown.clear()
        self._asked.set()
        return self._draws if self._shown.wait(_PATIENCE_S) else None


_under_way: dict[tuple[str, int], Window] = {}


@contextmanager
def window(run: str, chain: int) -> Iterator[Window]:
    """Let a chain be looked at, for as long as the block lasts.

    Parameters
    ----------
    run : str
        The key of its run.
    chain : int
        Its number.
    """
    opened = _under_way[run, chain] = Window()
    try:
        yield opened
    finally:
        del _under_way[run, chain]


async def peek(
    run: str, names: Sequence[str], since: Mapping[int, int]
) -> dict[int, dict[str, np.ndarray[Any, Any]]]:
    """Give what the chains of a run that are drawn on this worker have drawn, after tuning.

    Parameters
    ----------
    run : str
        The key of the run.
    names : sequence of str
        The variables.
    since : mapping of int to int
        By chain, how many draws are known already.

    Returns
    -------
    dict of int to dict of str to numpy.ndarray
        By chain and variable, ``(draw, *shape)``.
    """
    here = {chain: opened for (key, chain), opened in tuple(_under_way.items()) if key == run}
    # it takes a while, and the worker's loop must not wait
    shown = {chain: await asyncio.to_thread(opened.look) for chain, opened in here.items()}
    return {
        chain: _values(draws["posterior"], names, since.get(chain, 0))
        for chain, draws in shown.items()
        if draws is not None
    }


def _values(posterior: Any, names: Sequence[str], first: int) -> dict[str, np.ndarray[Any, Any]]:
    return {name: posterior[name].to_numpy()[0, first:] for name in names if name in posterior}
