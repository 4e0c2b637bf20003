"""Doors: a function answered in one thread, and left alone in all others."""

from __future__ import annotations

import threading
import types
from typing import Any

import pytest

from cloudposterior.samplers.doors import doors


@pytest.fixture
def place() -> Any:
    """A module with two functions."""
    place = types.ModuleType("place")
    place.add = lambda a, b=1: a + b  # type: ignore[attr-defined]
    place.name = lambda: "own"  # type: ignore[attr-defined]
    return place


def test_doors_answer_with_the_function_and_its_arguments(place: Any) -> None:
    with doors(place, add=lambda own, *args, **kwargs: -own(*args, **kwargs)):
        assert place.add(1, b=4) == -5
        assert place.name() == "own"


def test_doors_put_the_function_back(place: Any) -> None:
    own = place.add
    with pytest.raises(ZeroDivisionError), doors(place, add=lambda *_: 1 / 0):
        place.add(1)
    assert place.add is own


def test_doors_are_open_in_one_thread_only(place: Any) -> None:
    seen: list[int] = []
    with doors(place, add=lambda *_: 0):
        other = threading.Thread(target=lambda: seen.append(place.add(1)))
        other.start()
        other.join()
        assert place.add(1) == 0
    assert seen == [2]


def test_doors_of_two_threads_do_not_mix(place: Any) -> None:
    own, together = place.add, threading.Barrier(2)
    seen: dict[int, list[int]] = {}

    def answer_with(number: int) -> None:
        with doors(place, add=lambda *_: number):
            together.wait(10)
            seen[number] = [place.add(1) for _ in range(100)]
        together.wait(10)
        seen[number].append(place.add(1))

    threads = [threading.Thread(target=answer_with, args=(n,)) for n in (10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {n: [n] * 100 + [2] for n in (10, 20)}
    assert place.add is own


def test_doors_within_doors_answer_first(place: Any) -> None:
    with doors(place, add=lambda *_: "outer", name=lambda _: "outer"):
        with doors(place, add=lambda *_: "inner"):
            assert (place.add(1), place.name()) == ("inner", "outer")
        assert place.add(1) == "outer"
    assert place.add(1) == 2
