"""What a task is held to while it runs beside others of its process."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import numba
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from cloudposterior.samplers.surroundings import one_thread

FREE = 2
"""Threads outside of tasks, on a machine of one core too."""


@pytest.fixture
def openmp() -> Iterator[Any]:
    """A library of OpenMP, whose setting each thread has for itself; BLAS is set free."""
    try:
        library = ctypes.CDLL("libgomp.so.1")
    except OSError:
        pytest.skip("no library of OpenMP here")
    # this thread is the only one that threadpoolctl obeys from now on
    with threadpool_limits(FREE, user_api="blas"), threadpool_limits(FREE, user_api="openmp"):
        yield library


def blas() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


class Task:
    """Is inside of `one_thread` in a thread of its own, from `enter` to `leave`."""

    def __init__(self, openmp: Any) -> None:
        self._openmp = openmp
        self._entered, self._leaving = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: dict[str, tuple[int, int]] = {}

    def _run(self) -> None:
        self._openmp.omp_set_num_threads(FREE)
        self._look("before")
        with one_thread():
            self._look("inside")
            self._entered.set()
            self._leaving.wait(30)
            self._look("at the end")
        self._look("after")

    def _look(self, when: str) -> None:
        self.seen[when] = self._openmp.omp_get_max_threads(), numba.get_num_threads()

    def enter(self) -> Task:
        self._thread.start()
        assert self._entered.wait(30)
        return self

    def leave(self) -> None:
        self._leaving.set()
        self._thread.join(30)
        assert self.seen["inside"] == self.seen["at the end"] == (1, 1)
        assert self.seen["after"] == self.seen["before"] == (FREE, numba.config.NUMBA_NUM_THREADS)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_each_thread_is_held_until_it_leaves(openmp: Any, order: tuple[int, int]) -> None:
    assert blas() == {FREE}
    tasks = [Task(openmp).enter(), Task(openmp).enter()]
    assert blas() == {1}
    # where no task runs nothing changes
    assert openmp.omp_get_max_threads() == FREE
    tasks[order[0]].leave()
    assert blas() == {1}
    tasks[order[1]].leave()
    assert blas() == {FREE}


def test_blas_set_free_meanwhile_is_held_again_by_the_next(openmp: Any) -> None:
    first = Task(openmp).enter()
    # as a library that is loaded while a task runs
    threadpool_limits(FREE, user_api="blas")
    second = Task(openmp).enter()
    assert blas() == {1}
    second.leave()
    first.leave()
    assert blas() == {FREE}


def test_threads_are_given_back_after_an_error(openmp: Any) -> None:
    with pytest.raises(ValueError, match="scripted"), one_thread():
        assert blas() == {openmp.omp_get_max_threads()} == {1}
        raise ValueError("scripted")
    assert blas() == {openmp.omp_get_max_threads()} == {FREE}
