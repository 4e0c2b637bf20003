"""Whether a model is a copy of another, so that both have one posterior."""

from __future__ import annotations

from collections.abc import Callable

import pymc as pm
from pymc.model.fgraph import clone_model
from pymc.model.transform.optimization import freeze_dims_and_data

from cloudposterior.identity.model import tokens_of

__all__ = ["is_copy"]


def _itself(model: pm.Model) -> pm.Model:
    return model


# PyMC's own ways to copy a model; they may define its variables in another order, or have
# constants in the place of its data
_COPIES: tuple[Callable[[pm.Model], pm.Model], ...] = (
    _itself,
    freeze_dims_and_data,
    clone_model,
)


def is_copy(model: pm.Model, of: pm.Model) -> bool:
    """Tell whether a model is what building another again, or PyMC's copying it, would give.

    Parameters
    ----------
    model : pymc.Model
        The model that may be a copy.
    of : pymc.Model
        The other.

    Returns
    -------
    bool
        False too where one of them has no token, or cannot be copied.
    """
    if set(model.named_vars) != set(of.named_vars):  # which costs nothing
        return False
    token, _ = tokens_of(model)
    return any(token == _token_of_copy(of, copied) for copied in _COPIES)


def _token_of_copy(model: pm.Model, copied: Callable[[pm.Model], pm.Model]) -> str | None:
    try:
        return tokens_of(copied(model))[0]
    except Exception:  # noqa: BLE001  (what PyMC cannot copy nobody has copied so)
        return None
