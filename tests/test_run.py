"""The path of a call where things go wrong, and between processes."""

from __future__ import annotations

import functools
import io
import os
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

import cloudposterior as cp
from cloudposterior.cache.choice import MEMORY
from cloudposterior.samplers import pymc as sampler_pymc

pytestmark = pytest.mark.usefixtures("in_tmp_path", "exact")

Build = Callable[..., pm.Model]
Check = Callable[[Any, Any], None]
Options = dict[str, Any]
PYMC_5 = pm.__version__.startswith("5")


def sampled_with_one_warning(
    kind: type[Warning], *words: str, model: pm.Model, **kwargs: Any
) -> Any:
    """Sample, and check that one warning came, what it says, and that it points here."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "`return_inferencedata=False` is deprecated")
        result = cp.sample(model, **kwargs)
    ours = [w for w in caught if issubclass(w.category, cp.CacheWarning | cp.TokenWarning)]
    assert [w.category for w in ours] == [kind], [str(w.message) for w in ours]
    for word in words:
        assert word in str(ours[0].message)
    assert ours[0].filename == __file__
    return result


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small file system in memory."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    place = tmp_path / "mounted"
    place.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            pytest.skip("mounting a tmpfs is not allowed here")
        return place

    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", str(place)], check=True)


def test_posterior_is_returned_when_the_disk_is_full(
    build: Build, short: Options, assert_same_draws: Check, mounted: Callable[[str], Path]
) -> None:
    place = mounted("size=16k")
    plain = cp.sample(build(), cache=False, **short)
    result = sampled_with_one_warning(
        cp.CacheWarning, "saved", "No space left", model=build(), cache=place, **short
    )
    assert_same_draws(result, plain)
    assert [path for path in place.rglob("*") if path.is_file()] == []


def test_posterior_is_returned_when_the_directory_is_read_only(
    build: Build, short: Options, assert_same_draws: Check, mounted: Callable[[str], Path]
) -> None:
    place = mounted("size=1m,ro")
    plain = cp.sample(build(), cache=False, **short)
    result = sampled_with_one_warning(
        cp.CacheWarning, "saved", "Read-only", model=build(), cache=place / "kept", **short
    )
    assert_same_draws(result, plain)


def test_read_only_directory_still_answers(
    build: Build, short: Options, assert_identical: Check, mounted: Callable[[str], Path]
) -> None:
    place = mounted("size=4m")
    first = cp.sample(build(), cache=place, **short)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    assert_identical(cp.sample(build(), cache=place, **short), first)


def test_posterior_is_returned_when_the_directory_lies_under_a_file(
    build: Build, short: Options, assert_same_draws: Check, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    plain = cp.sample(build(), cache=False, **short)
    result = sampled_with_one_warning(
        cp.CacheWarning, "taken", model=build(), cache=tmp_path / "taken" / "kept", **short
    )
    assert_same_draws(result, plain)


def test_posterior_is_returned_when_the_directory_is_a_file(
    build: Build, short: Options, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    sampled_with_one_warning(
        cp.CacheWarning, "taken", model=build(), cache=tmp_path / "taken", **short
    )
    assert (tmp_path / "taken").read_text() == "a file"


def test_posterior_is_returned_when_the_directorys_name_is_too_long(
    build: Build, short: Options, tmp_path: Path
) -> None:
    sampled_with_one_warning(
        cp.CacheWarning, "name too long", model=build(), cache=tmp_path / ("n" * 300), **short
    )


def test_posterior_is_returned_when_another_program_holds_its_place(
    build: Build, short: Options, tmp_path: Path
) -> None:
    # a directory where the file is to be
    first = cp.sample(build(), cache="kept", **short)
    (path,) = Path("kept").rglob("*.nc")
    path.unlink()
    (path / "inside").mkdir(parents=True)
    with pytest.warns(cp.CacheWarning, match="not a regular file"):
        second = cp.sample(build(), cache="kept", **short)
    assert np.array_equal(
        first["posterior"]["small::mu"].values, second["posterior"]["small::mu"].values
    )


def test_long_label_is_saved(build: Build, stub_runs: list[pm.Model]) -> None:
    seed = 10**400
    for _ in range(2):
        cp.sample(build(), cache="kept", random_seed=seed)
    assert len(stub_runs) == 1


def test_posterior_is_returned_when_netcdf_cannot_hold_a_coordinate(
    build: Build, short: Options, assert_identical: Check
) -> None:
    class Week:
        def __repr__(self) -> str:
            return "a week"

    model = build(coords={"week": [Week(), Week()]})
    with model:
        pm.Deterministic("per_week", pt.stack([model["small::mu"]] * 2), dims="week")
    result = sampled_with_one_warning(
        cp.CacheWarning, "saved", "week", model=model, cache="disk", **short
    )
    assert list(result["posterior"]["small::per_week"].dims) == ["chain", "draw", "week"]
    assert list(Path(".").rglob("*.nc")) == []


def test_posterior_is_returned_when_netcdf_cannot_hold_an_attribute(
    build: Build, short: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a newer PyMC, or a sampler of another package, may say more of a run
    sample = sampler_pymc.SAMPLE
    note = object()

    @functools.wraps(sample)
    def noted(*args: Any, **kwargs: Any) -> Any:
        result = sample(*args, **kwargs)
        result["posterior"].attrs["note"] = note
        return result

    monkeypatch.setattr(sampler_pymc, "SAMPLE", noted)
    result = sampled_with_one_warning(
        cp.CacheWarning, "saved", "note", model=build(), cache="disk", **short
    )
    assert result["posterior"].attrs["note"] is note
    assert list(Path(".").rglob("*.nc")) == []


def test_posterior_is_returned_when_netcdf_cannot_hold_its_warnings(
    build: Build, short: Options
) -> None:
    # every step diverges, and the reason is kept as an object
    short |= {"keep_warning_stat": True, "Emax": 1e-12}
    result = sampled_with_one_warning(
        cp.CacheWarning, "saved", "warning", model=build(), cache="disk", **short
    )
    reasons = result["sample_stats"]["warning"].values.ravel()
    assert {type(reason).__name__ for reason in reasons} >= {"SamplerWarning"}
    assert list(Path(".").rglob("*.nc")) == []


class Failing:
    """A cache in which one of the three calls fails."""

    def __init__(self, call: str) -> None:
        self.call = call

    def _fail(self, call: str) -> None:
        if call == self.call:
            raise RuntimeError(f"the wire to {call} is cut")

    def get(self, token: str, *, model: str, label: str) -> None:
        """Find nothing."""
        self._fail("get")

    def put(self, tree: Any, record: Any) -> None:
        """Keep nothing."""
        self._fail("put")

    def entries(self) -> list[Any]:
        """List nothing."""
        self._fail("entries")
        return []


@pytest.mark.parametrize("call", ["get", "put"])
def test_posterior_is_returned_when_a_cache_fails(
    call: str, build: Build, stub_runs: list[pm.Model]
) -> None:
    result = sampled_with_one_warning(
        cp.CacheWarning, f"the wire to {call} is cut", model=build(), cache=Failing(call)
    )
    assert "mu" in result["posterior"].data_vars


def test_broken_file_is_a_miss_with_one_warning_that_names_it(
    build: Build, short: Options, runs: list[Any], assert_same_draws: Check
) -> None:
    first = cp.sample(build(), cache="kept", **short)
    (path,) = Path("kept").rglob("*.nc")
    path.write_bytes(path.read_bytes()[:-100])
    second = sampled_with_one_warning(
        cp.CacheWarning, path.name, model=build(), cache="kept", **short
    )
    assert len(runs) == 2
    assert_same_draws(first, second)
    assert_same_draws(cp.sample(build(), cache="kept", **short), first)
    assert len(runs) == 2
    assert len(list(Path("kept").rglob("*.aside-*"))) == 1


class Logged(Op):
    """Square a number, and write it down in a file that is open."""

    itypes = (pt.dscalar,)
    otypes = (pt.dscalar,)

    def __init__(self, log: io.TextIOBase) -> None:
        self.log = log

    def make_node(self, x: Any) -> Apply:
        """Make the node of one scalar."""
        return Apply(self, [pt.as_tensor_variable(x)], [pt.dscalar()])

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        """Square it."""
        self.log.write(f"{inputs[0]}\n")
        outputs[0][0] = np.asarray(inputs[0] ** 2)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Any]:
    """An open file."""
    with (tmp_path / "log.txt").open("w") as file:
        yield file


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_model_with_an_open_file_runs_uncached_with_one_warning(
    cache: str, build: Build, short: Options, runs: list[Any], log: Any, assert_same_draws: Check
) -> None:
    model = build()
    with model:
        pm.Deterministic("squared", Logged(log)(model["small::mu"]))
    short["compile_kwargs"] = {"mode": "FAST_COMPILE"}
    results = [
        sampled_with_one_warning(
            cp.TokenWarning, "squared", "log", "TextIOWrapper", model=model, cache=cache, **short
        )
        for _ in range(2)
    ]
    assert len(runs) == 2
    assert_same_draws(*results)
    assert MEMORY.entries() == []
    assert list(Path(".").rglob("*.nc")) == []


def test_model_attribute_without_a_value_is_named(
    build: Build, stub_runs: list[pm.Model], log: Any
) -> None:
    model = build()
    model.written_to = log
    sampled_with_one_warning(cp.TokenWarning, "written_to", "TextIOWrapper", model=model)
    assert len(stub_runs) == 1


def test_argument_without_a_value_is_named(
    build: Build, stub_runs: list[pm.Model], log: Any
) -> None:
    sampled_with_one_warning(
        cp.TokenWarning, "nuts", "TextIOWrapper", model=build(), nuts={"log_to": log}
    )
    assert len(stub_runs) == 1


def test_model_with_an_open_file_and_no_cache_gives_no_warning(
    build: Build, stub_runs: list[pm.Model], log: Any
) -> None:
    model = build()
    model.written_to = log
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cp.sample(model, cache=False)
    assert len(stub_runs) == 1


def test_multitrace_is_given_uncached_with_one_warning(
    build: Build, short: Options, runs: list[Any]
) -> None:
    short["return_inferencedata"] = False
    for _ in range(2):
        trace = sampled_with_one_warning(
            cp.TokenWarning, "return_inferencedata=False", model=build(), **short
        )
        assert isinstance(trace, pm.backends.base.MultiTrace)
    assert len(runs) == 2
    assert MEMORY.entries() == []


def test_trace_of_ones_own_runs_uncached_with_one_warning(
    build: Build, short: Options, runs: list[Any]
) -> None:
    for _ in range(2):
        model = build()
        trace = pm.backends.NDArray(model=model)
        result = sampled_with_one_warning(
            cp.TokenWarning, "trace=", model=model, trace=trace, **short
        )
        assert result["posterior"].sizes["draw"] == 20
    assert len(runs) == 2
    assert MEMORY.entries() == []


def stop_at(number: int) -> Callable[..., None]:
    """Make a callback that stops sampling as the stop button does."""
    count = 0

    def callback(**_: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise KeyboardInterrupt

    return callback


# 20 tuning and 20 other draws in each of two chains, one after the other
@pytest.mark.parametrize(
    "number", [5, 30, 45, 75], ids=["tuning", "draws", "second tuning", "second draws"]
)
@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_run_that_was_interrupted_is_returned_and_not_kept(
    cache: str, number: int, build: Build, short: Options, runs: list[Any]
) -> None:
    # PyMC gives back the draws that it has when the user stops it
    part = sampled_with_one_warning(
        cp.CacheWarning,
        "interrupted",
        model=build(),
        cache=cache,
        callback=stop_at(number),
        **short,
    )
    assert part is runs[0]
    whole = cp.sample(build(), cache=cache, **short)
    assert dict(whole["posterior"].sizes) == {"chain": 2, "draw": 20}
    cp.sample(build(), cache=cache, **short)
    assert len(runs) == 2


def test_run_that_was_interrupted_does_not_replace_the_whole(
    build: Build, short: Options, assert_identical: Check
) -> None:
    whole = cp.sample(build(), cache="disk", **short)
    sampled_with_one_warning(
        cp.CacheWarning,
        "interrupted",
        model=build(),
        cache="disk",
        overwrite=True,
        callback=stop_at(30),
        **short,
    )
    assert_identical(cp.sample(build(), cache="disk", **short), whole)


def test_run_that_nutpie_filled_up_with_nan_is_returned_and_not_kept(
    build: Build, short: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    # stopped in its second chain, nutpie gives all draws their place, with NaN for the rest
    sample = sampler_pymc.SAMPLE

    @functools.wraps(sample)
    def stopped(*args: Any, **kwargs: Any) -> Any:
        result = sample(*args, **kwargs)
        result["posterior"]["small::mu"].values[1, 10:] = np.nan
        return result

    with monkeypatch.context() as patch:
        patch.setattr(sampler_pymc, "SAMPLE", stopped)
        sampled_with_one_warning(cp.CacheWarning, "interrupted", model=build(), **short)
    whole = cp.sample(build(), **short)
    assert np.isfinite(whole["posterior"]["small::mu"].values).all()


def test_run_that_failed_leaves_no_entry(build: Build, short: Options) -> None:
    class Stop(Exception):
        pass

    def stop(**_: Any) -> None:
        raise Stop

    for cache in ("memory", "disk"):
        with pytest.raises(Stop):
            cp.sample(build(), cache=cache, callback=stop, **short)
    assert MEMORY.entries() == []
    assert list(Path(".").rglob("*.nc")) == []


PROGRAM = '''
import sys
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import cloudposterior as cp

SPREAD = {"wide": 3.0, "narrow": 0.5}
NAMES = {"alpha", "beta", "gamma", "delta"}


def log_density(value, centre, width=SPREAD["wide"]):
    """Density of a normal variable, less a constant."""
    scale = width * len(NAMES)
    return -0.5 * pt.sqr((value - centre) / scale)


def build():
    with pm.Model(name="shared", coords={"site": sorted(NAMES)}) as model:
        centre = pm.Normal("centre", 0.0, 1.0)
        theta = pm.CustomDist("theta", centre, logp=log_density)
        pm.Normal("y", theta, 1.0, observed=np.array([0.5, 1.5, -0.5, 0.0]), dims="site")
    return model


def main(draws):
    for number in draws:
        result = cp.sample(
            build(),
            draws=int(number),
            tune=20,
            chains=2,
            cores=1,
            random_seed=3,
            nuts_sampler="pymc",
            progressbar=False,
            compute_convergence_checks=False,
            initvals={"shared::theta": 0.1},
            cache="kept",
        )
        values = np.ascontiguousarray(result["posterior"]["shared::theta"].values)
        print("draws", number, values.tobytes().hex()[:64])


if __name__ == "__main__":
    main(sys.argv[1:])
'''


def start(directory: Path, hash_seed: str, program: list[str]) -> subprocess.Popen[str]:
    """Start Python in a directory under a hash seed."""
    return subprocess.Popen(
        [sys.executable, *program],
        cwd=directory,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    """Wait for a process, and give what it printed."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output.splitlines()


def test_processes_with_other_hash_seeds_hit_each_others_entries(tmp_path: Path) -> None:
    (tmp_path / "shared_model.py").write_text(textwrap.dedent(PROGRAM))
    as_main = ["shared_model.py"]
    as_module = ["-c", "import sys, shared_model; shared_model.main(sys.argv[1:])"]
    first = [
        start(tmp_path, "1", [*as_main, "20"]),
        start(tmp_path, "2", [*as_module, "30"]),
    ]
    made = [lines_of(process) for process in first]
    # the slower of the two may say that the other's entry is near
    assert not [line for lines in made for line in lines if line.startswith("cached result")]
    second = [
        start(tmp_path, "3", [*as_main, "20", "30"]),
        start(tmp_path, "4", [*as_module, "20", "30"]),
    ]
    expected = [line for lines in made for line in lines if line.startswith("draws")]
    assert len(expected) == 2
    for process in second:
        lines = lines_of(process)
        assert [line for line in lines if line.startswith("draws")] == expected
        assert len([line for line in lines if line.startswith("cached result")]) == 2
    assert len(list((tmp_path / "kept").rglob("*.nc"))) == 2


def test_result_without_a_cache_has_its_seed_too(build: Build, short: Options) -> None:
    short["random_seed"] = None
    result = cp.sample(build(), cache=False, **short)
    assert isinstance(result.attrs["cloudposterior_random_seed"], int)
    assert "cloudposterior_token" not in result.attrs


def test_posterior_outlives_warnings_that_are_errors(
    build: Build, short: Options, runs: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error", cp.CacheWarning)
        assert cp.sample(build(), cache="taken", **short) is runs[0]
    assert "could not be saved" in capsys.readouterr().err


class Nasty:
    """Raises what nobody expects when it is read."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            raise LookupError("no class today")
        return object.__getattribute__(self, name)


def test_object_that_cannot_be_read_leaves_the_run_uncached(
    build: Build, short: Options, runs: list[Any]
) -> None:
    model = build()
    model.note = Nasty()
    result = sampled_with_one_warning(cp.TokenWarning, "not cached", model=model, **short)
    assert result is runs[0]


def test_hit_is_told_where_its_name_cannot_be_shown(
    build: Build, stub_runs: list[pm.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    for _ in range(2):
        cp.sample(build("snow\N{SNOWMAN}"), chains=2)
    shown.seek(0)
    assert "cached result: snow\\u2603" in shown.read()
    assert len(stub_runs) == 1
