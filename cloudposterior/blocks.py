"""The blocks that are open, and the swap of PyMC's functions while there is one.

The swap is one for the whole process; whether a call is of concern to a block is decided when the
call comes, by its thread and its model. So nothing depends on the order in which blocks close: the
last one, whichever it is, puts PyMC's own functions back.

A call on a copy of a block's model is of concern to it, too: packages sample copies of theirs. What
is left to PyMC is noted, so that a block for a wrong model can say so.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from types import ModuleType
from typing import Any, Protocol

import pymc as pm

from cloudposterior.errors import BlockError
from cloudposterior.identity import AnyModel
from cloudposterior.identity.copies import is_copy
from cloudposterior.operations.functions import Function, functions

__all__ = ["Block", "Closing", "answering", "close_block", "open_block"]


class Block(Protocol):
    """What answers calls on a model while it is open."""

    model: pm.Model

    def answer(
        self, model: pm.Model, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Answer a call of one of PyMC's functions on its model, or a copy of that."""
        ...


@dataclass
class _Opened:
    """A block that is open, the thread that opened it, and what has become of calls in it."""

    # the thread itself, not its number: those are given out again
    thread: threading.Thread
    block: Block
    answered: bool = False
    missed: str = ""


_INSIDE = ("cloudposterior.", "pymc.")
_NAMED = 6  # variables of a model, in a message

_lock = threading.RLock()
_here = threading.local()
_open: list[_Opened] = []
_replaced: dict[tuple[ModuleType, str], Callable[..., Any]] = {}
"""What stood in each place when the first block opened; kept for calls that are on their way."""
_around: list[Callable[..., Any]] = []
"""What others put around ours while a block was open."""


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
        opened = _opened_here()
        model = _model_of(function, args, kwargs) if opened else None
        if model is None:
            return _pass_on(function, args, kwargs)
        found = _opened_for(model, opened)
        if found is None:
            result = _pass_on(function, args, kwargs)
            # PyMC and this package call them, too
            if not str(sys._getframe(1).f_globals.get("__name__")).startswith(_INSIDE):
                _note(opened[-1], function, model)
            return result
        found.answered = True
        return found.block.answer(model, function.name, args, kwargs)

    return door


def _pass_on(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call what stood in the function's place: PyMC's own, unless others swapped it too."""
    before = _replaced.get((function.places[0], function.attribute), function.own)
    passing = _here.__dict__.setdefault("passing", set())
    # with no block open it was called from theirs, but for a call that the last block closed under
    from_theirs = not _open and before in _around
    if before is function.own or from_theirs or function.name in passing:
        # theirs may have ours inside, and come back here
        return function.own(*args, **kwargs)
    passing.add(function.name)
    try:
        return before(*args, **kwargs)
    finally:
        passing.discard(function.name)


def _opened_here() -> list[_Opened]:
    """List the blocks that may answer a call in this thread, the outermost first."""
    if getattr(_here, "answering", False):
        return []
    here = threading.current_thread()
    # a copy: other threads open and close theirs meanwhile
    return [opened for opened in tuple(_open) if opened.thread is here]


def _model_of(
    function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> pm.Model | None:
    """Give the model that a call is on; None where there is none, which PyMC says better."""
    model = function.model_of(args, kwargs)
    if model is None:
        try:
            model = pm.modelcontext(None)
        except TypeError:
            return None
    return model if isinstance(model, AnyModel) else None


def _opened_for(model: pm.Model, opened: list[_Opened]) -> _Opened | None:
    """Find the innermost block that is for a model, or else for one that it is a copy of."""
    inner_first = opened[::-1]
    its = (of for of in inner_first if of.block.model is model)
    copied = (of for of in inner_first if is_copy(model, of.block.model))
    return next(chain(its, copied), None)


def _note(opened: _Opened, function: Function, model: pm.Model) -> None:
    """Note the first call that was left to PyMC, in words: the model is not kept alive."""
    if not opened.missed:
        package = "" if "." in function.name else "pymc."
        opened.missed = (
            f"`{package}{function.name}` was called on {_named(model)}, "
            f"not on {_named(opened.block.model)}"
        )


def _named(model: pm.Model) -> str:
    names = [str(variable.name) for variable in model.basic_RVs]
    listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    called = f"the model {model.name!r}" if model.name else "the model without a name"
    return f"{called} (with {listed or 'no random variables'})"


def open_block(block: Block) -> None:
    """Route calls on the block's model, in this thread, to the block.

    Raises
    ------
    BlockError
        If it is open already.
    """
    with _lock:
        if any(opened.block is block for opened in _open):
            raise BlockError(
                "this block is open already; use a new cp.cloud(model) for a block inside of it"
            )
        if not _open:
            for function in functions().values():
                _swap(function)
        _open.append(_Opened(threading.current_thread(), block))


@dataclass(frozen=True)
class Closing:
    """How a block was left.

    Attributes
    ----------
    in_thread : bool
        In the thread that entered it.
    in_order : bool
        Before any block that the thread entered earlier.
    missed : str
        Where it answered no call, which one it could have answered, had it been on its model; in
        words. Empty where it answered one, and where there was none.
    """

    in_thread: bool
    in_order: bool
    missed: str


def close_block(block: Block) -> Closing:
    """Stop routing calls to a block; the last one to close puts PyMC's functions back.

    Raises
    ------
    BlockError
        If it is not open.
    """
    with _lock:
        mine = next((opened for opened in _open if opened.block is block), None)
        if mine is None:
            raise BlockError("this cp.cloud block is not open, so it cannot be left")
        newest = [opened for opened in _open if opened.thread is mine.thread][-1]
        _open.remove(mine)
        if not _open:
            _restore()
    return Closing(
        in_thread=mine.thread is threading.current_thread(),
        in_order=newest is mine,
        missed="" if mine.answered else mine.missed,
    )


def _swap(function: Function) -> None:
    door, name = _door(function), function.attribute
    for place in function.places:
        before = getattr(place, name)
        _replaced[place, name] = function.own if before is door else before
        setattr(place, name, door)


def _restore() -> None:
    for function in functions().values():
        for place in function.places:
            now = getattr(place, function.attribute)
            if now is _door(function):
                setattr(place, function.attribute, _replaced[place, function.attribute])
            elif now not in _around:
                # whoever swapped it after us has ours inside, and ours passes calls on
                _around.append(now)
