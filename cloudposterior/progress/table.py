"""The table of a run, without any display: events come in, rows and lines of text go out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cloudposterior.events import ChainReport, Phase

__all__ = ["Row", "RunTable", "Table"]

_ENDED = ("finished", "stopped", "failed", "cached result")


@dataclass(frozen=True)
class Row:
    """One chain as it is shown.

    Attributes
    ----------
    chain : int
        Its number.
    phase : str
        What it does: ``"waiting"``, ``"compiling"``, ``"tuning"``, ``"sampling"``, ``"finished"``,
        ``"failed"``, ``"stopped"``.
    worker : str
        The worker that draws it; empty where it is not known yet.
    fraction : float
        How much of it is drawn, from 0 to 1.
    drawn, total : int
        Draws that were made and that are to be made, tuning included.
    divergences : int
        After tuning.
    step_size, gradients : float or None
        The present step size, and gradients for each draw; None where the sampler has none.
    draws_per_s : float or None
        How fast it is drawn; None before the first draw.
    """

    chain: int
    phase: str = "waiting"
    worker: str = ""
    fraction: float = 0.0
    drawn: int = 0
    total: int = 0
    divergences: int = 0
    step_size: float | None = None
    gradients: float | None = None
    draws_per_s: float | None = None

    @property
    def active(self) -> bool:
        """Whether it is being drawn."""
        return self.phase in ("compiling", "tuning", "sampling")


@dataclass(frozen=True)
class Table:
    """A run at one moment, ready to be shown anywhere.

    Attributes
    ----------
    run : str
        Tells it from others.
    title : str
        The model and what is done with it.
    phase : str
        What the run does, in words.
    detail : str
        What else there is to say of that.
    ended : bool
        Whether nothing will change any more.
    rows : tuple of Row
        The chains, in order.
    elapsed_s : float
        For how long the run has been under way, in seconds.
    remaining_s : float or None
        How long it will take yet; None where nobody can say.
    dashboard : str
        The address of the Dask dashboard; empty where there is none.
    """

    run: str
    title: str
    phase: str
    detail: str
    ended: bool
    rows: tuple[Row, ...]
    elapsed_s: float
    remaining_s: float | None
    dashboard: str

    @property
    def active(self) -> int:
        """How many chains are being drawn."""
        return sum(row.active for row in self.rows)

    @property
    def finished(self) -> int:
        """How many chains are drawn."""
        return sum(row.phase == "finished" for row in self.rows)

    def lines(self) -> list[str]:
        """Give the lines above the rows."""
        counts = (
            f"Total Chains: {len(self.rows)}   Active Chains: {self.active}   "
            f"Finished Chains: {self.finished}"
        )
        now = f"{self.phase}{f' ({self.detail})' if self.detail else ''}"
        lines = [self.title, counts, f"{now[:1].upper()}{now[1:]} for {spoken(self.elapsed_s)}"]
        if self.ended:
            lines[-1] = f"{now[:1].upper()}{now[1:]} after {spoken(self.elapsed_s)}"
        elif self.remaining_s is not None:
            lines[-1] += f"   Estimated Time to Completion: {spoken(self.remaining_s)}"
        return lines


@dataclass
class _Chain:
    """What is known of a chain."""

    report: ChainReport | None = None
    phase: str = "waiting"
    worker: str = ""


@dataclass
class RunTable:
    """What is known of a run. Takes events in any order and any number; nothing counts twice.

    Parameters
    ----------
    run : str
        Tells it from others.
    title : str
        The model and what is done with it.
    chains : int
        How many there are.
    dashboard : str
        The address of the Dask dashboard; empty where there is none.
    clock : callable
        Gives the time in seconds.
    """

    run: str
    title: str
    chains: int
    dashboard: str = ""
    clock: Callable[[], float] = time.monotonic
    phase: Phase = field(default_factory=lambda: Phase("starting"))

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._ended: float | None = None
        self._chains = [_Chain() for _ in range(self.chains)]

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self._ended is not None

    def update(self, event: ChainReport | Phase) -> None:
        """Take an event in; what is older than what is known changes nothing."""
        if isinstance(event, ChainReport):
            self._take_report(event)
        elif event.chain is None:
            self._take_phase(event)
        elif 0 <= event.chain < self.chains:
            chain = self._chains[event.chain]
            # a chain that compiles once more on another worker does not lose its draws
            chain.phase = event.name
            chain.worker = event.worker or chain.worker

    def _take_phase(self, phase: Phase) -> None:
        if self.ended and phase.name not in _ENDED:
            return
        self.phase = phase
        if phase.name in _ENDED and self._ended is None:
            self._ended = self.clock()

    def _take_report(self, report: ChainReport) -> None:
        if not 0 <= report.chain < self.chains:
            return
        chain = self._chains[report.chain]
        chain.worker = report.worker or chain.worker
        # a chain that was lost with its worker begins again; its bar waits until it has caught up
        if chain.report is None or report.drawn >= chain.report.drawn:
            chain.report = report
            chain.phase = _phase_of(report)
        elif chain.phase == "compiling":
            chain.phase = _phase_of(report)

    def snapshot(self) -> Table:
        """Give the table as it stands."""
        now = self.clock() if self._ended is None else self._ended
        rows = tuple(self._row(number, chain) for number, chain in enumerate(self._chains))
        return Table(
            run=self.run,
            title=self.title,
            phase=self.phase.name,
            detail=self.phase.detail,
            ended=self.ended,
            rows=rows,
            elapsed_s=now - self._began,
            remaining_s=None if self.ended else _remaining(rows),
            dashboard=self.dashboard,
        )

    def _row(self, number: int, chain: _Chain) -> Row:
        phase = chain.phase
        if self.ended and phase in ("waiting", "compiling", "tuning", "sampling"):
            phase = self.phase.name
        report = chain.report
        if report is None:
            return Row(number, phase, chain.worker, fraction=float(phase == "finished"))
        return Row(
            chain=number,
            phase=phase,
            worker=chain.worker,
            fraction=report.drawn / report.total if report.total else 0.0,
            drawn=report.drawn,
            total=report.total,
            divergences=report.divergences,
            step_size=report.step_size,
            gradients=report.gradients,
            draws_per_s=report.drawn / report.elapsed_s if report.elapsed_s > 0 else None,
        )


def _phase_of(report: ChainReport) -> str:
    if report.drawn >= report.total:
        return "finished"
    return "tuning" if report.drawn < report.tune else "sampling"


def _remaining(rows: tuple[Row, ...]) -> float | None:
    """Estimate the time to the end: what is left of all chains, at the pace of those at work."""
    at_work = [(row, row.draws_per_s) for row in rows if row.active and row.draws_per_s]
    if not at_work:
        return None
    typical = max(row.total for row in rows)
    left = sum((row.total or typical) - row.drawn for row in rows)
    slowest = max((row.total - row.drawn) / pace for row, pace in at_work)
    return max(left / sum(pace for _, pace in at_work), slowest)


def spoken(seconds: float) -> str:
    """Say a time in seconds as people do."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} second{'s' * (whole != 1)}"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
