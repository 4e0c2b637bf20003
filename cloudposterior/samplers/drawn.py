"""What a run has drawn so far, for whoever looks at it meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pymc as pm

__all__ = ["Drawn", "label_of"]


@dataclass(frozen=True)
class Drawn:
    """What has been drawn so far, after tuning.

    Attributes
    ----------
    chains : tuple of int
        The chains that are long enough to be looked at, at least half as long as the longest.
    start, stop : int
        Which draws they all have.
    arrays : mapping of str to numpy.ndarray
        Values by variable, ``(chain, draw, *shape)``, of all chains and draws to come. What lies
        between `start` and `stop` does not change any more.
    """

    chains: tuple[int, ...]
    start: int
    stop: int
    arrays: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, lengths: Sequence[int], start: int, arrays: Mapping[str, np.ndarray]) -> Drawn:
        """Choose the chains.

        Parameters
        ----------
        lengths : sequence of int
            How many draws of each chain there are, tuning included.
        start : int
            How many are for tuning.
        arrays : mapping of str to numpy.ndarray
            As above.
        """
        after = [max(0, length - start) for length in lengths]
        enough = max(1, max(after, default=0) / 2)
        chains = tuple(chain for chain, draws in enumerate(after) if draws >= enough)
        stop = start + min((after[chain] for chain in chains), default=0)
        return cls(chains, start, stop, arrays)


def label_of(model: pm.Model, name: str, shape: tuple[int, ...], element: int) -> str:
    """Name an element of a variable as ArviZ does, by its coordinates where it has some.

    Parameters
    ----------
    model : pymc.Model
        The model.
    name : str
        The variable.
    shape : tuple of int
        Its shape.
    element : int
        The place of the element, in C order.

    Examples
    --------
    >>> with pm.Model(coords={"county": ["AITKIN", "ANOKA"]}) as model:
    ...     a = pm.Normal("a", dims="county")
    >>> label_of(model, "a", (2,), 1)
    'a[ANOKA]'
    """
    if not shape:
        return name
    dims = model.named_vars_to_dims.get(name) or (None,) * len(shape)
    places = map(int, np.unravel_index(element, shape))
    words = (_word(model, dim, place) for dim, place in zip(dims, places, strict=True))
    return f"{name}[{', '.join(words)}]"


def _word(model: pm.Model, dim: str | None, place: int) -> str:
    coords = model.coords.get(dim) if dim is not None else None
    if coords is None or place >= len(coords):
        return str(place)
    return str(coords[place])
