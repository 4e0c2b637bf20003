"""What `explain` says, and the line on a miss with a near neighbour on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pymc as pm
import pytest

import cloudposterior as cp
from cloudposterior.cache import upkeep

pytestmark = pytest.mark.usefixtures("in_tmp_path", "stub_runs")

Build = Callable[..., pm.Model]
CALL: dict[str, Any] = {"draws": 2000, "tune": 1000, "chains": 4, "nuts_sampler": "pymc"}


def explained(model: pm.Model, **changes: Any) -> cp.Explanation:
    """Explain a call, in the disk cache."""
    return cp.explain(model, **{**CALL, **changes})


def test_explain_says_that_nothing_is_kept(build_radon: Build) -> None:
    explanation = explained(build_radon())
    assert not explanation.hit
    assert explanation.entry is None
    assert explanation.changes == ()
    assert str(explanation) == "miss: nothing is kept for 'radon'"
    assert not Path(".cloudposterior").exists()


def test_explain_looks_at_entries_of_the_same_model_name_only(build_radon: Build) -> None:
    cp.sample(build_radon(name="other"), cache="disk", **CALL)
    assert str(explained(build_radon())) == "miss: nothing is kept for 'radon'"


def test_explain_says_that_a_call_is_a_hit(build_radon: Build) -> None:
    cp.sample(build_radon(), cache="disk", **CALL)
    explanation = explained(build_radon())
    (path,) = Path(".cloudposterior").rglob("*.nc")
    assert explanation.hit
    assert explanation.changes == ()
    assert explanation.entry is not None
    assert explanation.entry.path == path
    assert str(explanation).startswith(f"hit: {path}, sampled 20")
    assert repr(explanation) == str(explanation)


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (
            {},
            {"changed_counties": 20},
            "data `county_idx` changed in 20 of 919 values",
        ),
        (
            {},
            {"changed_counties": 1},
            "data `county_idx` changed in 1 of 919 values",
        ),
        (
            {"as_data": False},
            {"as_data": False, "changed_counties": 20},
            "likelihood `y` changed a constant in 20 of 919 values",
        ),
        ({}, {"sigma_a": 3.0}, "prior `sigma_a` changed sigma 2 -> 3"),
    ],
    ids=["data", "one value", "constant", "prior"],
)
def test_explain_says_what_of_the_model_changed(
    before: dict[str, Any], after: dict[str, Any], line: str, build_radon: Build
) -> None:
    cp.sample(build_radon(**before), cache="disk", **CALL)
    explanation = explained(build_radon(**after))
    assert not explanation.hit
    assert explanation.entry is not None
    assert explanation.changes == (line,)
    assert str(explanation) == f"miss, compared with {explanation.entry.path}:\n  {line}"


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ({"target_accept": 0.8}, {"target_accept": 0.9}, "target_accept 0.8 -> 0.9"),
        ({}, {"nuts": {"target_accept": 0.9}}, "target_accept 0.8 -> 0.9"),
        ({}, {"draws": 1000}, "draws 2000 -> 1000"),
        ({"random_seed": 1}, {"random_seed": 2}, "random_seed 1 -> 2"),
        ({}, {"random_seed": 2}, "random_seed None -> 2"),
        ({}, {"max_treedepth": 9}, "max_treedepth added"),
    ],
    ids=["target_accept", "nuts", "draws", "seed", "no seed", "added"],
)
def test_explain_says_which_argument_changed(
    before: dict[str, Any], after: dict[str, Any], line: str, build_radon: Build
) -> None:
    cp.sample(build_radon(), cache="disk", **{**CALL, **before})
    assert explained(build_radon(), **after).changes == (line,)


def test_explain_says_which_sampler_changed(build_radon: Build) -> None:
    cp.sample(build_radon(), cache="disk", **CALL)
    changes = explained(build_radon(), nuts_sampler="nutpie").changes
    assert "sampler 'pymc' -> 'nutpie'" in changes


def test_explain_says_all_that_changed(build_radon: Build) -> None:
    cp.sample(build_radon(), cache="disk", **CALL)
    changed = build_radon(changed_counties=20, sigma_a=3.0)
    assert sorted(explained(changed, target_accept=0.9).changes) == [
        "data `county_idx` changed in 20 of 919 values",
        "prior `sigma_a` changed sigma 2 -> 3",
        "target_accept 0.8 -> 0.9",
    ]


def test_explain_compares_with_the_nearest_entry(build_radon: Build) -> None:
    cp.sample(build_radon(sigma_a=5.0), cache="disk", **{**CALL, "draws": 500})
    near = cp.sample(build_radon(), cache="disk", **CALL)
    cp.sample(build_radon(changed_counties=9), cache="disk", **{**CALL, "draws": 600})
    explanation = explained(build_radon(), target_accept=0.9)
    assert explanation.entry is not None
    assert explanation.entry.record.token == near.attrs["cloudposterior_token"]
    assert explanation.changes == ("target_accept 0.8 -> 0.9",)


def test_explain_says_which_variable_came_and_went(build_radon: Build) -> None:
    cp.sample(build_radon(), cache="disk", **CALL)
    model = build_radon()
    with model:
        pm.Deterministic("twice", 2 * model["radon::b"])
    assert "deterministic `twice` added" in explained(model).changes
    cp.sample(model, cache="elsewhere", **CALL)
    back = explained(build_radon(), cache="elsewhere").changes
    assert "deterministic `twice` removed" in back


def test_explain_says_that_observations_changed(build: Build) -> None:
    def of(values: Any) -> pm.Model:
        with pm.Model(name="seen") as model:
            pm.Normal("y", pm.Normal("mu"), 1.0, observed=values)
        return model

    values = np.arange(30.0)
    cp.sample(of(values), cache="disk", **CALL)
    values[[3, 17]] += 1e-9
    assert explained(of(values)).changes == ("likelihood `y` changed observed in 2 of 30 values",)


def test_explain_says_that_a_distribution_changed() -> None:
    def of(kind: Any) -> pm.Model:
        with pm.Model(name="kind") as model:
            kind("mu", 0.0, 1.0)
        return model

    cp.sample(of(pm.Normal), cache="disk", **CALL)
    (change,) = explained(of(pm.Laplace)).changes
    assert change == "prior `mu` changed Normal -> Laplace"


def test_explain_says_that_coordinates_changed(build: Build) -> None:
    cp.sample(build(coords={"week": ["a", "b", "c"]}), cache="disk", **CALL)
    (change,) = explained(build(coords={"week": ["a", "x", "c"]})).changes
    assert change == "coord `week` changed a, b, c -> a, x, c"


def test_explain_says_which_version_changed(
    build_radon: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloudposterior.operations import options

    installed = options.version
    with monkeypatch.context() as patch:
        patch.setattr(options, "version", lambda n: "0.1" if n == "pymc" else installed(n))
        cp.sample(build_radon(), cache="disk", **CALL)
    assert explained(build_radon()).changes == (f"pymc 0.1 -> {pm.__version__}",)


def test_explain_looks_into_the_cache_it_is_given(build_radon: Build) -> None:
    cp.sample(build_radon(), cache="elsewhere", **CALL)
    cp.sample(build_radon(), cache="memory", **CALL)
    assert not explained(build_radon(), cache="disk").hit
    assert explained(build_radon(), cache="elsewhere").hit
    # by default where `cloud` looks
    assert explained(build_radon()).hit
    with dask.config.set({"cloudposterior.cache": "elsewhere"}):
        assert str(explained(build_radon())).startswith("hit: elsewhere")
    in_memory = explained(build_radon(), cache="memory")
    assert in_memory.hit
    assert str(in_memory).startswith("hit: radon, draws2000_tune1000_chains4, sampled 20")


def test_explain_says_that_there_is_no_cache(build_radon: Build) -> None:
    assert "cache=False" in str(explained(build_radon(), cache=False))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"return_inferencedata": False}, "return_inferencedata=False"),
        ({"trace": object()}, "trace="),
    ],
    ids=["MultiTrace", "trace"],
)
def test_explain_says_why_a_call_is_never_cached(
    changes: dict[str, Any], words: str, build_radon: Build
) -> None:
    explanation = explained(build_radon(), **changes)
    assert not explanation.hit
    assert words in str(explanation)


def test_explain_says_why_there_is_no_key(build: Build, tmp_path: Path) -> None:
    model = build()
    with (tmp_path / "log.txt").open("w") as log:
        model.log = log
        explanation = explained(model)
    assert not explanation.hit
    assert str(explanation).startswith("miss: no key can be made: ")
    assert "log" in explanation.reason


def test_explain_samples_nothing_and_changes_nothing(
    build_radon: Build, stub_runs: list[pm.Model], capsys: pytest.CaptureFixture[str]
) -> None:
    cp.sample(build_radon(), cache="disk", **CALL)
    before = sorted(Path(".").rglob("*"))
    rng = np.random.default_rng(1)
    state = rng.bit_generator.state
    capsys.readouterr()
    explained(build_radon(), random_seed=rng)
    explained(build_radon())
    assert len(stub_runs) == 1
    assert sorted(Path(".").rglob("*")) == before
    assert rng.bit_generator.state == state
    assert capsys.readouterr().out == ""


def test_explain_agrees_with_what_a_call_does(
    build_radon: Build, stub_runs: list[pm.Model]
) -> None:
    for changes in ({}, {"target_accept": 0.9}, {}, {"random_seed": 3}, {"random_seed": 3}):
        count = len(stub_runs)
        expected = explained(build_radon(), **changes).hit
        cp.sample(build_radon(), cache="disk", **{**CALL, **changes})
        assert (len(stub_runs) == count) is expected


def printed(capsys: pytest.CaptureFixture[str], model: pm.Model, **changes: Any) -> str:
    """Sample on disk, and give what was printed."""
    capsys.readouterr()
    cp.sample(model, **{"cache": "disk", **CALL, **changes})
    return capsys.readouterr().out


def test_miss_on_disk_with_a_near_neighbour_says_why(
    build_radon: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed(capsys, build_radon()) == ""
    assert printed(capsys, build_radon(changed_counties=20)) == (
        "no cached result, since: data `county_idx` changed in 20 of 919 values\n"
    )
    line = printed(capsys, build_radon(sigma_a=3.0), target_accept=0.9)
    assert line.startswith("no cached result, since: ")
    assert "prior `sigma_a` changed sigma 2 -> 3" in line
    assert "target_accept 0.8 -> 0.9" in line
    assert line.count("\n") == 1


def test_miss_without_a_near_neighbour_says_nothing(
    build_radon: Build, build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(capsys, build_radon())
    assert printed(capsys, build("radon")) == ""
    assert printed(capsys, build("another")) == ""


def test_miss_on_disk_is_not_explained_to_the_quiet_or_on_overwrite(
    build_radon: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(capsys, build_radon())
    assert printed(capsys, build_radon(), target_accept=0.9, quiet=True) == ""
    assert printed(capsys, build_radon(), target_accept=0.7, overwrite=True) == ""


def test_miss_in_memory_says_nothing(
    build_radon: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(capsys, build_radon(), cache="memory")
    assert printed(capsys, build_radon(), cache="memory", target_accept=0.9) == ""


def test_miss_reads_no_entries_of_other_models(
    build: Build, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cp.sample(build(), cache="disk", **CALL)
    for number in range(10):
        cp.sample(build(f"other{number}"), cache="disk", **CALL)
    read: list[str] = []
    as_entry = upkeep.as_entry

    def count(path: Any, seal: Any) -> cp.Entry:
        read.append(Path(path).parent.name)
        return as_entry(path, seal)

    monkeypatch.setattr(upkeep, "as_entry", count)
    said = printed(capsys, build(), target_accept=0.9)
    assert said == "no cached result, since: target_accept 0.8 -> 0.9\n"
    assert read == ["small"]


def test_explain_finds_a_hit_among_many_newer_entries(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_MOST_OWN", 2)
    for seed in range(5):
        cp.sample(build(), cache="disk", **CALL, random_seed=seed)
    assert explained(build(), cache="disk", random_seed=0).hit
    assert explained(build(), cache="disk", random_seed=9).changes == ("random_seed 4 -> 9",)


class Forgetful(cp.MemoryCache):
    """One that knows of nothing near another entry."""

    def near(self, token: str, *, model: str, label: str) -> Any:
        return iter(()), iter(())


def test_explain_asks_a_cache_for_what_is_near_and_else_for_all(build: Build) -> None:
    forgetful, plain = Forgetful(), cp.MemoryCache()
    for cache in (forgetful, plain):
        cp.sample(build("other"), cache=cache, **CALL)
        cp.sample(build(), cache=cache, **CALL)
    assert explained(build(), cache=plain).hit
    changed = explained(build(), cache=plain, target_accept=0.7)
    assert changed.changes == ("target_accept 0.8 -> 0.7",)
    assert str(explained(build(), cache=forgetful)) == "miss: nothing is kept for 'small'"


def expressed(**kwargs: Any) -> pm.Model:
    """A prior whose parameter PyMC computes from the one that is given."""
    with pm.Model(name="prior") as model:
        pm.Gamma("g", alpha=2.0, **kwargs)
    return model


def tiny(last: float) -> pm.Model:
    with pm.Model(name="tiny") as model:
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=[1.0, 2.0, last])
    return model


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (expressed(beta=2.0), expressed(beta=4.0), "prior `g` changed scale 0.5 -> 0.25"),
        (tiny(3.0), tiny(3.0 + 1e-9), "observed 1, 2, 3 -> 1, 2, 3.000000001"),
    ],
    ids=["expression", "1e-9"],
)
def test_explain_tells_numbers_as_they_are(
    before: pm.Model, after: pm.Model, line: str, stub_runs: list[pm.Model]
) -> None:
    cp.sample(before, cache="disk", **CALL)
    (change,) = explained(after, cache="disk").changes
    assert line in change


def test_explain_finds_the_model_that_had_one_variable_less(stub_runs: list[pm.Model]) -> None:
    def build(more: bool) -> pm.Model:
        with pm.Model() as model:
            pm.Normal("a")
            if more:
                pm.Normal("b")
        return model

    cp.sample(build(False), cache="disk", **CALL)
    assert "prior `b` added" in explained(build(True), cache="disk").changes
