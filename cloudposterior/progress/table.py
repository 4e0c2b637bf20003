"""The table of a run, without any display: events come in, rows and lines of text go out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cloudposterior.events import ChainReport, Diagnosis, Event, Phase, literal

__all__ = ["COLUMNS", "ESS_LIMIT", "R_HAT_LIMIT", "Row", "RunTable", "Table", "health_of", "spoken"]

COLUMNS = ("Progress", "Chain", "Draws", "Divergences", "Step Size", "Gradients/Draw", "State")
"""What is shown of each chain."""

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
        ``"failed"``, ``"stopped"``, ``"restarting"``.
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
    again : int
        How often it was begun again from its start, since its worker was lost.

    Examples
    --------
    >>> from cloudposterior.progress.table import Row
    >>> Row(0, "sampling", "tcp://10.0.0.7:41235", drawn=1840, total=2000).state
    'sampling tcp://10.0.0.7:41235'
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
    again: int = 0

    @property
    def active(self) -> bool:
        """Whether it is being drawn."""
        return self.phase in ("compiling", "tuning", "sampling")

    @property
    def state(self) -> str:
        """What it does, in words, and where."""
        words = [self.phase, self.worker if self.active else ""]
        if self.again:
            words.append(
                "(begun again)" if self.again == 1 else f"(begun {self.again} times again)"
            )
        return literal(" ".join(filter(None, words)))

    def texts(self) -> tuple[str, ...]:
        """Give what stands beside the bar, under the names of the columns.

        Returns
        -------
        tuple of str
            Chain, draws, divergences, step size, gradients for each draw, state.
        """
        return (
            str(self.chain),
            str(self.drawn),
            str(self.divergences),
            "" if self.step_size is None else f"{self.step_size:.2g}",
            "" if self.gradients is None else f"{self.gradients:.0f}",
            self.state,
        )


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
    health : str
        What the draws so far are worth, in words; empty where nobody has looked at them yet.

    Examples
    --------
    >>> run = cp.submit(model, draws=100, tune=100, chains=2, cluster=client)
    >>> idata = run.result()
    >>> table = run.status()
    >>> table.ended, table.finished, [row.total for row in table.rows]
    (True, 2, [200, 200])
    """

    run: str
    title: str
    phase: str
    detail: str
    ended: bool
    rows: tuple[Row, ...]
    elapsed_s: float
    remaining_s: float | None
    health: str = ""

    @property
    def has_rows(self) -> bool:
        """Whether there is anything to say of single chains."""
        return any(row.drawn or row.worker for row in self.rows)

    @property
    def drawing(self) -> bool:
        """Whether a chain has got to its draws."""
        return any(row.phase in ("tuning", "sampling", "finished") for row in self.rows)

    @property
    def active(self) -> int:
        """How many chains are being drawn."""
        return sum(row.active for row in self.rows)

    @property
    def finished(self) -> int:
        """How many chains are drawn."""
        return sum(row.phase == "finished" for row in self.rows)

    def lines(self) -> list[str]:
        """Give the lines above the rows.

        Returns
        -------
        list of str
            What runs, how many chains there are, for how long it has been under way and will be,
            and what the draws are worth.
        """
        counts = (
            f"Total Chains: {len(self.rows)}   Active Chains: {self.active}   "
            f"Finished Chains: {self.finished}"
        )
        now = f"{self.phase}{f' ({self.detail})' if self.detail else ''}"
        lines = [
            self.title,
            *([counts] if self.rows else []),
            f"{now[:1].upper()}{now[1:]} for {spoken(self.elapsed_s)}",
        ]
        if self.ended:
            lines[-1] = f"{now[:1].upper()}{now[1:]} after {spoken(self.elapsed_s)}"
        elif self.remaining_s is not None:
            lines[-1] += f"   Estimated Time to Completion: {spoken(self.remaining_s)}"
        # names are anybody's, and a terminal shows them
        return [*map(literal, [*lines, self.health] if self.health else lines)]


@dataclass
class _Chain:
    """What is known of a chain."""

    report: ChainReport | None = None
    phase: str = "waiting"
    worker: str = ""
    again: int = 0


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
    clock : callable
        Gives the time in seconds.
    """

    run: str
    title: str
    chains: int
    clock: Callable[[], float] = time.monotonic
    phase: Phase = field(default_factory=lambda: Phase("starting"))
    diagnosis: Diagnosis | None = None

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._ended: float | None = None
        self._followed: Table | None = None
        self._chains = [_Chain() for _ in range(self.chains)]

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self._ended is not None

    def update(self, event: Event) -> None:
        """Take an event in; what is older than what is known changes nothing."""
        if isinstance(event, ChainReport):
            self._take_report(event)
        elif isinstance(event, Diagnosis):
            self.diagnosis = event
        elif not isinstance(event, Phase):
            return
        elif event.chain is None:
            self._take_phase(event)
        elif 0 <= event.chain < self.chains:
            self._take_phase_of_chain(self._chains[event.chain], event)

    def _take_phase_of_chain(self, chain: _Chain, phase: Phase) -> None:
        if phase.name == "restarting":
            # what was told of it counts no more, or it would count twice
            chain.report, chain.again = None, chain.again + 1
        # a chain that compiles once more on another worker does not lose its draws
        chain.phase = phase.name
        chain.worker = phase.worker or chain.worker

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
        if chain.report is None or _is_news(report, chain.report):
            chain.report = report
            chain.phase = _phase_of(report)
        elif chain.phase == "compiling":
            chain.phase = _phase_of(report)

    def cut(self, draws: int) -> list[ChainReport]:
        """Give reports of the chains as whole after so many draws, not counting tuning."""
        reports = [chain.report for chain in self._chains if chain.report is not None]
        return [replace(of, drawn=of.tune + draws, total=of.tune + draws) for of in reports]

    def follow(self, other: Table) -> None:
        """Show the chains of a run that somebody else tells of."""
        self._followed = other

    def snapshot(self) -> Table:
        """Give the table as it stands."""
        now = self.clock() if self._ended is None else self._ended
        rows = tuple(self._row(number, chain) for number, chain in enumerate(self._chains))
        if self._followed is not None:
            rows = self._followed.rows
        return Table(
            run=self.run,
            title=self.title,
            phase=self.phase.name,
            detail=self.phase.detail,
            ended=self.ended,
            rows=rows,
            elapsed_s=now - self._began,
            remaining_s=None if self.ended else _remaining(rows),
            health=self._health(),
        )

    def _health(self) -> str:
        """Put the latest diagnosis in words, unless the run went on after it and has ended."""
        if self._followed is not None:
            return self._followed.health
        found = self.diagnosis
        if found is None or not found.names:
            return ""
        reports = [chain.report for chain in self._chains if chain.report is not None]
        behind = any(of.drawn - of.tune > found.draws for of in reports)
        return "" if self.ended and behind else health_of(found)

    def _row(self, number: int, chain: _Chain) -> Row:
        phase = chain.phase
        if self.ended and phase in ("waiting", "restarting", "compiling", "tuning", "sampling"):
            phase = self.phase.name
        report = chain.report
        if report is None:
            whole = float(phase == "finished")
            return Row(number, phase, chain.worker, fraction=whole, again=chain.again)
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
            again=chain.again,
        )


R_HAT_LIMIT = 1.01
ESS_LIMIT = 100
"""The usual limits (Vehtari et al., 2021): R-hat below, ESS above this for each chain."""


def health_of(found: Diagnosis) -> str:
    """Say in a line what draws are worth: the worst R-hat, the least ESS, and how many miss."""
    enough = ESS_LIMIT * len(found.chains)
    columns = list(zip(found.names, found.r_hat, found.ess_bulk, found.ess_tail, strict=True))
    # a parameter that does not move has neither
    mixing = [(r_hat, name) for name, r_hat, _, _ in columns if r_hat == r_hat]
    sizes = [
        (min(bulk, tail), name) for name, _, bulk, tail in columns if bulk + tail == bulk + tail
    ]
    if not sizes:
        return f"After {found.draws} draws: too early to tell"
    missing = sum(
        r_hat > R_HAT_LIMIT or bulk < enough or tail < enough for _, r_hat, bulk, tail in columns
    )
    least, its = min(sizes)
    said = f"ESS from {least:.0f} ({_short(its)})"
    verdict = f"{missing} of {len(columns)} outside the usual limits ({R_HAT_LIMIT}, {enough})"
    if not mixing:
        return f"After {found.draws} draws: {said}; R-hat takes more than one chain"
    highest, whose = max(mixing)
    said = f"R-hat up to {highest:.3f} ({_short(whose)}), {said}"
    return f"After {found.draws} draws: {said}; {verdict if missing else 'all within the limits'}"


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}\N{HORIZONTAL ELLIPSIS}"


def _is_whole(report: ChainReport) -> bool:
    return report.drawn >= report.total


def _is_news(report: ChainReport, known: ChainReport) -> bool:
    if _is_whole(known):
        # it stays so, at its end; one that was cut had been drawn further
        return _is_whole(report) and report.drawn <= known.drawn
    # a chain that was lost with its worker begins again; its bar waits until it has caught up
    return _is_whole(report) or report.drawn >= known.drawn


def _phase_of(report: ChainReport) -> str:
    if _is_whole(report):
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
