"""Doors into the sampling of others: inner steps of `pymc.sample`, answered by us in one thread."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["doors"]

_lock = threading.Lock()
_replaced: dict[tuple[ModuleType, str], tuple[int, Callable[..., Any]]] = {}
_mine = threading.local()


@contextmanager
def doors(place: ModuleType, **answers: Callable[..., Any]) -> Iterator[None]:
    """Answer functions of a module in this thread; in others they are what they were.

    Parameters
    ----------
    place : module
        Where they are looked up when they are called.
    **answers : callable
        By the function's name there; each is called as ``answer(function, *args, **kwargs)`` with
        the module's own function first.
    """
    outer = getattr(_mine, "answers", {})
    _mine.answers = {**outer, **{(place, name): answer for name, answer in answers.items()}}
    for name in answers:
        _open(place, name)
    try:
        yield
    finally:
        for name in answers:
            _close(place, name)
        _mine.answers = outer


def _open(place: ModuleType, name: str) -> None:
    with _lock:
        users, own = _replaced.get((place, name), (0, None))
        if own is None:
            own = getattr(place, name)
            setattr(place, name, _door(place, name, own))
        _replaced[place, name] = (users + 1, own)


def _close(place: ModuleType, name: str) -> None:
    with _lock:
        users, own = _replaced.pop((place, name))
        if users > 1:
            _replaced[place, name] = (users - 1, own)
        else:
            setattr(place, name, own)


def _door(place: ModuleType, name: str, own: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(own)
    def door(*args: Any, **kwargs: Any) -> Any:
        answer = getattr(_mine, "answers", {}).get((place, name))
        return own(*args, **kwargs) if answer is None else answer(own, *args, **kwargs)

    return door
