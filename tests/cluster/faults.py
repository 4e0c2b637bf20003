"""Samplers whose workers die as a script says, and what was drawn on all workers, in a file."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from dask.base import tokenize
from distributed import Client, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from cloudposterior.samplers.protocol import Budget, Run, Segment, State

from .conftest import PATIENCE_S, Commands, started
from .stubs import Counting


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait in a worker, which has no test to fail."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)


@dataclass(frozen=True)
class Fault:
    """What happens to the worker of a chain in the midst of one of its segments.

    Attributes
    ----------
    chain, segment : int
        When it happens: both count from 0.
    does : str
        ``"kill"``, ``"suspend"``, ``"allocate"``, or ``"wait"`` for a file of that name.
    times : int
        How often.
    """

    chain: int
    segment: int
    does: str = "kill"
    times: int = 1


@dataclass(frozen=True)
class Scripted(Counting):
    """As `Counting`, with a state that counts segments, and a note of each draw that is made.

    Attributes
    ----------
    directory : str
        Where notes are, and where the client leaves a file for each segment that has come in.
    faults : tuple of Fault
        What happens; to its chain all segments before have come in by then.
    per_segment : int
        Draws of a segment.
    """

    directory: str = ""
    faults: tuple[Fault, ...] = ()
    per_segment: int = 10
    stateless: bool = False

    def start(self, model: bytes, run: Run, chains: tuple[int, ...]) -> State:
        return State(chains, 0, self.total, held=None if self.stateless else 0)

    def advance(
        self, model: bytes, run: Run, state: State, budget: Budget
    ) -> tuple[State, list[Segment]]:
        (chain,), values = state.chains, []
        number = state.drawn // self.per_segment
        needless = (Path(self.directory) / came_in(chain, number)).exists()
        if needless:
            self._note("begun-again", f"{chain} {number}")
        end = self.total if self.stateless else min(state.drawn + self.per_segment, self.total)
        self._note("lengths", f"{chain} {number} {round(1000 * budget.seconds)}")
        while (drawn := state.drawn + len(values)) < end and not budget.stopped():
            if len(values) == self.per_segment // 2:
                self._suffer(chain, number, budget)
            time.sleep(self.seconds)
            values.append(1000 * chain + drawn)
            self._note("drawn", f"{chain} {drawn}")
            budget.report(chain, drawn + 1, 0, self.total, replace(state.tally, divergences=drawn))
        whole = drawn == end
        if whole and needless:
            self._note("drawn-again", f"{chain} {number}")
        if self.stateless and not whole:
            return state, []
        segment = Segment(chain, state.drawn, len(values), {"x": np.array(values)}, [])
        held = None if self.stateless else state.held + 1
        return replace(state, drawn=drawn, held=held), [segment]

    def _note(self, name: str, line: str) -> None:
        # one write, which those of other processes do not mix with
        with (Path(self.directory) / name).open("ab", buffering=0) as file:
            file.write(f"{line}\n".encode())

    def _suffer(self, chain: int, number: int, budget: Budget) -> None:
        for fault in self.faults:
            if (fault.chain, fault.segment) != (chain, number):
                continue
            before = Path(self.directory) / came_in(chain, number - 1)
            wait_for(lambda before=before: not number or before.exists())
            if self._is_due(fault):
                self._happen(fault, budget)

    def _is_due(self, fault: Fault) -> bool:
        for time_ in range(fault.times):
            name = f"{fault.does}-{fault.chain}-{fault.segment}-{time_}-{os.getpid()}"
            mark = Path(self.directory) / name.rpartition("-")[0]
            try:
                mark.touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False

    def _happen(self, fault: Fault, budget: Budget) -> None:
        if fault.does == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.does == "suspend":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif fault.does == "allocate":
            held = [np.ones(2**24) for _ in range(40)]
            # the nanny looks now and then
            wait_for(lambda: not held)
        else:
            go = Path(self.directory) / fault.does
            wait_for(lambda: go.exists() or budget.stopped())


def came_in(chain: int, number: int) -> str:
    return f"came-in-{chain}-{number}"


@dataclass
class Notes:
    """What was drawn, by the notes of `Scripted`, and what came in.

    Attributes
    ----------
    directory : Path
        Where the notes are.
    """

    directory: Path
    segments: dict[int, list[Segment]] = field(default_factory=lambda: defaultdict(list))
    states: dict[int, State] = field(default_factory=dict)

    def __call__(self, segment: Segment, state: State) -> None:
        self.segments[segment.chain].append(segment)
        self.states[segment.chain] = state
        number = (segment.first + segment.draws - 1) // 10
        (self.directory / came_in(segment.chain, number)).touch()

    def draws(self, chain: int) -> list[int]:
        parts = [segment.samples["x"] for segment in self.segments[chain]]
        return np.concatenate(parts).tolist() if parts else []

    def _lines(self, name: str) -> list[tuple[int, ...]]:
        file = self.directory / name
        text = file.read_text() if file.exists() else ""
        return [tuple(map(int, line.split())) for line in text.splitlines()]

    @property
    def drawn(self) -> Counter[tuple[int, ...]]:
        """How often each draw of each chain was made."""
        return Counter(self._lines("drawn"))

    @property
    def begun_again(self) -> list[tuple[int, ...]]:
        """Chain and number of segments that were begun after they had come in."""
        return self._lines("begun-again")

    def lengths_ms(self, chain: int, number: int) -> list[int]:
        """How long a segment was to take, each time that it was begun."""
        return [ms for *of, ms in self._lines("lengths") if of == [chain, number]]

    @property
    def drawn_again(self) -> list[tuple[int, ...]]:
        """Those of them that were drawn to their end."""
        return self._lines("drawn-again")

    def has(self, name: str) -> bool:
        return any(self.directory.glob(name))

    def let(self, name: str) -> None:
        (self.directory / name).touch()


def marks(notes: Notes, does: str) -> list[str]:
    return sorted(path.name for path in notes.directory.glob(f"{does}-*"))


def extra_draws(notes: Notes) -> int:
    """Count the draws that were made more than once."""
    return sum(count - 1 for count in notes.drawn.values())


def expected(chain: int, total: int) -> list[int]:
    return [1000 * chain + i for i in range(total)]


def pids(client: Any) -> dict[str, int]:
    """The processes of workers by address."""
    found: dict[str, int] = client.run(os.getpid, on_error="ignore")
    return found


# whoever starts workers by a command has the stubs there, too
PATHS = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}


@dataclass(frozen=True)
class Pool:
    """Workers without nannies, which do not always come back from what happens here."""

    client: Client
    commands: Commands

    def fill(self, workers: int) -> Client:
        """Have so many workers; give the client."""
        self.commands.running[:] = [of for of in self.commands.running if of.poll() is None]
        for _ in range(workers - len(self.commands.running) + 1):
            self.commands.worker(self.client.scheduler.address, **PATHS)
        self.client.wait_for_workers(workers, timeout=PATIENCE_S)
        return self.client


@contextmanager
def pool_of_workers(directory: Path) -> Iterator[Pool]:
    """Give workers, as many as a test asks for, and end them."""
    with started(directory) as commands:
        address = commands.scheduler(**PATHS)
        with Client(address, set_as_default=False) as client:
            yield Pool(client, commands)


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something while a run lasts; what fails there fails here."""
    errors: list[BaseException] = []

    def acting() -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=acting)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]


# PyMC's own samplers ------------------------------------------------------------------------------


def begun_mark(directory: Path, key: str) -> Path:
    """The file that says that the client knows who draws a task."""
    return directory / f"begun-{tokenize(key)}"


@dataclass(frozen=True)
class Kills(WorkerPlugin):  # type: ignore[misc]
    """Ends workers in the midst of PyMC's draws, those that come later included.

    Attributes
    ----------
    directory : str
        Where a file is left for each death, and where the client says which draws have come in.
    chains : tuple of (int, int)
        Chain, and the draw in whose segment its worker dies, tuning included.
    times : int
        How often each.
    """

    directory: str
    chains: tuple[tuple[int, int], ...]
    times: int = 1

    name = "kills"

    def setup(self, worker: Any) -> None:
        from cloudposterior.samplers import pymc_chains

        own = Kills._own.setdefault("draw", pymc_chains._draw)

        def draw(prepared: Any, state: State, budget: Budget) -> Any:
            mark = self._next_death(state)
            if mark is not None:
                self._die(mark, state)
            return own(prepared, state, budget)

        pymc_chains._draw = draw

    def teardown(self, worker: Any) -> None:
        from cloudposterior.samplers import pymc_chains

        pymc_chains._draw = Kills._own.pop("draw")

    _own: ClassVar[dict[str, Any]] = {}

    def _next_death(self, state: State) -> Path | None:
        """The file to leave for a death that is due here."""
        (chain,) = state.chains
        marks = (
            Path(self.directory) / f"killed-{of}-{at}-{number}"
            for of, at in self.chains
            for number in range(self.times)
            if of == chain and state.drawn >= at
        )
        return next((mark for mark in marks if not mark.exists()), None)

    def _die(self, mark: Path, state: State) -> None:
        """End this worker, but for a task that nobody waits for any more."""
        key = str(get_worker().get_current_task())
        begun = begun_mark(Path(self.directory), key)
        here = Path(self.directory) / f"here-{state.chains[0]}-{state.drawn}"
        died = Path(self.directory) / f"died-{tokenize(key)}"
        # until the client knows who draws, and has what was drawn before; where Dask has begun the
        # task again by itself, the client is about to take it back
        wait_for(
            lambda: (
                _taken_back(key)
                or (begun.exists() and (not state.drawn or here.exists()) and not died.exists())
            )
        )
        if not _taken_back(key):
            died.touch()
            mark.touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)


def _taken_back(key: str) -> bool:
    """Whether nobody waits any more for the task that this worker computes."""
    task = get_worker().state.tasks.get(key)
    return task is None or task.state != "executing"
