"""Whether a posterior is any good yet: R-hat and effective sample sizes while it is being drawn.

They are worked out where the draws arrive, in at most a fiftieth of the time of the run, and go to
whoever shows them with a few draws of the worst parameters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from cloudposterior.errors import DisplayWarning, tell
from cloudposterior.events import Diagnosis
from cloudposterior.samplers.drawn import Drawn

__all__ = ["Ledger", "Looking"]

_MOST_PARAMETERS = 500
"""As many are known, spread evenly over each variable."""

_MOST_DRAWS = 500
"""As many of each chain are looked at, spread evenly: an ESS never reads higher than it is."""

_WORST, _TURN = 20, 40
"""The worst parameters are looked at each time, and as many others in turn."""

_TRACE_FLOATS = 2**16
_MOST_POINTS = 200
_FEWEST_DRAWS = 10

_SHARE = 0.02
"""Of the time of a run, at most."""

_FIRST_GUESS_S = 0.1

Label = Callable[[str, tuple[int, ...], int], str]
"""Names an element of a variable, by the variable's name and shape and by its place in C order."""


class Ledger:
    """What is known of the parameters of a run.

    Parameters
    ----------
    label : callable
        Names an element of a variable: ``label("a", (85,), 3)`` is ``"a[AITKIN]"``.
    """

    def __init__(self, label: Label) -> None:
        self._label = label
        self._elements: list[tuple[str, int]] = []
        self._texts: list[str] = []
        self._statistics = np.empty((5, 0))
        self._seen = np.zeros(0, bool)
        self._next = 0
        self._size = 0

    def look(self, drawn: Drawn, *, whole: bool = False) -> Diagnosis | None:
        """Look at draws.

        Parameters
        ----------
        drawn : Drawn
            The draws.
        whole : bool
            Whether to look at all parameters, rather than at the worst and some others.

        Returns
        -------
        Diagnosis or None
            None where there are too few draws or chains to say anything.
        """
        expected = min((len(array) for array in drawn.arrays.values()), default=0)
        if drawn.stop - drawn.start < _FEWEST_DRAWS or len(drawn.chains) < min(2, expected):
            return None
        if not self._elements:
            self._begin(drawn)
        if not self._elements:
            return None
        turn = np.arange(len(self._elements)) if whole else self._turn(len(drawn.chains))
        for places, values in self._values(drawn, turn, _MOST_DRAWS):
            self._statistics[:, places] = _statistics(values)
        self._seen[turn] = True
        return self._told(drawn)

    @property
    def turns(self) -> float:
        """How many looks it takes to look at all parameters; infinite before the first one."""
        return math.ceil(len(self._elements) / (_WORST + _TURN)) or math.inf

    def _begin(self, drawn: Drawn) -> None:
        shapes = {name: array.shape[2:] for name, array in drawn.arrays.items()}
        sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
        self._size = sum(sizes.values())
        self._elements = list(_chosen(sizes))
        self._texts = [self._label(name, shapes[name], i) for name, i in self._elements]
        self._statistics = np.full((5, len(self._elements)), np.nan)
        self._seen = np.zeros(len(self._elements), bool)

    def _turn(self, chains: int) -> np.ndarray:
        others = (self._next + np.arange(_TURN)) % len(self._elements)
        self._next = int(others[-1]) + 1
        return np.union1d(self._worst(chains)[:_WORST], others)

    def _worst(self, chains: int) -> np.ndarray:
        """Give the places of what has been looked at, the worst first."""
        order = np.argsort(-_badness(self._statistics, chains), kind="stable")
        return order[self._seen[order]]

    def _values(
        self, drawn: Drawn, places: np.ndarray, most: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Copy some draws of some elements, a variable at a time: ``(chain, draw, element)``."""
        draws = _spread(drawn.start, drawn.stop, most)
        for name in dict.fromkeys(self._elements[place][0] for place in places):
            of = np.array([place for place in places if self._elements[place][0] == name])
            elements = [self._elements[place][1] for place in of]
            array = drawn.arrays[name]
            flat = array.reshape(*array.shape[:2], -1)
            yield of, flat[np.ix_(drawn.chains, draws, elements)].astype(float)

    def _told(self, drawn: Drawn) -> Diagnosis:
        chains = len(drawn.chains)
        worst = self._worst(chains)
        most = min(_MOST_POINTS, max(_FEWEST_DRAWS, _TRACE_FLOATS // (20 * chains)))
        points = len(_spread(drawn.start, drawn.stop, most))
        traced = min(len(worst), _TRACE_FLOATS // (points * chains))
        trace = np.empty((len(self._elements), chains, points), "<f4")
        for places, values in self._values(drawn, worst[:traced], most):
            trace[places] = values.transpose(2, 0, 1)
        mean, sd, r_hat, bulk, tail = (tuple(map(float, of[worst])) for of in self._statistics)
        return Diagnosis(
            chains=drawn.chains,
            draws=drawn.stop - drawn.start,
            parameters=self._size,
            names=tuple(self._texts[place] for place in worst),
            mean=mean,
            sd=sd,
            r_hat=r_hat,
            ess_bulk=bulk,
            ess_tail=tail,
            traced=traced,
            points=points,
            trace=trace[worst[:traced]].tobytes(),
        )


def _spread(start: int, stop: int, most: int) -> np.ndarray:
    return np.linspace(start, stop - 1, min(stop - start, most)).astype(int)


def _chosen(sizes: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Choose elements of variables by their sizes."""
    share = min(1.0, _MOST_PARAMETERS / max(1, sum(sizes.values())))
    for name, size in sizes.items():
        count = max(1, int(share * size)) if size else 0
        yield from ((name, int(element)) for element in np.linspace(0, size - 1, count).astype(int))


def _statistics(values: np.ndarray) -> np.ndarray:
    """Give mean, standard deviation, R-hat, bulk and tail ESS: ``(5, element)``."""
    found = np.full((5, values.shape[2]), np.nan)
    # what is not finite or does not move has none
    sound = np.isfinite(values).all((0, 1))
    found[0, sound] = values[:, :, sound].mean((0, 1))
    found[1, sound] = values[:, :, sound].std((0, 1))
    sound &= found[1] > 0
    if sound.any():
        import arviz as az

        dataset = xr.Dataset({"x": (("chain", "draw", "element"), values[:, :, sound])})
        with np.errstate(all="ignore"):
            found[2:, sound] = [
                az.rhat(dataset)["x"].values,
                az.ess(dataset, method="bulk")["x"].values,
                az.ess(dataset, method="tail")["x"].values,
            ]
    return found


def _badness(statistics: np.ndarray, chains: int) -> np.ndarray:
    """Measure by how much each parameter misses the usual limits; above 1 it misses one."""
    _, _, r_hat, ess_bulk, ess_tail = statistics
    with np.errstate(divide="ignore", invalid="ignore"):
        short = [(r_hat - 1) / 0.01, 100 * chains / ess_bulk, 100 * chains / ess_tail]
    return np.max(np.nan_to_num(short, nan=0.0, posinf=1e300, neginf=0.0), axis=0)


class Looking:
    """Looks at the draws of a run now and then, in the thread that waits for them.

    ArviZ sets filters of warnings, which are the whole process's: in a thread of its own that would
    lose warnings of the user's.

    Parameters
    ----------
    so_far : callable
        Gives what has been drawn; None where that cannot be looked at.
    label : callable
        As `Ledger` takes it.
    take : callable
        Called with each `Diagnosis`.
    clock : callable
        Gives the time in seconds.
    """

    def __init__(
        self,
        so_far: Callable[[], Drawn | None],
        label: Label,
        take: Callable[[Diagnosis], Any],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._so_far = so_far
        self._ledger = Ledger(label)
        self._take = take
        self._clock = clock
        self._began = clock()
        self._spent = 0.0
        self._each = _FIRST_GUESS_S
        self._seen: Any = None
        self._broken = False

    def look(self, *, last: bool = False) -> None:
        """Look, if there is something new and it has been long enough since the last time.

        Parameters
        ----------
        last : bool
            Whether the run has ended: all parameters are looked at, if there is time for that.
        """
        now = self._clock()
        share = _SHARE * (now - self._began) - self._spent
        if self._broken or self._each > share:
            return
        try:
            self._look(whole=last and self._each * self._ledger.turns <= share)
        except Exception as error:  # noqa: BLE001  (a look never costs the run)
            self._broken = True
            tell(DisplayWarning, f"R-hat and ESS are not shown any more: {error!r}")
        self._spent += self._clock() - now

    def _look(self, *, whole: bool) -> None:
        drawn = self._so_far()
        if drawn is None or self._seen == (drawn.chains, drawn.stop):
            return
        began = self._clock()
        found = self._ledger.look(drawn, whole=whole)
        if found is None:
            return
        self._seen = (drawn.chains, drawn.stop)
        if not whole:
            self._each = self._clock() - began
        self._take(found)
