"""A run that only looks like one, for cells of notebooks: it feeds the display and draws nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cloudposterior.events import ChainReport, Phase
from cloudposterior.progress.notebook.widget import NotebookDisplay
from cloudposterior.progress.table import RunTable

EVIL = "<script>document.body.dataset.pwned = 1</script> \"quoted\" 'name' " + "n" * 140


@dataclass
class Run:
    """A run of some seconds; the chains diverge where told."""

    chains: int = 4
    title: str = "radon, sampled by pymc"
    diverging: tuple[int, ...] = ()
    dashboard: str = "http://127.0.0.1:8787/status"
    stopped: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = RunTable("run", self.title, self.chains, self.dashboard)
        self.display = NotebookDisplay(lambda: self.stopped.append(time.monotonic()))

    def wait(self, seconds: float) -> None:
        """Wait as the thread that samples does."""
        self.display.show(self.table.snapshot())
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.stopped:
            time.sleep(0.05)
            self.display.poll()

    def phase(self, name: str, seconds: float = 0.3) -> None:
        """Name a phase before the draws."""
        self.table.update(Phase(name))
        self.wait(seconds)

    def report(self, drawn: int, seconds: float = 0.25) -> None:
        """Report a number of draws of each chain, out of 2000."""
        for chain in range(self.chains):
            self.table.update(
                ChainReport(
                    chain=chain,
                    worker=f"tcp://10.0.0.{chain}:40331",
                    drawn=min(2000, drawn + 37 * chain),
                    tune=1000,
                    total=2000,
                    divergences=3 * (chain in self.diverging) * (drawn > 1000),
                    step_size=0.453,
                    gradients=15.2,
                    elapsed_s=1 + drawn / 400,
                )
            )
        self.wait(seconds)

    def end(self) -> str:
        """Say how it ended, and leave the last state."""
        how = "stopped" if self.stopped else "finished"
        self.table.update(Phase(how))
        self.display.close(self.table.snapshot())
        return how

    def go(self, seconds: float = 2.0) -> str:
        """Run from the first phase to the last state."""
        self.phase("waiting for workers")
        self.phase("sampling", 0.0)
        for drawn in range(0, 2001, 100):
            if self.stopped:
                break
            self.report(drawn, seconds / 20)
        return self.end()
