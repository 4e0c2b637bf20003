"""Workers that note what they draw, one draw a segment, and wait where they are told to."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin

PATIENCE_S = 120


@dataclass
class Held(WorkerPlugin):  # type: ignore[misc]
    """Has the chains of PyMC's sampler wait, in all workers and those that come later.

    Parameters
    ----------
    directory : str
        Where it notes what is drawn, and looks for what it is told.
    """

    directory: str
    name = "held"

    def setup(self, worker: Worker) -> None:
        from cloudposterior.samplers import pymc_chains

        self._own = pymc_chains._draw
        pymc_chains._draw = self._draw

    def teardown(self, worker: Worker) -> None:
        from cloudposterior.samplers import pymc_chains

        pymc_chains._draw = self._own

    def __reduce__(self) -> Any:
        return type(self), (self.directory,)

    def _draw(self, prepared: Any, state: Any, budget: Any) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while state.drawn >= self._until() and not budget.stopped():
            assert time.monotonic() < deadline, "held for too long"
            time.sleep(0.005)
        after, segments = self._own(prepared, state, replace(budget, seconds=0.0))
        with Path(self.directory, "drawn").open("a") as file:
            file.write(f"{state.chains[0]} {state.drawn} {after.drawn}\n")
        if Path(self.directory, "fail").exists() and after.drawn > 15 and state.chains[0] == 1:
            raise ValueError("scripted")
        return after, segments

    def _until(self) -> float:
        try:
            return float(Path(self.directory, "until").read_text() or 0)
        except FileNotFoundError:
            return float("inf")


@dataclass
class Script:
    """Says in the client what held workers do, and reads what they did."""

    directory: Path

    def hold(self, draws: int = 0) -> None:
        """Have each chain wait once it has so many draws, tuning included."""
        new = self.directory / "new"
        new.write_text(str(draws))
        new.rename(self.directory / "until")

    def go_on(self) -> None:
        (self.directory / "until").unlink(missing_ok=True)

    def fail(self) -> None:
        """Have chain 1 fail in the middle of its draws."""
        (self.directory / "fail").touch()

    def mend(self) -> None:
        (self.directory / "fail").unlink(missing_ok=True)

    def reached(self, draws: int) -> bool:
        """Tell whether two chains have so many draws."""
        return all(self.drawn()[chain, draws - 1] for chain in range(2))

    def drawn(self) -> Counter[tuple[int, int]]:
        """Count how often each draw of each chain was made."""
        file = self.directory / "drawn"
        lines = file.read_text().splitlines() if file.exists() else []
        counted: Counter[tuple[int, int]] = Counter()
        for chain, first, last in (map(int, line.split()) for line in lines):
            counted.update((chain, draw) for draw in range(first, last))
        return counted
