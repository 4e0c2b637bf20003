"""Whether the draws of a run on a cluster have reached the target that ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cloudposterior.operations.sample import SampleCall
from cloudposterior.operations.until import Aim, Target
from cloudposterior.progress.table import Table
from cloudposterior.samplers.peeking import peek
from cloudposterior.samplers.resolve import Resolved

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Aiming", "NoAim", "Peeks", "aim_of"]

_PEEK_EVERY_S = 1.0


class NoAim:
    """Of a run that has no target."""

    reached = False

    def look(self) -> bool:
        """Say no."""
        return False


class Aiming:
    """Looks whether what came in has reached a target, in the thread that waits for it.

    Parameters
    ----------
    aim : Aim
        The target.
    join : PyMCJoin or WholeJoin
        Where the chains come together.
    names : sequence of str
        The free variables.
    peek : callable, optional
        Fetches what is being drawn, for chains that come in only when they are whole.
    """

    def __init__(
        self,
        aim: Aim,
        join: Any,
        names: Sequence[str],
        peek: Callable[[int], None] = lambda draws: None,
    ) -> None:
        self._aim = aim
        self._join = join
        self._names = names
        self._peek = peek

    @property
    def reached(self) -> bool:
        """Whether it was reached."""
        return self._aim.reached

    @property
    def target(self) -> Target:
        """What is to be reached."""
        return self._aim.target

    @property
    def most(self) -> int:
        """How many draws each chain has at the end."""
        return self._aim.most

    @property
    def draws(self) -> int:
        """With how many draws of each chain it was reached."""
        return self._aim.draws

    @property
    def has_all(self) -> bool:
        """Whether all chains have handed over the draws with which it was reached."""
        return bool(self._join.handed_over() >= self._aim.draws)

    def look(self) -> bool:
        """Look, if that is due, and say whether it is reached."""
        join = self._join
        if join.shortest() < self._aim.draws:
            self._peek(self._aim.draws)
        return self._aim.look(join.shortest(), lambda draws: join.values(self._names, draws))

    def cut(self) -> str:
        """Leave out the draws after the target was reached, and say what came of it."""
        self._join.cut(self._aim.draws)
        return f"{self._aim.target}: reached after {self._aim.draws} draws"


class Peeks:
    """Fetches draws of chains that are drawn whole, once all of them have come far enough.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    run : str
        The key of the run.
    join : WholeJoin
        Where the draws go.
    names : sequence of str
        The variables.
    draws : int
        How many draws each chain has after tuning, at its end.
    status : callable
        Says how far the chains have come.
    """

    def __init__(
        self,
        client: Client,
        run: str,
        join: Any,
        names: Sequence[str],
        draws: int,
        status: Callable[[], Table],
    ) -> None:
        self._client = client
        self._run = run
        self._join = join
        self._names = list(names)
        self._draws = draws
        self._status = status
        self._next = 0.0

    def __call__(self, draws: int) -> None:
        """Fetch what there is, if all chains have so many draws."""
        now = time.monotonic()
        if now < self._next or not all(
            row.drawn - (row.total - self._draws) >= draws for row in self._status().rows
        ):
            return
        self._next = now + _PEEK_EVERY_S
        known = self._join.seen()
        for chains in self._client.run(
            peek, self._run, self._names, known, on_error="ignore"
        ).values():
            for chain, values in chains.items():
                # of one that has begun again since, only what is new fits
                if self._join.seen().get(chain, 0) == known.get(chain, 0):
                    self._join.see(chain, values)


def aim_of(
    call: SampleCall,
    resolved: Resolved,
    join: Any,
    *,
    client: Client,
    run: str,
    status: Callable[[], Table],
) -> Aiming | NoAim:
    """Give what looks whether a run has reached its target.

    Parameters
    ----------
    call : SampleCall
        The call, with its target.
    resolved : Resolved
        Who draws.
    join : PyMCJoin or WholeJoin
        Where the chains come together.
    client, run, status
        As for `Peeks`.

    Raises
    ------
    ValueError
        If nobody can look at the draws while they are made.
    """
    if call.until is None:
        return NoAim()
    for wrong, what in (
        (resolved.sampler not in ("pymc", "nutpie"), f"sampler {resolved.sampler}"),
        (resolved.together, "chains that talk to each other"),
        (call.arguments["trace"] is not None, "trace="),
        (call.arguments["var_names"] is not None, "var_names="),
    ):
        if wrong:
            raise ValueError(
                f"until= looks at all free variables while they are drawn, which {what} does "
                "not allow: leave one of the two out"
            )
    names = [str(rv.name) for rv in call.model.free_RVs]
    draws = int(call.arguments["draws"])
    aim = Aim(call.until, draws)
    if resolved.sampler == "pymc":
        return Aiming(aim, join, names)
    return Aiming(aim, join, names, Peeks(client, run, join, names, draws, status))
