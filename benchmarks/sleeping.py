"""A sampler that sleeps: everything but the draws is the product, and Dask."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import dask
import numpy as np
from distributed import Client

from cloudposterior.cluster.drive import Drive
from cloudposterior.samplers.protocol import Budget, Run, Sampler, Segment, State


@dataclass(frozen=True)
class Sleeping:
    """Sleeps as long as a segment may take.

    Attributes
    ----------
    segments : int
        How many segments make a chain.
    segment_bytes : int, default 0
        Size of a segment's draws.
    state_bytes : int
        Size of the state, 9 kB for the radon model.
    """

    segments: int
    segment_bytes: int = 0
    state_bytes: int = 9_000

    def start(self, model: bytes, run: Run, chains: tuple[int, ...]) -> State:
        """Give the state before the first segment."""
        return State(chains, 0, self.segments, bytes(self.state_bytes))

    def prepare(self, model: bytes, run: Run) -> None:
        """Compile nothing."""

    def advance(
        self, model: bytes, run: Run, state: State, budget: Budget
    ) -> tuple[State, list[Segment]]:
        """Sleep for a segment, and say when that began and ended."""
        began = time.perf_counter()
        time.sleep(budget.seconds)
        samples = {"x": np.full((1, self.segment_bytes // 8), float(state.drawn))}
        stats = {"began": np.array([began]), "ended": np.array([time.perf_counter()])}
        segment = Segment(state.chains[0], state.drawn, 1, samples, [stats])
        return replace(state, drawn=state.drawn + 1), [segment]


@contextmanager
def segments_of(seconds: float) -> Iterator[None]:
    """Make all segments of one length, the first one too."""
    names = ("segment", "first-segment")
    with dask.config.set(
        {f"cloudposterior.cluster.{name}": f"{seconds * 1e3:.0f}ms" for name in names}
    ):
        yield


def draw_segments(client: Client, sampler: Sampler, chains: int) -> Iterable[Segment]:
    """Draw chains through the driver, as a run does that samples nothing else.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    sampler : Sampler
        The sampler.
    chains : int
        How many chains.
    """
    key = f"{os.getpid()}-{time.perf_counter_ns()}"
    segments: list[Segment] = []
    drive = Drive(client, sampler, b"", Run(key, key, key, b"", 0, chains, {}), name="stub")
    drive.draw([(chain,) for chain in range(chains)], lambda segment, _: segments.append(segment))
    return segments
