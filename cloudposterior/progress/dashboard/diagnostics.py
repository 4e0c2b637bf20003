"""How good a posterior is while it is drawn: R-hat and effective sample sizes, the worst first.

The figures are ArviZ's own [1]_. They cost a few milliseconds for each number that a model
estimates, so where there are many, all are compared in a cheap way first, and ArviZ is asked for
those that look worst.

References
----------
.. [1] Vehtari, A., Gelman, A., Simpson, D., Carpenter, B., & Bürkner, P.-C. (2021).
   Rank-normalization, folding, and localization: an improved R-hat for assessing convergence of
   MCMC. Bayesian Analysis, 16(2), 667-718.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import arviz
import numpy as np
import xarray as xr

__all__ = ["ESS_LIMIT", "R_HAT_LIMIT", "Diagnostics", "Element", "diagnose"]

R_HAT_LIMIT = 1.01
"""Above it, chains disagree."""

ESS_LIMIT = 400.0
"""Below it, too few draws are independent."""

_MOST_ELEMENTS = 50
_FEWEST_DRAWS = 10
_TRACE_DRAWS = 200
_TRACE_POINTS = 4_000
_RANK_BINS = 20
_COMPARED_DRAWS = 100
_BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Element:
    """One number that a model estimates.

    Attributes
    ----------
    name : str
        The variable, with the place in it: ``"a[3]"``.
    mean, sd : float
        Of the draws.
    r_hat : float
        Split R-hat of normalised ranks; NaN for a single chain.
    ess_bulk, ess_tail : float
        Effective sample sizes.
    trace : numpy.ndarray
        A few of the draws, of shape ``(chain, draw)``; every ``step``-th.
    ranks : numpy.ndarray
        How many draws of each chain have a rank in each part of all ranks, ``(chain, part)``.
    """

    name: str
    mean: float
    sd: float
    r_hat: float
    ess_bulk: float
    ess_tail: float
    trace: np.ndarray
    ranks: np.ndarray

    @property
    def badness(self) -> float:
        """How far it is beyond the limits; those with more than 1 are."""
        beyond = ((self.r_hat - 1) / (R_HAT_LIMIT - 1), *(ESS_LIMIT / ess for ess in self.ess))
        known = [value for value in beyond if not np.isnan(value)]
        return max(known, default=-1.0)

    @property
    def ess(self) -> tuple[float, float]:
        """Both effective sample sizes, no smaller than one."""
        return float(np.maximum(self.ess_bulk, 1.0)), float(np.maximum(self.ess_tail, 1.0))


@dataclass(frozen=True)
class Diagnostics:
    """How good the posterior of a run is at one moment.

    Attributes
    ----------
    chains : tuple of int
        Which chains it is computed from: those that are not far behind.
    draws : int
        How many draws of each of them, tuning left out.
    step : int
        Traces hold every so manieth draw.
    examined : int
        How many numbers the model estimates.
    elements : tuple of Element
        The worst of them, the worst first.
    """

    chains: tuple[int, ...]
    draws: int
    step: int
    examined: int
    elements: tuple[Element, ...]


def diagnose(draws: Mapping[str, np.ndarray], lengths: Sequence[int]) -> Diagnostics | None:
    """Compute how good a posterior is.

    Parameters
    ----------
    draws : mapping of str to numpy.ndarray
        Draws after tuning by variable, of shape ``(chain, draw, *shape)``. They are not copied.
    lengths : sequence of int
        How many draws of each chain are there yet.

    Returns
    -------
    Diagnostics or None
        None as long as there is too little to say anything.
    """
    longest = max(lengths, default=0)
    # a chain that has just begun would hide what the others have to say
    chains = [chain for chain, drawn in enumerate(lengths) if drawn >= max(longest / 2, 1)]
    length = min((lengths[chain] for chain in chains), default=0)
    if length < _FEWEST_DRAWS:
        return None
    known = {name: values for name, values in draws.items() if values.dtype.kind in "fiub"}
    sizes = {name: int(np.prod(values.shape[2:])) for name, values in known.items()}
    examined = sum(sizes.values())
    if not examined:
        return None
    chosen = _choose(known, sizes, chains, length)
    values = np.stack([_element(known[name], place, chains, length) for name, place in chosen])
    names = [_called(name, place, known[name].shape[2:]) for name, place in chosen]
    step = max(1, -(-length // min(_TRACE_DRAWS, max(20, _TRACE_POINTS // len(chains)))))
    elements = _judge(names, values, step)
    elements.sort(key=lambda element: -element.badness)
    return Diagnostics(tuple(chains), length, step, examined, tuple(elements))


def _element(values: np.ndarray, place: int, chains: list[int], length: int) -> np.ndarray:
    """Give the draws of one element, ``(chain, draw)``, in double precision."""
    index: Any = (..., *_index(place, values.shape[2:]))
    return np.asarray(values[:, :length][index][chains], dtype="float64")


def _called(name: str, place: int, shape: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, _index(place, shape)))}]" if shape else name


def _index(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(place, shape))


def _judge(names: list[str], values: np.ndarray, step: int) -> list[Element]:
    dataset = xr.Dataset({"x": (("element", "chain", "draw"), values)})
    bulk, tail = (arviz.ess(dataset, method=method)["x"].values for method in ("bulk", "tail"))
    r_hat = np.full(len(names), np.nan)
    if values.shape[1] > 1:
        # chains that never moved have no variance to divide by
        with np.errstate(invalid="ignore", divide="ignore"):
            r_hat = arviz.rhat(dataset)["x"].values
    return [
        Element(
            name=name,
            mean=float(one.mean()),
            sd=float(one.std()),
            r_hat=float(r_hat[i]),
            ess_bulk=float(bulk[i]),
            ess_tail=float(tail[i]),
            trace=one[:, ::step].astype("float32"),
            ranks=_ranks(one),
        )
        for i, (name, one) in enumerate(zip(names, values, strict=True))
    ]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Count the draws of each chain, ``(chain, draw)``, in equal parts of the ranks of all."""
    order = np.argsort(values, axis=None, kind="stable")
    part = np.empty(values.size, dtype="int64")
    part[order] = np.arange(values.size) * _RANK_BINS // values.size
    counts = [np.bincount(row, minlength=_RANK_BINS) for row in part.reshape(values.shape)]
    return np.array(counts, dtype="int32")


def _choose(
    draws: Mapping[str, np.ndarray], sizes: Mapping[str, int], chains: list[int], length: int
) -> list[tuple[str, int]]:
    """Choose the elements that look worst; all where there are few."""
    if sum(sizes.values()) <= _MOST_ELEMENTS:
        return [(name, place) for name, size in sizes.items() for place in range(size)]
    looks = {name: _compare(values, chains, length) for name, values in draws.items()}
    names = [name for name, size in sizes.items() for _ in range(size)]
    places = np.concatenate([np.arange(size) for size in sizes.values()])
    worst = np.argsort(-np.concatenate(list(looks.values())), kind="stable")[:_MOST_ELEMENTS]
    return [(names[i], int(places[i])) for i in worst]


def _compare(values: np.ndarray, chains: list[int], length: int) -> np.ndarray:
    """Say how bad each element looks, from a few of its draws and without ranks."""
    step = max(1, length // _COMPARED_DRAWS)
    taken = range(0, length - length % step, step)
    size = int(np.prod(values.shape[2:]))
    flat = values.reshape(*values.shape[:2], size)
    width = max(1, _BLOCK_BYTES // (8 * len(chains) * len(taken)))
    looks = np.empty(size)
    for first in range(0, size, width):
        some = flat[:, taken.start : taken.stop : step, first : first + width][chains]
        looks[first : first + width] = _look(some.astype("float64"), step)
    return looks


def _look(values: np.ndarray, step: int) -> np.ndarray:
    """Compare by split R-hat and by the correlation of a draw with the next, ``(chain, draw, n)``.

    As in `Element.badness`; the effective sample size is that of a process of first order.
    """
    half = values.shape[1] // 2
    halves = np.concatenate([values[:, :half], values[:, half : 2 * half]])
    means = halves.mean(axis=1)
    off = halves - means[:, None]
    within = (off**2).mean(axis=1).mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r_hat = np.sqrt(1 + means.var(axis=0) / within)
        following = (off[:, 1:] * off[:, :-1]).mean(axis=(0, 1)) / within
        ess = step * halves[..., 0].size * (1 - following) / (1 + following)
        look = np.fmax((r_hat - 1) / (R_HAT_LIMIT - 1), ESS_LIMIT / np.maximum(ess, 1.0))
    # what never moves is nothing to look at; infinity is
    return np.asarray(np.nan_to_num(look, nan=-1.0, posinf=np.finfo(float).max))
