"""What event loops see of tasks and results: bytes."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from importlib.abc import MetaPathFinder
from typing import Any

import numpy as np
import pytest
from dask.sizeof import sizeof
from distributed import Client, LocalCluster

from cloudposterior.cluster import tasks
from cloudposterior.cluster.sealed import Sealed, opened, submit
from cloudposterior.samplers.protocol import State
from cloudposterior.samplers.pymc_chains import PyMCChains
from cloudposterior.shipping import pack_arguments, pack_model

from . import models
from .conftest import NO_DASHBOARD
from .stubs import run_of

MANY = 10**5


@pytest.mark.once
@pytest.mark.parametrize("apart", [False, True], ids=["in one piece", "buffers apart"])
def test_sealed_value_travels_as_it_is(apart: bool) -> None:
    value = {"large": np.arange(MANY), "columns": np.ones((300, 400)).T, "small": np.arange(3)}
    sealed: Any = Sealed(value, copied=False)
    # twice, as a worker hands on what it was handed
    for _ in range(2):
        buffers: list[Any] = []
        pickled = pickle.dumps(sealed, 5, buffer_callback=buffers.append if apart else None)
        assert len(buffers) == (2 if apart else 0)
        sealed = pickle.loads(pickled, buffers=[bytearray(b.raw()) for b in buffers])
    again = opened(sealed)
    for name, array in value.items():
        assert np.array_equal(again[name], array)
        assert again[name].flags.writeable
        assert again[name].flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.once
def test_result_is_not_copied_and_an_argument_is() -> None:
    array = np.zeros(MANY)
    shared, copied = Sealed(array, copied=False), Sealed(array)
    array[0] = 1.0
    assert shared.opened()[0] == 1.0
    assert copied.opened()[0] == 0.0


@pytest.mark.once
def test_dask_knows_how_large_a_sealed_value_is() -> None:
    array = np.zeros(MANY)
    for copied in (False, True):
        assert array.nbytes <= sizeof(Sealed(array, copied=copied)) < array.nbytes + 1000


def watchers() -> tuple[Callable[[], str], Callable[[], set[str]]]:
    """Give what notes, in a process, which threads import PyMC and what it needs, and what tells.

    They travel by value: this module imports PyMC.
    """

    def watch() -> str:
        class Watching(MetaPathFinder):
            def find_spec(self, name: str, *_: Any) -> None:
                if name.partition(".")[0] in ("pymc", "pytensor", "xarray"):
                    sys.importing_threads.add(threading.current_thread().name)  # type: ignore[attr-defined]

        assert "pymc" not in sys.modules
        sys.importing_threads = set()  # type: ignore[attr-defined]
        sys.meta_path.insert(0, Watching())
        return threading.current_thread().name

    def told() -> set[str]:
        found: set[str] = sys.importing_threads  # type: ignore[attr-defined]
        return found

    return watch, told


def test_no_event_loop_imports_pymc_for_what_comes_from_another_worker() -> None:
    model = models.normal()
    arguments = pack_arguments({"draws": 5, "tune": 5}, model)
    run = replace(run_of(uuid.uuid4().hex, chains=1), arguments=arguments)
    packed, sampler = pack_model(model), PyMCChains()
    watch, told = watchers()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, **NO_DASHBOARD) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        loops = client.run(watch)
        here, there = loops

        def on(worker: str, function: Any, *args: Any) -> Any:
            return submit(client, function, *args, workers=worker, pure=False)

        begun = on(here, tasks.start, sampler, packed, run, (0,))
        half = on(here, tasks.advance, sampler, packed, run, begun, 0.0)
        rest = on(there, tasks.advance, sampler, packed, run, half, 60.0)
        state, segments = opened(client.gather(rest))
        imported = client.run(told)
    assert isinstance(state, State)
    assert state.finished and segments[0].first == 1
    for worker, threads in imported.items():
        # the task's does, so that this can fail
        assert threads and loops[worker] not in threads


@pytest.mark.once
@pytest.mark.parametrize(
    "ours",
    [
        "import_module, 'cloudposterior.identity'",
        "sealed._call, sealed.Sealed(lambda: import_module('pymc.distributions') and None)",
    ],
    ids=["tokens", "a task"],
)
def test_pymc_may_be_halfway_imported_in_another_thread(ours: str) -> None:
    program = f"""
        import sys, threading
        from concurrent.futures import ThreadPoolExecutor
        from importlib import import_module
        from importlib.abc import MetaPathFinder

        halfway = threading.Event()

        class Watching(MetaPathFinder):
            def find_spec(self, name, *_):
                if name == "pymc.pytensorf":
                    halfway.set()

        sys.meta_path.insert(0, Watching())
        from cloudposterior.cluster import sealed

        with ThreadPoolExecutor(2) as pool:
            theirs = pool.submit(import_module, "pymc")
            assert halfway.wait(60)
            ours = pool.submit({ours})
            theirs.result(), ours.result()
    """
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
