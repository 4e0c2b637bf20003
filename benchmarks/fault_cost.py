"""What it costs that workers die: radon on a local cluster, with a worker killed every few seconds.

The same run is made undisturbed first, and both must end with the same bits. *Extra work* is what
was drawn and lost with a worker, over all draws of the run: the draws that were reported when it
died, less those that had come in. Time is shown as well; it holds what a new worker takes to import
PyMC and to compile.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from distributed import Client, LocalCluster
from rows import Row, run_script

import cloudposterior as cp
from cloudposterior.cluster.drive import Drive
from cloudposterior.cluster.line import Line
from cloudposterior.demo import radon_model
from cloudposterior.events import ChainReport, WorkerLost
from cloudposterior.posterior import to_tree
from cloudposterior.progress.view import RunView

BAR = 1.20
# about a minute
SIZES = {"draws": (45_000, 100), "tune": (1000, 50), "chains": (4, 2), "every": (5.0, 60.0)}


class Lost:
    """Counts the draws that go with workers."""

    def __init__(self) -> None:
        self.draws, self.workers = 0, 0
        self._reported: dict[int, int] = {}
        self._drive_hear, self._go_on = Drive.hear, Drive._go_on_from_state
        self._take = RunView.take

    def __enter__(self) -> Lost:
        def taking(view: Any, event: Any) -> None:
            if isinstance(event, ChainReport):
                before = self._reported.get(event.chain, 0)
                self._reported[event.chain] = max(before, event.drawn)
            self._take(view, event)

        def hearing(drive: Drive, event: Any) -> None:
            self.workers += isinstance(event, WorkerLost)
            self._drive_hear(drive, event)

        def going_on(drive: Drive, line: Line) -> None:
            self.draws += max(0, self._reported.get(line.chains[0], 0) - line.drawn)
            self._reported[line.chains[0]] = line.drawn
            self._go_on(drive, line)

        RunView.take, Drive.hear, Drive._go_on_from_state = taking, hearing, going_on  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        RunView.take = self._take  # type: ignore[method-assign]
        Drive.hear, Drive._go_on_from_state = self._drive_hear, self._go_on  # type: ignore[method-assign]


def kill_workers(client: Client, every_s: float, ended: threading.Event) -> None:
    """Kill a worker every few seconds, whichever it is."""
    choice = random.Random(1)
    while not ended.wait(every_s):
        processes = client.run(os.getpid, on_error="ignore")
        if processes:
            os.kill(choice.choice(sorted(processes.values())), signal.SIGKILL)


def sample(client: Client, asked: argparse.Namespace) -> tuple[Any, float]:
    """Sample radon; give the result and the time in seconds."""
    began = time.perf_counter()
    result = cp.sample(
        radon_model(),
        draws=asked.draws,
        tune=asked.tune,
        chains=asked.chains,
        random_seed=1,
        nuts_sampler="pymc",
        cluster=client,
        cache=False,
        progressbar=False,
        compute_convergence_checks=False,
    )
    return result, time.perf_counter() - began


def measure(asked: argparse.Namespace) -> Iterator[Row]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        undisturbed, alone_s = sample(client, asked)
        ended = threading.Event()
        killer = threading.Thread(target=kill_workers, args=(client, asked.every, ended))
        with Lost() as lost:
            killer.start()
            try:
                disturbed, killed_s = sample(client, asked)
            finally:
                ended.set()
                killer.join()
    for name, values in to_tree(undisturbed)["posterior"].data_vars.items():
        assert np.array_equal(values, to_tree(disturbed)["posterior"][name]), name
    total = asked.chains * (asked.draws + asked.tune)
    what = f"a worker killed every {asked.every:g} s, {lost.workers} lost"
    made = total + lost.draws
    yield Row(what, made, total, "the run's own", unit="draws", bar=BAR)
    yield Row(what, killed_s, alone_s, "none killed")


if __name__ == "__main__":
    run_script(__doc__, measure, SIZES)
