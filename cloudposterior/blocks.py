"""The blocks that are open, and the swap of PyMC's functions while there is one.

The swap is one for the whole process; whether a call is of concern to a block is decided when the
call comes, by its thread and its model. So nothing depends on the order in which blocks close: the
last one, whichever it is, puts PyMC's own functions back.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import pymc as pm

from cloudposterior.errors import BlockError
from cloudposterior.operations.functions import Function, functions

__all__ = ["Block", "Closing", "answering", "close_block", "open_block"]


class Block(Protocol):
    """What answers calls on a model while it is open."""

    model: pm.Model

    def answer(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call of one of PyMC's functions on `model`."""
        ...


_lock = threading.RLock()
_here = threading.local()
# threads themselves, not their numbers: those are given out again
_open: list[tuple[threading.Thread, Block]] = []
_replaced: dict[tuple[ModuleType, str], Callable[..., Any]] = {}


@contextmanager
def answering() -> Iterator[None]:
    """Leave to PyMC what its functions call of each other in this thread."""
    before = getattr(_here, "answering", False)
    _here.answering = True
    try:
        yield
    finally:
        _here.answering = before


@functools.cache
def _door(function: Function) -> Callable[..., Any]:
    @functools.wraps(function.own)
    def door(*args: Any, **kwargs: Any) -> Any:
        block = _block_for(function.model_of(args, kwargs))
        if block is None:
            return _pass_on(function, args, kwargs)
        return block.answer(function.name, args, kwargs)

    return door


def _pass_on(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call what stood in the function's place: PyMC's own, unless others swapped it too."""
    before = _replaced.get((function.places[0], function.attribute), function.own)
    passing = _here.__dict__.setdefault("passing", set())
    if before is function.own or function.name in passing:
        # theirs may have ours inside, and come back here
        return function.own(*args, **kwargs)
    passing.add(function.name)
    try:
        return before(*args, **kwargs)
    finally:
        passing.discard(function.name)


def _block_for(model: pm.Model | None) -> Block | None:
    """Find the innermost block of this thread that is open for the model of a call."""
    here = threading.current_thread()
    # a copy: other threads open and close theirs meanwhile
    blocks = [block for thread, block in tuple(_open) if thread is here]
    if not blocks or getattr(_here, "answering", False):
        return None
    if model is None:
        try:
            model = pm.modelcontext(None)
        except TypeError:
            return None  # outside of any model: PyMC says so better
    return next((block for block in reversed(blocks) if block.model is model), None)


def open_block(block: Block) -> None:
    """Route calls on the block's model, in this thread, to the block.

    Raises
    ------
    BlockError
        If it is open already.
    """
    with _lock:
        if any(other is block for _, other in _open):
            raise BlockError(
                "this block is open already; use a new cp.cloud(model) for a block inside of it"
            )
        if not _open:
            for function in functions().values():
                _swap(function)
        _open.append((threading.current_thread(), block))


@dataclass(frozen=True)
class Closing:
    """How a block was left.

    Attributes
    ----------
    in_thread : bool
        In the thread that entered it.
    in_order : bool
        Before any block that the thread entered earlier.
    """

    in_thread: bool
    in_order: bool


def close_block(block: Block) -> Closing:
    """Stop routing calls to a block; the last one to close puts PyMC's functions back.

    Raises
    ------
    BlockError
        If it is not open.
    """
    with _lock:
        mine = next((entry for entry in _open if entry[1] is block), None)
        if mine is None:
            raise BlockError("this cp.cloud block is not open, so it cannot be left")
        newest = [entry for entry in _open if entry[0] is mine[0]][-1]
        _open.remove(mine)
        if not _open:
            _restore()
    return Closing(in_thread=mine[0] is threading.current_thread(), in_order=newest is mine)


def _swap(function: Function) -> None:
    door, name = _door(function), function.attribute
    for place in function.places:
        before = getattr(place, name)
        _replaced[place, name] = function.own if before is door else before
        setattr(place, name, door)


def _restore() -> None:
    for function in functions().values():
        for place in function.places:
            before = _replaced.get((place, function.attribute))
            # whoever swapped it after us has ours inside, and ours passes calls on
            if before is not None and getattr(place, function.attribute) is _door(function):
                setattr(place, function.attribute, before)
    _replaced.clear()
