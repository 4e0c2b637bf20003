"""The blocks that are open, and the swap of `pymc.sample` while there is one.

The swap is one for the whole process; whether a call is of concern to a block is decided when the
call comes, by its thread and its model. So nothing depends on the order in which blocks close: the
last one, whichever it is, puts PyMC's own function back.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import pymc as pm

from cloudposterior.errors import BlockError
from cloudposterior.samplers.pymc import SAMPLE

__all__ = ["Block", "Closing", "close_block", "open_block"]


class Block(Protocol):
    """What answers calls on a model while it is open."""

    model: pm.Model

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        """Answer a call of `pymc.sample` on `model`."""
        ...


_lock = threading.RLock()
_passing = threading.local()
# threads themselves, not their numbers: those are given out again
_open: list[tuple[threading.Thread, Block]] = []
_replaced: dict[ModuleType, Callable[..., Any]] = {}
_PLACES: tuple[ModuleType, ...] = (pm, pm.sampling, pm.sampling.mcmc)


@functools.wraps(SAMPLE)
def _sample(*args: Any, **kwargs: Any) -> Any:
    block = _block_for(kwargs.get("model"))
    if block is None:
        return _pass_on(*args, **kwargs)
    kwargs.pop("model", None)
    return block.sample(*args, **kwargs)


def _pass_on(*args: Any, **kwargs: Any) -> Any:
    """Call what stood in the place of `pymc.sample`: PyMC's own, unless others swapped it too."""
    before = _replaced.get(pm, SAMPLE)
    if before is SAMPLE or getattr(_passing, "on", False):
        # theirs may have ours inside, and come back here
        return SAMPLE(*args, **kwargs)
    _passing.on = True
    try:
        return before(*args, **kwargs)
    finally:
        _passing.on = False


def _block_for(model: pm.Model | None) -> Block | None:
    """Find the innermost block of this thread that is open for the model of a call."""
    here = threading.current_thread()
    # a copy: other threads open and close theirs meanwhile
    blocks = [block for thread, block in tuple(_open) if thread is here]
    if not blocks:
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
            for place in _PLACES:
                _replaced[place] = SAMPLE if place.sample is _sample else place.sample
                place.sample = _sample  # type: ignore[attr-defined]
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
    """Stop routing calls to a block; the last one to close puts `pymc.sample` back.

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


def _restore() -> None:
    for place, before in _replaced.items():
        # whoever swapped it after us has ours inside, and ours passes calls on
        if place.sample is _sample:
            place.sample = before  # type: ignore[attr-defined]
    _replaced.clear()
