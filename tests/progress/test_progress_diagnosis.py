"""Whether draws are any good yet: agreement with ArviZ, bounds, and threads."""

from __future__ import annotations

import math
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pytest
import xarray as xr

from cloudposterior.errors import DisplayWarning
from cloudposterior.events import Diagnosis
from cloudposterior.progress.diagnosis import Ledger, Looking
from cloudposterior.samplers.drawn import Drawn, label_of


def label(name: str, shape: tuple[int, ...], element: int) -> str:
    return f"{name}[{element}]" if shape else name


def draws(*shape: int, chains: int = 4, count: int = 300, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(chains, count, *shape))


def drawn(count: int, arrays: dict[str, np.ndarray], *, tune: int = 0) -> Drawn:
    chains = len(next(iter(arrays.values())))
    return Drawn.of([count] * chains, tune, arrays)


def look(count: int, arrays: dict[str, np.ndarray], **of: Any) -> Diagnosis:
    found = Ledger(label).look(drawn(count, arrays, **of), whole=True)
    assert found is not None
    return found


def test_diagnosis_is_that_of_arviz() -> None:
    arrays = {"a": draws(3), "b": draws(seed=2)}
    found = look(300, arrays, tune=100)
    dataset = xr.Dataset(
        {n: (("chain", "draw", *"x"[: v.ndim - 2]), v[:, 100:]) for n, v in arrays.items()}
    )
    for column, expected in (
        (found.r_hat, az.rhat(dataset)),
        (found.ess_bulk, az.ess(dataset, method="bulk")),
        (found.ess_tail, az.ess(dataset, method="tail")),
        (found.mean, dataset.mean(("chain", "draw"))),
    ):
        wanted = {f"a[{i}]": float(expected["a"][i]) for i in range(3)} | {
            "b": float(expected["b"])
        }
        assert dict(zip(found.names, column, strict=True)) == pytest.approx(wanted)
    assert (found.draws, found.chains, found.parameters) == (200, (0, 1, 2, 3), 4)


def test_diagnosis_puts_the_worst_first() -> None:
    bad = draws(3)
    bad[:, :, 1] += 5 * np.arange(4)[:, None]
    found = look(300, {"good": draws(2, seed=3), "bad": bad})
    assert found.names[0] == "bad[1]"
    assert found.r_hat[0] > 1.5


def test_diagnosis_carries_draws_of_the_worst() -> None:
    values = draws(2, count=400)
    found = look(400, {"a": values})
    trace = np.frombuffer(found.trace, "<f4").reshape(found.traced, 4, found.points)
    place = np.linspace(0, 399, found.points).astype(int)
    for number, name in enumerate(found.names):
        assert np.array_equal(trace[number], values[:, place, int(name[2])].astype("f4"))


@pytest.mark.parametrize("chains", [4, 200])
def test_diagnosis_does_not_grow_with_the_model_or_the_draws(chains: int) -> None:
    def size(found: Diagnosis) -> int:
        return len(found.trace)

    small = look(20, {"a": draws(600, chains=chains, count=20)})
    large = look(60, {"a": draws(60, 10, chains=chains, count=60)})
    assert len(large.names) == len(small.names) == 500
    assert large.parameters == 600
    assert max(size(small), size(large)) <= 4 * 2**16
    assert large.names != tuple(sorted(large.names))


def test_values_that_say_nothing_warn_of_nothing() -> None:
    values = draws(4)
    values[:, :, 0] = 3.0
    values[0, 5, 1] = np.nan
    values[0, 5, 2] = np.inf
    found = look(300, {"a": values, "flag": draws() > 0})
    known = dict(zip(found.names, found.r_hat, strict=True))
    assert [math.isnan(known[f"a[{i}]"]) for i in range(4)] == [True, True, True, False]
    assert not math.isnan(known["flag"])


def test_too_few_draws_or_chains_say_nothing() -> None:
    ledger = Ledger(label)
    assert ledger.look(drawn(9, {"a": draws()})) is None
    assert ledger.look(Drawn.of([300, 2, 2, 2], 0, {"a": draws()})) is None
    assert ledger.look(drawn(300, {"none": draws(0)})) is None
    assert ledger.look(Drawn.of([300], 0, {})) is None


def test_all_parameters_are_looked_at_in_turn() -> None:
    arrays = {"a": draws(150)}
    ledger = Ledger(label)
    seen = []
    for _ in range(5):
        found = ledger.look(drawn(300, arrays))
        assert found is not None
        seen.append(len(found.names))
    assert seen[0] < 150
    assert seen[-1] == 150


def test_chains_that_have_just_begun_do_not_hold_the_others_up() -> None:
    found = Drawn.of([300, 290, 150, 101], 100, {"a": draws()})
    assert (found.chains, found.start, found.stop) == ((0, 1), 100, 290)


@pytest.mark.parametrize(
    ("shape", "element", "expected"),
    [((), 0, "x"), ((2,), 1, "x[ANOKA]"), ((2, 3), 5, "x[ANOKA, 2]")],
)
def test_labels_are_those_of_arviz(shape: tuple[int, ...], element: int, expected: str) -> None:
    dims = ("county", "three")[: len(shape)]
    with pm.Model(coords={"county": ["AITKIN", "ANOKA"], "three": range(3)}) as model:
        pm.Normal("x", dims=dims or None)
    assert label_of(model, "x", shape, element) == expected


def test_element_without_coordinates_has_its_number() -> None:
    with pm.Model() as model:
        pm.Normal("x", shape=(2, 2))
    assert label_of(model, "x", (2, 2), 2) == "x[1, 0]"


class Clock:
    """A clock that a look moves on, as one does that takes its time."""

    def __init__(self, look_s: float = 0.1) -> None:
        self.now, self.look_s = 0.0, look_s

    def __call__(self) -> float:
        return self.now

    def so_far(self) -> Drawn:
        return drawn(min(300, int(10 + self.now)), {"a": draws(150)})

    def take(self, found: Diagnosis) -> None:
        self.now += self.look_s


def test_looks_take_a_fiftieth_of_the_time() -> None:
    clock, found = Clock(), []
    looking = Looking(clock.so_far, label, lambda one: (found.append(one), clock.take(one)), clock)
    for _ in range(10_000):
        clock.now += 0.01
        looking.look()
    assert 10 <= len(found) <= 0.02 * clock.now / clock.look_s + 1
    assert len(found[-1].names) == 150


def test_nothing_new_is_not_looked_at() -> None:
    clock, found = Clock(), []
    looking = Looking(lambda: drawn(300, {"a": draws()}), label, found.append, clock)
    for _ in range(3):
        clock.now += 100
        looking.look()
    assert len(found) == 1


def test_last_look_is_at_all_parameters_where_there_is_time() -> None:
    clock, found = Clock(), []
    looking = Looking(clock.so_far, label, found.append, clock)
    clock.now = 5
    looking.look(last=True)
    clock.now = 1000
    looking.look(last=True)
    assert len(found[0].names) < len(found[-1].names) == 150


def test_look_that_fails_is_told_once_and_costs_nothing() -> None:
    def so_far() -> Drawn:
        raise ValueError("scripted")

    clock = Clock()
    looking = Looking(so_far, label, print, clock)
    clock.now = 100
    with pytest.warns(DisplayWarning, match="not shown any more: ValueError.'scripted'."):
        looking.look()
    # warnings are errors here
    clock.now = 200
    looking.look()
