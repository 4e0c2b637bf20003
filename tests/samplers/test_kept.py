"""Models that a worker keeps, and what was compiled for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dask.config
import numpy as np
import pymc as pm
import pytest

from cloudposterior.samplers import kept
from cloudposterior.samplers.kept import KeptModel, by_value, keep_model, kept_models
from cloudposterior.samplers.protocol import Run
from cloudposterior.shipping import pack_arguments, pack_model, unpack_arguments


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Begin with no model, and leave none."""
    kept._kept.clear()
    yield
    kept._kept.clear()


def run_of(model: str, structure: str | None = None, **settings: str) -> Run:
    return Run(f"run {model}", model, structure or model, b"", 1, 2, settings)


def with_data(*values: float) -> pm.Model:
    with pm.Model(name="named") as model:
        pm.Normal("mu", pm.Data("x", np.array(values)).sum())
    return model


def test_model_is_unpacked_once(build: Callable[..., pm.Model]) -> None:
    packed = pack_model(build())
    assert keep_model(run_of("a"), packed) is keep_model(run_of("a"), b"not read")


def test_models_of_other_settings_are_others(build: Callable[..., pm.Model]) -> None:
    packed = pack_model(build())
    one, other = (keep_model(run_of("a", mode=mode), packed) for mode in ("1", "2"))
    assert one is not other


def test_models_used_last_are_kept(build: Callable[..., pm.Model]) -> None:
    packed = pack_model(build())
    with dask.config.set({"cloudposterior.cluster.kept-models": 2}):
        for name in ("a", "b", "a", "c"):
            keep_model(run_of(name), packed)
    assert kept_models() == ["a", "c"]


def test_data_of_a_run_are_put_in() -> None:
    packed = {name: pack_model(with_data(*values)) for name, values in DATA.items()}
    model = keep_model(run_of("one", "same"), packed["one"])
    for name in ("two", "one", "three", "one", "two"):
        assert keep_model(run_of(name, "same"), packed[name]) is model
        model.use_data(run_of(name, "same"), packed[name])
        assert model.model["named::x"].get_value().tolist() == DATA[name]
        assert model.data["named::x"].tolist() == DATA[name]


def test_arguments_of_an_equal_model_are_those_of_the_kept_one(
    build: Callable[..., pm.Model],
) -> None:
    def with_potential(*, again: bool) -> tuple[bytes, bytes]:
        model = build()
        doubled = 2 * model["mu"]
        with model:
            pm.Potential("p", doubled.sum() + (2 * model["mu"] if again else doubled).prod())
        initial = {model["mu"]: model["p"].owner.inputs[0]}
        return pack_model(model), pack_arguments({"initvals": initial}, model)

    first, _ = with_potential(again=False)
    second, arguments = with_potential(again=True)
    model = keep_model(run_of("a"), first).model
    assert keep_model(run_of("a"), second).model is model
    found = unpack_arguments(arguments, model)["initvals"]
    assert found == {model["mu"]: model["p"].owner.inputs[0]}


DATA = {"one": [1.0, 1.0], "two": [2.0, 3.0], "three": [0.0, 5.0]}


def test_functions_are_compiled_once(build: Callable[..., pm.Model]) -> None:
    model = KeptModel(build(), "a")
    made: list[int] = []
    for _ in range(2):
        model.once("key", lambda: made.append(1))
    assert made == [1]
    gradients = [model.model.logp_dlogp_function(ravel_inputs=True) for _ in range(2)]
    assert gradients[0] is gradients[1]
    assert model.model.logp_dlogp_function(ravel_inputs=False) is not gradients[0]


def test_initial_point_is_that_of_the_model(build: Callable[..., pm.Model]) -> None:
    model = build()
    expected = model.initial_point(3)
    point = KeptModel(model, "a").model.initial_point(3)
    assert {k: v.tolist() for k, v in point.items()} == {k: v.tolist() for k, v in expected.items()}


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({}, None, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": np.ones(2)}, {"a": np.ones(2)}, True),
        ({"a": np.ones(2)}, {"a": np.zeros(2)}, False),
    ],
)
def test_values_are_alike_by_value(one: Any, other: Any, alike: bool) -> None:
    assert (by_value(one) == by_value(other)) is alike


def test_values_that_nobody_can_compare_are_none(build: Callable[..., pm.Model]) -> None:
    assert by_value({"a": lambda: None}) is None
    assert by_value({"a": build()["mu"]}) is None


def test_values_go_by_the_name_of_a_variable(build: Callable[..., pm.Model]) -> None:
    model = build()
    assert by_value({model["mu"]: 1.0}) == by_value({"small::mu": 1.0})
