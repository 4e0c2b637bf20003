"""What a worker gets is what the client has: models, step methods and arguments, to the bit."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.logprob.abstract import _logprob
from pytensor import config
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.ops import view_op, wrap_py
from pytensor.graph.traversal import ancestors

import cloudposterior
from cloudposterior.errors import CloudPosteriorError, ShippingError
from cloudposterior.identity.model import components, token_of
from cloudposterior.shipping import pack_arguments, pack_model, unpack_arguments, unpack_model

FOLDER = Path(__file__).parent / "shipping"
# As their programs name them, whose classes this process does not need.
MODELS = (
    "custom",
    "custom random",
    "custom all",
    "custom lambda",
    "custom dist",
    "custom scan",
    "censored",
    "mixture",
    "wrapped",
    "wrapped at top",
    "own op",
    "own op for numba",
    "own op that refuses",
    "own rules",
    "own rules of a base",
    "own rules that change",
    "own rules that changed",
    "virtual base",
    "own distribution",
    "from graph",
    "used before",
    "labelled",
    "nested",
    "inner",
    "processes",
    "library",
    "transformed",
    "minibatch",
    "simulator",
    "deep",
    "frozen",
)
NO_DRAWS = {"custom", "custom lambda"}
NO_GRADIENT = {"wrapped", "wrapped at top", "simulator"}
STEPS = (
    "compiled",
    "nuts",
    "hmc",
    "metropolis",
    "slice",
    "demetropolis",
    "list",
    "own",
    "used",
    "compound",
    "untuned",
    "deep",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Pack in one process, unpack in another, and tell how they compare."""
    path = tmp_path_factory.mktemp("shipping") / "packed"
    run("tests.shipping.client", path)
    return json.loads(run("tests.shipping.worker", path))


def run(program: str, path: Path) -> str:
    """Run a program of `FOLDER` in a process of its own, and give what it prints."""
    package = Path(cloudposterior.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", program, str(path)],
        cwd=FOLDER.parents[1],
        env={**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{FOLDER.parents[1]}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_model_computes_the_same_in_another_process(report: dict[str, Any], name: str) -> None:
    found = report["models"][name]
    assert "failed" not in found, found["failed"]
    assert found["differ"] == {}
    refused = {"draws"} if name in NO_DRAWS else {"gradient"} if name in NO_GRADIENT else set()
    assert set(found["refused"]) == refused, found["refused"]


@pytest.mark.slow
def test_no_model_is_left_out(report: dict[str, Any]) -> None:
    assert (set(report["models"]), set(report["steps"])) == (set(MODELS), set(STEPS))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_model_keeps_its_token_in_another_process(report: dict[str, Any], name: str) -> None:
    if name == "simulator":
        pytest.skip("has another one after pickling; tokens are taken before")
    assert report["models"][name]["same_token"]


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_step_method_draws_the_same_in_another_process(report: dict[str, Any], name: str) -> None:
    found = report["steps"][name]
    assert "failed" not in found, found["failed"]
    assert found["foreign"] == []
    assert found["of_the_model"]
    assert found["state"]
    assert found["draws"]
    assert name != "own" or found["extra"] == [0.25]


@pytest.mark.slow
def test_arguments_refer_to_the_model_of_the_other_process(report: dict[str, Any]) -> None:
    found = report["arguments"]
    assert "failed" not in found, found["failed"]
    del found["elapsed_s"]
    assert {name for name, equal in found.items() if not equal} == set()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of the user's own, that can be imported until it is taken away."""
    (tmp_path / "our_densities.py").write_text(
        "def logp(value, mu):\n    return -(value - mu) ** 2"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("our_densities")
    sys.modules.pop("our_densities", None)


def plain() -> pm.Model:
    with pm.Model(coords={"i": range(3)}) as model:
        a = pm.Normal("a", dims="i")
        pm.Normal("y", a, observed=np.arange(3.0), dims="i")
    return model


def test_error_is_one_of_the_package() -> None:
    assert issubclass(ShippingError, CloudPosteriorError)
    assert issubclass(ShippingError, TypeError)


def test_variable_at_fault_is_named() -> None:
    lock = threading.Lock()

    def held(x: Any) -> Any:
        with lock:
            return x

    model = plain()
    with model:
        p = pm.Potential("p", wrap_py([pt.dscalar], [pt.dscalar])(held)(model["a"].sum()))
        pm.Deterministic("after", p + 1)
    with pytest.raises(ShippingError, match=r"Variable 'p' .* class _thread.lock"):
        pack_model(model)


def test_attribute_at_fault_is_named() -> None:
    model = plain()
    model.remark = threading.Lock()
    with pytest.raises(ShippingError, match=r"Attribute 'remark' .* class _thread.lock"):
        pack_model(model)


def test_argument_at_fault_is_named(tmp_path: Path) -> None:
    model = plain()
    with (
        (tmp_path / "log").open("w") as file,
        pytest.raises(ShippingError, match=r"Argument 'callback' .* class _io.TextIOWrapper"),
    ):
        arguments = {"draws": 10, "callback": lambda trace, draw: file.write("x")}
        pack_arguments(arguments, model)


def test_module_that_is_missing_is_named(module: Any, tmp_path: Path) -> None:
    with pm.Model() as model:
        pm.CustomDist("x", 0.5, logp=module.logp)
    data = pack_model(model)
    arguments = pack_arguments({"callback": module.logp}, model)
    assert unpack_model(data).compile_logp(mode="FAST_COMPILE")({"x": 1.5}) == -1.0
    (tmp_path / "our_densities.py").unlink()
    del sys.modules["our_densities"]
    importlib.invalidate_caches()
    with pytest.raises(ShippingError, match=r"module 'our_densities' .* `client.upload_file"):
        unpack_model(data)
    with pytest.raises(ShippingError, match="module 'our_densities'"):
        unpack_arguments(arguments, model)


def test_name_that_is_missing_is_named(module: Any) -> None:
    with pm.Model() as model:
        pm.CustomDist("x", 0.5, logp=module.logp)
    data = pack_model(model)
    del module.logp
    with pytest.raises(ShippingError, match="our_densities"):
        unpack_model(data)


def test_arguments_of_another_model_are_refused() -> None:
    model, other = plain(), plain()
    with other:
        pm.Normal("b")
    data = pack_arguments({"initvals": {model["a"]: np.ones(3)}}, model)
    with pytest.raises(ShippingError, match="another model"):
        unpack_arguments(data, other)


def equal_model(way: str) -> pm.Model:
    """One of the models that have one token: they share what is computed, or do it again."""
    with pm.Model() as model:
        x = pm.Normal("x", shape=3)
        level = pytensor.shared(np.arange(3.0))

        def scaled() -> Any:
            return x * np.linspace(1.0, 2.0, 3) + level

        once = scaled()
        used = {
            "once": (once, once, once),
            "again": (scaled(), scaled(), scaled()),
            "views": (view_op(once), scaled(), view_op(view_op(scaled()))),
        }[way]
        pm.Deterministic("d", used[0])
        pm.Potential("p", pt.exp(used[1]))
        pm.Normal("y", used[2], observed=np.ones(3))
    return model


def level_of(model: pm.Model) -> Any:
    return model["p"].owner.inputs[0].owner.inputs[1]


def of_a_model(model: pm.Model) -> dict[str, Any]:
    """What arguments may have of a model: its parts, what is made of them, and functions."""
    mean = model["y"].owner.inputs[2]
    return {
        "model": model,
        "variables": [model["x"], model.rvs_to_values[model["x"]], model["d"], model["p"]],
        "observed": model.rvs_to_values[model["y"]],
        "container": level_of(model).container,
        "generators": [model[name].owner.inputs[0] for name in "xy"],
        "next": model["y"].owner.outputs[0],
        "behind": [mean, mean.owner.inputs[0], model["d"].owner.inputs[0]],
        "new": pt.sin(model["p"].owner.inputs[0]) + mean + model["x"],
        "logp": model.compile_logp(mode="FAST_COMPILE"),
    }


WAYS = "once", "again", "views"


def test_models_of_these_ways_have_one_token() -> None:
    assert len({token_of(components(equal_model(way))) for way in WAYS}) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("other_way", WAYS)
def test_arguments_refer_to_an_equal_model(way: str, other_way: str) -> None:
    model, other = equal_model(way), equal_model(other_way)
    found = unpack_arguments(pack_arguments(of_a_model(model), model), other)
    assert found["model"] is other
    expected = of_a_model(other)
    for name in ("variables", "generators"):
        assert all(a is b for a, b in zip(found[name], expected[name], strict=True)), name
    assert all(found[name] is expected[name] for name in ("observed", "container", "next"))
    own = {id(v) for v in ancestors([*other.named_vars.values()])}
    assert all(id(variable) in own for variable in found["behind"])
    assert {id(v) for v in ancestors([found["new"]]) if v.owner is None} <= own
    x = np.array([0.5, -0.5, 2.0])
    new = [f.eval({m["x"]: x}) for f, m in ((found["new"], other), (expected["new"], other))]
    assert np.array_equal(*new)
    # a function of the one model has the values of the other
    level_of(other).set_value(np.ones(3))
    assert found["logp"]({"x": x}) == other.compile_logp(mode="FAST_COMPILE")({"x": x})


def test_arguments_that_have_nothing_of_their_model_fit_any() -> None:
    data = pack_arguments({"draws": 10, "initvals": {"a": np.ones(3)}}, plain())
    assert unpack_arguments(data, custom())["draws"] == 10


def test_arguments_with_parts_that_a_model_lacks_are_refused() -> None:
    model, other = equal_model("once"), equal_model("once")
    for name in "dp":
        other.named_vars[name] = pt.dvector(name)
    data = pack_arguments({"level": level_of(model)}, model)
    with pytest.raises(ShippingError, match="another model"):
        unpack_arguments(data, other)


def test_generator_of_a_function_is_as_it_was_on_the_client() -> None:
    model, other = equal_model("once"), equal_model("again")
    draw = model.compile_fn(model["x"], inputs=[], mode="FAST_COMPILE", point_fn=False)
    found = unpack_arguments(pack_arguments({"draw": draw}, model), other)["draw"]
    before = other["x"].owner.inputs[0].get_value().bit_generator.state
    assert np.array_equal(found(), draw())
    assert other["x"].owner.inputs[0].get_value().bit_generator.state == before


def test_arguments_refer_to_the_model_of_this_process() -> None:
    model = plain()
    copy = unpack_model(pack_model(model))
    data = pack_arguments({"model": model, "initvals": {model["a"]: np.ones(3)}}, model)
    found = unpack_arguments(data, copy)
    assert found["model"] is copy
    assert next(iter(found["initvals"])) is copy["a"]
    assert copy["a"] is not model["a"]


def test_rule_of_a_release_that_was_replaced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    op = type(pm.Normal.dist().owner.op)
    before = _logprob.dispatch(op)
    _logprob.register(op, lambda op, values, *inputs, **options: values[0])
    try:
        with pytest.raises(ShippingError, match=r"_logprob pytensor.* derived"):
            pack_model(plain())
    finally:
        _logprob.register(op, before)


def custom() -> pm.Model:
    with pm.Model() as model:
        pm.CustomDist("x", 0.5, logp=lambda value, mu: -abs(value - mu))
    return model


def test_class_of_this_process_stays_as_it_is() -> None:
    model = custom()
    cls = type(model["x"].owner.op)
    data = pack_model(model)

    @_logprob.register(cls)
    def changed(op: Any, values: Any, *inputs: Any, **options: Any) -> Any:
        return values[0]

    copy = unpack_model(data)
    assert type(copy["x"].owner.op) is cls
    assert _logprob.dispatch(cls) is changed


class Measured(np.ndarray):
    """An array with a remark, as a user may make one."""


def test_array_keeps_its_attributes() -> None:
    array = np.arange(6.0).reshape(2, 3).T.view(Measured)
    array.unit = "m"
    model = plain()
    model.array = array
    found = unpack_model(pack_model(model)).array
    assert type(found) is Measured
    assert found.unit == "m"
    assert np.array_equal(found, array)


def test_graph_may_be_deep() -> None:
    with pm.Model() as model:
        total = pm.Normal("x")
        for _ in range(3000):
            total = pt.sin(total)
        pm.Potential("p", total)
    found = unpack_model(pack_model(model))["p"]
    depth = 0
    while found.owner is not None and found.owner.inputs[0].name != "x":
        depth, found = depth + 1, found.owner.inputs[0]
    assert depth >= 2999


def test_threads_unpack_at_the_same_time() -> None:
    data = [pack_model(model) for model in (custom(), plain())] * 8
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(unpack_model, data))
    assert [len(model.free_RVs) for model in models] == [1] * 16


def large(size: int) -> pm.Model:
    rng = np.random.default_rng(0)
    coords = {"i": np.arange(size), "day": np.arange(size).astype("M8[D]")}
    with pm.Model(coords=coords) as model:
        x = pm.Data("x", rng.normal(size=size), dims="i")
        pm.Normal("y", pm.Normal("a") * x, observed=rng.normal(size=size), dims="i")
    return model


def test_large_data_is_sent_once_and_quickly() -> None:
    model = large(1_000_000)
    start = time.perf_counter()
    data = pack_model(model)
    elapsed_s = time.perf_counter() - start
    # two arrays of data, two of coordinates
    assert len(data) < 4 * 8_000_000 * 1.01
    assert elapsed_s < 5  # 0.3 s where nothing else runs
    copy = unpack_model(data)
    for dim, values in model.coords.items():
        assert copy.coords[dim] == values
        assert [type(value) for value in copy.coords[dim][:2]] == [type(v) for v in values[:2]]


def test_shared_data_is_not_sent_with_a_step_method() -> None:
    model = large(100_000)
    with model, config.change_flags(linker="py"):
        data = pack_arguments({"step": pm.Slice()}, model)
    # the observed values, which rewriting has changed, and neither `x` nor the coordinates
    assert len(data) < 1.5 * 800_000


def test_what_was_compiled_stays_behind() -> None:
    x = pt.dscalar("x")
    op = OpFromGraph([x], [2.0 * x])
    with pm.Model() as model:
        pm.Potential("p", op(pm.Normal("x")))
    before = pack_model(model)
    assert op.fn is not None
    assert abs(len(pack_model(model)) - len(before)) < 100
    assert op._fn is not None


@pytest.mark.parametrize(
    "values",
    [
        ("a", "b"),
        (1, 2.5, "three"),
        (np.int64(1), 2),
        (np.datetime64("2024-01", "M"), np.datetime64("2024-01-02", "D")),
        (np.str_("a"), np.str_("bb")),
        (np.float32(0.5), np.float32(1.5)),
        (),
    ],
    ids=repr,
)
def test_coordinates_keep_their_types(values: tuple[Any, ...]) -> None:
    model = plain()
    model._coords["k"] = values
    found = unpack_model(pack_model(model))._coords["k"]
    assert repr(found) == repr(values)
    assert [type(value) for value in found] == [type(value) for value in values]
