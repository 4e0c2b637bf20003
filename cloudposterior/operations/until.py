"""Stop when good enough: a target for R-hat and effective sample sizes, and when it is reached."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["Aim", "Target"]

Values = Mapping[str, np.ndarray]
"""By variable, ``(chain, draw, *shape)``."""

_DEFAULTS = {"r_hat": 1.01, "ess": 400.0}
"""As Vehtari et al. (2021, doi:10.1214/20-BA1221) advise."""

_FIRST = 100
"""After so many draws of each chain the target is looked at first, and then after a tenth more."""

_TENTH = 10
_TOGETHER = 50
"""As many elements of a variable are looked at with one call."""


@dataclass(frozen=True)
class Target:
    """What every element of every free variable has to reach.

    Attributes
    ----------
    r_hat : float or None
        Rank-normalized split R-hat, at most; None asks for none.
    ess : float or None
        Bulk and tail effective sample size, at least, of all chains together; None asks for none.
    """

    r_hat: float | None
    ess: float | None

    @classmethod
    def of(cls, until: Any) -> Target | None:
        """Read what a user passes as ``until=``.

        Parameters
        ----------
        until : bool, mapping or None
            True stands for R-hat 1.01 and an ESS of 400; None and False for no target.

        Raises
        ------
        TypeError, ValueError
            For anything else.
        """
        if until is None or until is False:
            return None
        asked = _DEFAULTS if until is True else until
        allowed = 'pass True, or a dict such as {"r_hat": 1.01, "ess": 400}'
        if not isinstance(asked, Mapping) or not asked:
            raise TypeError(f"until={until!r} is no target: {allowed}")
        for name, value in asked.items():
            if name not in _DEFAULTS:
                raise ValueError(f"until={until!r} names {name!r}: {allowed}")
            least = 1.0 if name == "r_hat" else 0.0
            if not isinstance(value, Real) or not least < float(value) < math.inf:
                raise ValueError(f"until={until!r}: {name} has to be a number above {least:g}")
        wanted = {name: float(asked[name]) if name in asked else None for name in _DEFAULTS}
        return cls(**wanted)

    @property
    def option(self) -> dict[str, float | None]:
        """What of it is part of a key."""
        return {"r_hat": self.r_hat, "ess": self.ess}

    def __str__(self) -> str:
        named = {"R-hat": self.r_hat, "ESS": self.ess}
        return ", ".join(f"{name} {value:g}" for name, value in named.items() if value is not None)

    def is_met(self, values: np.ndarray) -> bool:
        """Tell whether elements of a variable reach it: ``(chain, draw, element)``.

        One that does not move has no R-hat, and misses it.
        """
        import arviz as az

        data = xr.Dataset({"x": (("chain", "draw", "element"), values)})
        with np.errstate(all="ignore"):
            if self.r_hat is not None and not (az.rhat(data)["x"] <= self.r_hat).all():
                return False
            return self.ess is None or all(
                bool((az.ess(data, method=method)["x"] >= self.ess).all())
                for method in ("bulk", "tail")
            )


class Aim:
    """Looks whether the draws of a run have reached a target.

    At fixed numbers of draws, so that how long the result is depends on the seed alone: the first
    is 100 draws of each chain, each further one a tenth more.

    Parameters
    ----------
    target : Target
        The target.
    most : int
        How many draws each chain has at the end.

    Attributes
    ----------
    most : int
        As above.
    draws : int
        After how many draws of each chain it is looked at next.
    reached : bool
        Whether it was reached, after so many.
    """

    def __init__(self, target: Target, most: int) -> None:
        self.target = target
        self.most = most
        self.draws = min(_FIRST, most)
        self.reached = False
        self._worst: tuple[str, int] | None = None

    def look(self, drawn: int, values: Callable[[int], Values]) -> bool:
        """Look, if all chains have come so far, and say whether it is reached.

        Parameters
        ----------
        drawn : int
            How many draws all chains have.
        values : callable
            Gives the first draws of all chains, by how many.
        """
        while not self.reached and self.draws <= drawn:
            if self._is_met(values(self.draws)):
                self.reached = True
            elif self.draws < self.most:
                self.draws = min(self.draws + max(1, self.draws // _TENTH), self.most)
            else:
                return False
        return self.reached

    def _is_met(self, values: Values) -> bool:
        blocks = list(_blocks(values))
        # the one that failed last time will do so again, most often
        blocks.sort(key=lambda block: block != self._worst)
        for name, first in blocks:
            flat = values[name].reshape(*values[name].shape[:2], -1)
            if not self.target.is_met(flat[:, :, first : first + _TOGETHER].astype(float)):
                self._worst = (name, first)
                return False
        return True


def _blocks(values: Values) -> Iterator[tuple[str, int]]:
    for name, array in values.items():
        size = math.prod(array.shape[2:])
        yield from ((name, first) for first in range(0, size, _TOGETHER))
