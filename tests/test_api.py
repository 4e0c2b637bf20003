"""`cloud` and `sample` as users call them: what is a hit, what is kept, what comes back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arviz
import dask.config
import numpy as np
import pymc as pm
import pytest
import xarray as xr

import cloudposterior as cp
from cloudposterior.cache.choice import MEMORY

pytestmark = pytest.mark.usefixtures("in_tmp_path", "exact")

Build = Callable[..., pm.Model]
Check = Callable[[Any, Any], None]
Options = dict[str, Any]
Draws = Callable[[Any], dict[str, np.ndarray]]


def files(directory: Path | str = ".") -> list[Path]:
    """List every file below a directory."""
    return sorted(path for path in Path(directory).rglob("*") if path.is_file())


def test_cloud_keeps_results_in_memory_by_default(
    build: Build, short: Options, runs: list[Any], assert_identical: Check
) -> None:
    with cp.cloud(build()):
        first = pm.sample(**short)
    with cp.cloud(build()):
        second = pm.sample(**short)
    assert len(runs) == 1
    assert_identical(first, second)
    assert files() == []


@pytest.mark.parametrize("cache", ["memory", "disk", "some/dir"])
def test_cloud_says_that_a_result_was_cached_on_a_hit_only(
    cache: str, build: Build, short: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    with cp.cloud(build(), cache=cache):
        pm.sample(**short)
        assert "cached result" not in capsys.readouterr().out
        pm.sample(**short)
        line = capsys.readouterr().out
    assert line.startswith("cached result: small, draws20_tune20_chains2_seed1")
    assert line.count("\n") == 1


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_cloud_is_silent_when_asked_to_be(
    cache: str, build: Build, short: Options, capfd: pytest.CaptureFixture[str], runs: list[Any]
) -> None:
    capfd.readouterr()
    with cp.cloud(build(), cache=cache):
        pm.sample(quiet=True, **short)
        pm.sample(quiet=True, **short)
        # a miss with a near neighbour, which would else be explained
        pm.sample(quiet=True, **{**short, "random_seed": 2})
    assert len(runs) == 2
    assert capfd.readouterr().out == ""


def test_cloud_on_disk_answers_from_the_files_alone(
    build: Build, short: Options, runs: list[Any], assert_identical: Check
) -> None:
    with cp.cloud(build("radon_slopes"), cache="disk"):
        first = pm.sample(**short)
    MEMORY.clear()
    with cp.cloud(build("radon_slopes"), cache="disk"):
        second = pm.sample(**short)
    assert len(runs) == 1
    assert_identical(first, second)
    (path,) = files()
    assert path.parts[:2] == (".cloudposterior", "radon_slopes")
    token = first.attrs["cloudposterior_token"]
    assert path.name == f"draws20_tune20_chains2_seed1-{token[:8]}.nc"
    assert MEMORY.entries() == []


def test_cloud_disk_file_opens_without_the_package(
    build: Build, short: Options, draws_of: Draws
) -> None:
    with cp.cloud(build(), cache="disk"):
        kept = pm.sample(**short)
    (path,) = files()
    mu = draws_of(kept)["small::mu"]
    with xr.open_datatree(path) as tree:
        assert np.array_equal(tree["posterior"].dataset["small::mu"].values, mu)
        assert tree.attrs["cloudposterior_token"] == kept.attrs["cloudposterior_token"]
    opened = arviz.from_netcdf(str(path))
    assert np.array_equal(draws_of(opened)["small::mu"], mu)
    opened.close()


def test_cloud_without_a_cache_saves_nothing_and_runs_each_time(
    build: Build, short: Options, runs: list[Any], assert_same_draws: Check
) -> None:
    model = build()
    with cp.cloud(model, cache=False):
        first = pm.sample(**short)
        second = pm.sample(**short)
    assert len(runs) == 2
    assert_same_draws(first, second)
    assert files() == []
    assert MEMORY.entries() == []


@pytest.mark.parametrize("other", [str, Path, lambda name: Path(name).absolute()])
def test_cloud_takes_a_directory_as_text_or_path(
    other: Callable[[str], Any], build: Build, stub_runs: list[pm.Model]
) -> None:
    cp.sample(build(), cache="some/dir")
    cp.sample(build(), cache=other("some/dir"))
    assert len(stub_runs) == 1
    assert [path.parts[:2] for path in files()] == [("some", "dir")]


def test_cloud_takes_true_for_memory(build: Build, stub_runs: list[pm.Model]) -> None:
    cp.sample(build(), cache=True)
    cp.sample(build(), cache="memory")
    cp.sample(build())
    assert len(stub_runs) == 1


def test_cloud_keeps_memory_disk_and_directories_apart(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    for cache in ("memory", "disk", "elsewhere"):
        cp.sample(build(), cache=cache)
    assert len(stub_runs) == 3


def test_cloud_reads_its_defaults_from_dask_configuration(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    settings = {"cloudposterior.cache": "disk", "cloudposterior.directory": "kept"}
    with dask.config.set(settings):
        cp.sample(build())
    assert [path.parts[0] for path in files()] == ["kept"]
    cp.sample(build(), cache="kept")
    assert len(stub_runs) == 1


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_cloud_overwrite_runs_again_and_replaces_the_entry(
    cache: str, build: Build, short: Options, runs: list[Any], assert_identical: Check
) -> None:
    short["random_seed"] = None
    with cp.cloud(build(), cache=cache):
        first = pm.sample(**short)
    with cp.cloud(build(), cache=cache, overwrite=True):
        second = pm.sample(**short)
    assert len(runs) == 2
    seeds = [result.attrs["cloudposterior_random_seed"] for result in (first, second)]
    assert seeds[0] != seeds[1]
    with cp.cloud(build(), cache=cache):
        third = pm.sample(**short)
    assert len(runs) == 2
    assert_identical(second, third)
    assert len(files()) == (cache == "disk")


def test_cloud_overwrite_leaves_other_entries_alone(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    cp.sample(build(), draws=10, cache="disk")
    cp.sample(build(), draws=20, cache="disk")
    cp.sample(build(), draws=20, cache="disk", overwrite=True)
    cp.sample(build(), draws=10, cache="disk")
    assert len(stub_runs) == 3
    assert len(files()) == 2


def test_cloud_takes_a_cache_object_of_the_users_own(
    build: Build, short: Options, runs: list[Any], assert_identical: Check
) -> None:
    class Shelf:
        """Entries in a dictionary."""

        def __init__(self) -> None:
            self.kept: dict[str, tuple[xr.DataTree, cp.Entry]] = {}
            self.asked: list[tuple[str, str]] = []

        def get(self, token: str, *, model: str, label: str) -> tuple[xr.DataTree, cp.Entry] | None:
            self.asked.append((model, label))
            return self.kept.get(token)

        def put(self, tree: xr.DataTree, record: cp.Record) -> cp.Entry:
            entry = cp.Entry(record, None, tree.nbytes)
            self.kept[record.token] = tree.copy(deep=True), entry
            return entry

        def entries(self) -> list[cp.Entry]:
            return [entry for _, entry in self.kept.values()]

    shelf = Shelf()
    first = cp.sample(build(), cache=shelf, **short)
    second = cp.sample(build(), cache=shelf, **short)
    assert len(runs) == 1
    assert_identical(first, second)
    assert shelf.asked == [("small", "draws20_tune20_chains2_seed1")] * 2
    (entry,) = shelf.entries()
    assert entry.record.token == first.attrs["cloudposterior_token"]
    assert entry.record.random_seed == 1
    assert entry.record.versions["pymc"] == pm.__version__
    assert cp.explain(build(), cache=shelf, **short).hit


@pytest.mark.parametrize(
    ("cache", "error"), [(5, TypeError), ("", TypeError), ("nosuch://bucket/x", ValueError)]
)
def test_cloud_refuses_what_is_no_cache(cache: Any, error: type[Exception], build: Build) -> None:
    with pytest.raises(error, match=r"cache="):
        cp.cloud(build(), cache=cache)
    with pytest.raises(error, match=r"cache="):
        cp.sample(build(), cache=cache)


def test_cloud_refuses_what_is_no_model() -> None:
    with pytest.raises(TypeError, match="takes a pymc.Model, got list"):
        cp.cloud([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a pymc.Model, got list"):
        cp.sample([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a pymc.Model, got list"):
        cp.explain([])  # type: ignore[arg-type]


def test_cloud_takes_keywords_only_after_the_model(build: Build) -> None:
    with pytest.raises(TypeError, match="positional"):
        cp.cloud(build(), "disk")  # type: ignore[misc]


def test_sample_takes_draws_by_position_as_pymc_does(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    cp.sample(build(), 7)
    cp.sample(build(), draws=7)
    with cp.cloud(build()):
        pm.sample(7)
    assert len(stub_runs) == 1


def test_sample_swaps_nothing(build: Build, short: Options, monkeypatch: Any) -> None:
    plain = pm.sample
    seen = []
    monkeypatch.setitem(short, "callback", lambda **_: seen.append(pm.sample is plain))
    cp.sample(build(), **short)
    assert seen
    assert all(seen)


def test_sample_enters_the_model_for_step_functions_that_need_it(
    build: Build, short: Options
) -> None:
    result = cp.sample(build(), cache=False, **short)
    assert set(result["posterior"].data_vars) == {"small::mu"}
    with pytest.raises(TypeError):
        pm.modelcontext(None)


@pytest.mark.parametrize("cache", ["memory", "disk", False])
def test_sample_gives_the_draws_of_plain_pymc(
    cache: Any, build: Build, short: Options, assert_same_draws: Check
) -> None:
    with build():
        plain = pm.sample(**short)
    ours = cp.sample(build(), cache=cache, **short)
    again = cp.sample(build(), cache=cache, **short)
    assert type(ours) is type(again) is type(plain)
    assert_same_draws(ours, plain)
    assert_same_draws(again, plain)
    assert list(ours["posterior"].data_vars) == list(plain["posterior"].data_vars)
    assert (
        list(ours.groups()) == list(plain.groups())
        if callable(ours.groups)
        else (ours.groups == plain.groups)
    )


def test_sample_gives_the_draws_of_plain_pymc_in_parallel(
    build: Build, short: Options, assert_same_draws: Check
) -> None:
    short["cores"] = 2
    with build():
        plain = pm.sample(**short)
    assert_same_draws(cp.sample(build(), **short), plain)


def test_sample_gives_the_draws_of_plain_pymc_for_its_default_sampler(
    build: Build, short: Options, assert_same_draws: Check, runs: list[Any]
) -> None:
    del short["nuts_sampler"]
    with build():
        plain = pm.sample(**short)
    ours = cp.sample(build(), **short)
    assert len(runs) == 1
    assert_same_draws(ours, plain)
    assert_same_draws(cp.sample(build(), **short), plain)
    assert len(runs) == 1


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_hit_has_every_group_of_the_run(
    cache: str, short: Options, assert_identical: Check, build: Build
) -> None:
    if pm.__version__.startswith("5"):
        short["idata_kwargs"] = {"log_likelihood": True}
    short["discard_tuned_samples"] = False
    model = build(coords={"week": ["one", "two"]})
    with model:
        pm.Data("x", np.arange(2.0), dims="week")
        pm.Deterministic("twice", 2 * model["small::mu"])
    first = cp.sample(model, cache=cache, **short)
    second = cp.sample(model, cache=cache, **short)
    assert_identical(first, second)
    names = set(second.children) if hasattr(second, "children") else set(second.groups())
    assert {"posterior", "sample_stats", "observed_data", "constant_data"} <= names
    assert "warmup_posterior" in names
    if pm.__version__.startswith("5"):
        assert "log_likelihood" in names


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_hit_is_the_callers_own_copy(
    cache: str, build: Build, short: Options, draws_of: Draws
) -> None:
    short["random_seed"] = np.random.default_rng(3)
    first = cp.sample(build(), cache=cache, **short)
    kept = draws_of(first)["small::mu"].copy()
    attrs = repr(first.attrs)
    # neither what the run gave nor what a hit gave is what is kept
    for result in (first, *(_again(build, cache, short) for _ in range(2))):
        assert np.array_equal(draws_of(result)["small::mu"], kept)
        assert repr(result.attrs) == attrs
        result["posterior"]["small::mu"].values[...] = -1.0
        result["posterior"].attrs["inference_library"] = "another"
        result["observed_data"]["small::y"].values[...] = 0.0
        _spoil(result.attrs)
    last = _again(build, cache, short)
    assert last["posterior"].attrs["inference_library"] == "pymc"
    assert last["observed_data"]["small::y"].values[0] == 0.1


def _again(build: Build, cache: str, short: Options) -> Any:
    """Ask for the same once more; the generator must be as it was before the first run."""
    return cp.sample(build(), cache=cache, **{**short, "random_seed": np.random.default_rng(3)})


def _spoil(attrs: Any) -> None:
    for name, value in list(attrs.items()):
        if isinstance(value, dict):
            value.clear()
        elif isinstance(value, list):
            value.append("more")
        else:
            attrs[name] = "spoilt"


def test_seed_none_is_hit_by_a_second_call(
    build: Build, short: Options, runs: list[Any], assert_identical: Check
) -> None:
    short["random_seed"] = None
    first = cp.sample(build(), **short)
    assert_identical(first, cp.sample(build(), **short))
    assert len(runs) == 1


@pytest.mark.parametrize("sampler", ["pymc", "default"])
def test_seed_recorded_repeats_a_run_that_had_none(
    sampler: str, build: Build, short: Options, assert_same_draws: Check
) -> None:
    if sampler == "default":
        del short["nuts_sampler"]
    short["random_seed"] = None
    first = cp.sample(build(), **short)
    short["random_seed"] = first.attrs["cloudposterior_random_seed"]
    assert isinstance(short["random_seed"], int)
    with build():
        plain = pm.sample(**short)
    assert_same_draws(first, plain)
    ours = cp.sample(build(), **short)
    assert ours.attrs["cloudposterior_random_seed"] == short["random_seed"]
    assert_same_draws(first, ours)


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("seed", [7, np.int64(7), 2**100])
def test_seed_given_is_recorded(
    cache: str, seed: Any, build: Build, stub_runs: list[pm.Model]
) -> None:
    for _ in range(2):
        result = cp.sample(build(), cache=cache, random_seed=seed)
        # one of more than 64 bits as text: no netCDF file has room for the number
        assert int(result.attrs["cloudposterior_random_seed"]) == int(seed)
    assert len(stub_runs) == 1


def test_seed_generator_is_keyed_by_its_state(build: Build, stub_runs: list[pm.Model]) -> None:
    cp.sample(build(), random_seed=np.random.default_rng(1))
    cp.sample(build(), random_seed=np.random.default_rng(1))
    assert len(stub_runs) == 1
    used = np.random.default_rng(1)
    used.random()
    cp.sample(build(), random_seed=used)
    assert len(stub_runs) == 2
    spawned = np.random.default_rng(1)
    spawned.spawn(2)
    cp.sample(build(), random_seed=spawned)
    assert len(stub_runs) == 3
    cp.sample(build(), random_seed=np.random.Generator(np.random.MT19937(1)))
    assert len(stub_runs) == 4


def test_seed_generator_moves_as_in_plain_pymc_where_the_call_runs(
    build: Build, short: Options, assert_same_draws: Check
) -> None:
    plain_rng, rng = np.random.default_rng(5), np.random.default_rng(5)
    with build():
        plain = pm.sample(**{**short, "random_seed": plain_rng})
    ours = cp.sample(build(), **{**short, "random_seed": rng})
    assert_same_draws(ours, plain)
    assert rng.bit_generator.state == plain_rng.bit_generator.state
    assert _spawned(rng) == _spawned(plain_rng)


def test_seed_generator_is_left_alone_by_a_hit(build: Build, short: Options) -> None:
    cp.sample(build(), **{**short, "random_seed": np.random.default_rng(5)})
    rng = np.random.default_rng(5)
    before = rng.bit_generator.state
    cp.sample(build(), **{**short, "random_seed": rng})
    assert rng.bit_generator.state == before
    assert _spawned(rng) == 0


def _spawned(rng: np.random.Generator) -> int:
    return int(rng.bit_generator.seed_seq.n_children_spawned)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "seed", [None, 7, 2**100, [1, 2], "generator"], ids=["none", "int", "big", "list", "generator"]
)
def test_result_can_be_saved_as_plain_pymc_results_can(
    seed: Any, build: Build, in_tmp_path: Path
) -> None:
    if isinstance(seed, list):
        pytest.importorskip("pymc", minversion="6.0", reason="PyMC 5 warns of lists of seeds")
    short = {"draws": 10, "tune": 10, "chains": 1, "cores": 1, "nuts_sampler": "pymc"}
    short.update(progressbar=False, compute_convergence_checks=False)
    seed = np.random.default_rng(2) if seed == "generator" else seed
    result = cp.sample(build(), random_seed=seed, **short)
    result.to_netcdf(str(in_tmp_path / "own.nc"))
    assert (in_tmp_path / "own.nc").is_file()


def test_initial_values_of_the_caller_are_not_changed(build: Build, short: Options) -> None:
    given = {
        "initvals": {"small::mu": 0.5},
        "compile_kwargs": {"mode": "FAST_COMPILE"},
        "idata_kwargs": {"include_transformed": False},
        "nuts": {"max_treedepth": 5},
    }
    before = repr(given)
    cp.sample(build(), target_accept=0.9, **short, **given)
    assert repr(given) == before


@pytest.mark.filterwarnings("ignore:Passing `log_likelihood`:FutureWarning")
def test_same_dictionary_of_arguments_hits_twice(
    build: Build, short: Options, runs: list[Any]
) -> None:
    # PyMC takes entries out of some of the dictionaries it is given
    short["idata_kwargs"] = {"log_likelihood": True}
    for _ in range(2):
        assert "log_likelihood" in cp.sample(build(), **short)
    assert len(runs) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"nuts": {"target_accept": 0.8}, "target_accept": 0.9},
        {"start": {"small::mu": 0.0}, "initvals": {"small::mu": 0.0}},
        {"random_seed": -1},
        {"random_seed": np.random.RandomState(1)},
        {"initvals": {"nosuch": 0.0}},
        {"var_names": ["nosuch"]},
        {"draws": -1000},
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_arguments_that_pymc_refuses_are_refused_alike(
    arguments: Options, build: Build, short: Options
) -> None:
    cp.sample(build(), target_accept=0.9, **short)
    with pytest.raises(Exception) as plain, build():
        pm.sample(**{**short, **arguments})
    with pytest.raises(plain.type) as ours, cp.cloud(build()):
        pm.sample(**{**short, **arguments})
    assert str(ours.value) == str(plain.value)
    assert len(MEMORY.entries()) == 1


@pytest.mark.filterwarnings("ignore:The `start` kwarg was renamed:FutureWarning")
def test_start_means_what_it_means_to_pymc(
    build: Build, short: Options, assert_same_draws: Check
) -> None:
    # older PyMC takes it for `initvals`, newer PyMC hands it on to its chains as it is
    short["start"] = [{"small::mu": np.array(3.0)}, {"small::mu": np.array(-3.0)}]
    short["tune"] = 0
    with build():
        plain = pm.sample(**short)
    assert_same_draws(cp.sample(build(), **short), plain)


def test_model_without_free_variables_gets_the_error_of_pymc() -> None:
    with pm.Model(name="empty") as model:
        pm.Normal("y", 0.0, 1.0, observed=[1.0])
    with pytest.raises(pm.exceptions.SamplingError, match="free variables"), cp.cloud(model):
        pm.sample()


def test_sampler_that_does_not_fit_gets_the_error_of_pymc() -> None:
    with pm.Model(name="counts") as model:
        pm.Poisson("n", 3.0)
    for nuts_sampler in ("nutpie", "nosuchsampler"):
        with pytest.raises(ValueError), cp.cloud(model):
            pm.sample(nuts_sampler=nuts_sampler, chains=2, draws=10)
    assert MEMORY.entries() == []


@pytest.mark.parametrize("name", ["../../x", "n" * 300, "\N{SNOWMAN}", "CON", "dot.", "a/b", ""])
def test_model_of_any_name_stays_inside_the_cache_directory(
    name: str, build: Build, stub_runs: list[pm.Model], in_tmp_path: Path
) -> None:
    for _ in range(2):
        model = build()
        model.name = name  # PyMC lets no slash into the names of new models
        cp.sample(model, cache="deep/down/kept")
    assert len(stub_runs) == 1
    (path,) = files(in_tmp_path)
    assert path.parent.parent == in_tmp_path / "deep" / "down" / "kept"


def test_models_whose_names_differ_by_case_are_kept_apart(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    for name in ("radon", "Radon", "RADON"):
        cp.sample(build(name), cache="kept")
    assert len(stub_runs) == 3
    assert len({str(path.parent).lower() for path in files()}) == 3


def test_model_without_a_name_is_named_after_its_free_variables(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    cp.sample(build(""), cache="kept")
    assert [path.parent.name for path in files()] == ["mu"]


def test_result_carries_what_is_known_of_its_run(build: Build, stub_runs: list[pm.Model]) -> None:
    attrs = cp.sample(build()).attrs
    assert len(attrs["cloudposterior_token"]) == 32
    assert attrs["cloudposterior_elapsed_s"] >= 0
    assert attrs["cloudposterior_created"].endswith("+00:00")
    (entry,) = MEMORY.entries()
    assert entry.record.created == attrs["cloudposterior_created"]


def test_data_set_anew_is_a_miss_and_set_back_a_hit(
    build_radon: Build, stub_runs: list[pm.Model]
) -> None:
    model = build_radon()
    county = model["radon::county_idx"].get_value()
    changed = county.copy()
    changed[459] = (changed[459] + 1) % 85
    cp.sample(model)
    for values in (changed, county):
        with model:
            pm.set_data({"county_idx": values})
        cp.sample(model)
    assert len(stub_runs) == 2


@pytest.mark.skipif(pm.__version__.startswith("5"), reason="PyMC 5 has no frozen models")
def test_frozen_model_is_sampled_once(
    build: Build, short: Options, runs: list[Any], assert_same_draws: Check
) -> None:
    from pymc.model.transform.optimization import freeze_model

    frozen = freeze_model(build())
    with cp.cloud(frozen) as model:
        first = pm.sample(**short)
        second = pm.sample(**short)
    assert model is frozen
    assert len(runs) == 1
    assert_same_draws(first, second)
    third = cp.sample(freeze_model(build()), **short)
    assert len(runs) == 1
    assert_same_draws(first, third)


def test_module_named_explain_does_not_hide_the_function() -> None:
    assert callable(cp.explain)
    assert "cloudposterior.explanation" in sys.modules
