"""Chains that were finished when another failed: kept, taken by the next try, and discarded."""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr
from distributed import Client

import cloudposterior as cp
from cloudposterior.cache.choice import MEMORY
from cloudposterior.cli import main
from cloudposterior.errors import ChainError, ClusterWarning
from cloudposterior.posterior import to_tree
from cloudposterior.samplers import pymc_chains
from cloudposterior.samplers.chain_tree import segments_of, tree_of
from cloudposterior.samplers.pymc_join import PyMCJoin
from cloudposterior.samplers.whole_chains import WholeChains
from cloudposterior.samplers.whole_join import WholeJoin

from .sameness import Options, assert_same_result

pytestmark = pytest.mark.usefixtures("in_tmp_path", "quick_compiling", "one_segment")

PATIENCE_S = 120

RUN: Options = {
    "draws": 20,
    "tune": 20,
    "chains": 4,
    "nuts_sampler": "pymc",
    "progressbar": False,
    "compute_convergence_checks": False,
}


def small() -> pm.Model:
    """Two step methods, NUTS for a transformed vector and Metropolis."""
    with pm.Model(name="small", coords={"part": ["a", "b"]}) as model:
        spread = pm.HalfNormal("spread", 1.0, dims="part")
        count = pm.Poisson("count", 3.0)
        pm.Deterministic("twice", 2 * spread, dims="part")
        pm.Normal("y", count, spread.sum(), observed=np.array([0.1, 1.2, 0.8]))
    return model


@pytest.fixture
def quick_compiling() -> Iterator[None]:
    """Run functions as they are written down: tiny models take longer to compile than to draw."""
    with pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False):
        yield


@pytest.fixture
def one_segment() -> Iterator[None]:
    """Draw each chain in one segment, so that a script can tell the whole ones."""
    with dask.config.set({"cloudposterior.cluster.first-segment": "60s"}):
        yield


# in the workers ----------------------------------------------------------------------------------

DRAWN: list[int] = []
"""The chains that were drawn in this process."""

_OWN_DRAW = pymc_chains._draw
_OWN_SAMPLE = WholeChains._sample


def script(fails: int | None = None, lags: int | None = None, arrived: str = "") -> None:
    """Say what happens in this process from now on.

    Chain `fails` breaks in the midst of its draws, once three others have arrived at the client;
    chain `lags` goes no further than its first draw before the run is stopped.
    """

    def others_arrived() -> bool:
        return len(list(Path(arrived).iterdir())) >= 3

    def draw(prepared: Any, state: Any, budget: Any) -> Any:
        chain = state.chains[0]
        DRAWN.append(chain)
        if chain not in (fails, lags):
            return _OWN_DRAW(prepared, state, budget)
        started = _OWN_DRAW(prepared, state, replace(budget, seconds=0.0))
        wait_until(others_arrived if chain == fails else budget.stopped)
        if chain == fails:
            raise RuntimeError("scripted")
        return started

    def sample(self: Any, kept: Any, run: Any, chain: int) -> Any:
        DRAWN.append(chain)
        if chain == fails:
            wait_until(others_arrived)
            raise RuntimeError("scripted")
        return _OWN_SAMPLE(self, kept, run, chain)

    DRAWN.clear()
    pymc_chains._draw = draw
    WholeChains._sample = sample  # type: ignore[method-assign]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def unscript() -> None:
    pymc_chains._draw = _OWN_DRAW
    WholeChains._sample = _OWN_SAMPLE  # type: ignore[method-assign]


def drawn() -> list[int]:
    return DRAWN


# in the client -----------------------------------------------------------------------------------


UNDISTURBED: dict[bool, Any] = {}


@dataclass
class Scripted:
    """A cluster whose workers do what a script says."""

    client: Client
    arrived: Path

    def script(self, **fails: int) -> None:
        for file in self.arrived.iterdir():
            file.unlink()
        self.client.run(script, arrived=str(self.arrived), **fails)

    def drawn(self) -> list[int]:
        """The chains that were drawn since the script, sorted."""
        return sorted(chain for chains in self.client.run(drawn).values() for chain in chains)

    def sample(self, cache: Any, model: pm.Model | None = None, **options: Any) -> Any:
        with self.client.as_current():
            return cp.sample(
                model or small(), cluster=self.client, cache=cache, **{**RUN, **options}
            )

    def undisturbed(self, discard: bool = True) -> Any:
        """What seed 5 gives where nothing fails."""
        if discard not in UNDISTURBED:
            UNDISTURBED[discard] = self.sample(False, random_seed=5, discard_tuned_samples=discard)
        return UNDISTURBED[discard]

    def fail(self, cache: Any, **options: Any) -> list[str]:
        """Run with chain 3 failing; give the notes of the error."""
        self.script(fails=3)
        with pytest.raises(ChainError, match=r"chain 3 failed on tcp://.*scripted") as told:
            self.sample(cache, **options)
        notes = list(told.value.__notes__)
        # the frames of an error hold futures, and what they hold is not drawn again
        del told
        gc.collect()
        self.script()
        return notes


@pytest.fixture
def scripted(
    two_workers: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scripted]:
    arrived = tmp_path / "arrived"
    arrived.mkdir()
    for kind in (PyMCJoin, WholeJoin):
        monkeypatch.setattr(kind, "add", noted(kind.add, arrived))
    cluster = Scripted(two_workers, arrived)
    cluster.script()
    yield cluster
    two_workers.run(unscript)


def noted(add: Callable[..., None], arrived: Path) -> Callable[..., None]:
    """Leave a file for each chain that has come in whole."""

    @functools.wraps(add)
    def adding(self: Any, segment: Any, *args: Any) -> None:
        add(self, segment, *args)
        if self.is_whole(segment.chain):
            (arrived / str(segment.chain)).touch()

    return adding


@pytest.fixture(params=["disk", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return cp.DiskCache(tmp_path / "cache") if request.param == "disk" else MEMORY


class Shelf:
    """A cache of a user's, who knows of no more than the three calls."""

    def __init__(self, full: bool = False) -> None:
        self.kept = cp.MemoryCache()
        self.full = full

    def get(self, token: str, *, model: str, label: str) -> Any:
        return self.kept.get(token, model=model, label=label)

    def put(self, tree: xr.DataTree, record: cp.Record) -> cp.Entry:
        if self.full:
            raise OSError("no room on this shelf")
        return self.kept.put(tree, record)

    def entries(self) -> list[cp.Entry]:
        return self.kept.entries()


def parts(cache: Any) -> list[cp.Entry]:
    return [entry for entry in cache.entries() if entry.record.part_of is not None]


def numbers(cache: Any) -> list[int]:
    return sorted(entry.record.manifest["chain"] for entry in parts(cache))


@pytest.mark.parametrize("discard", [True, False], ids=["draws", "draws and tuning"])
def test_next_try_draws_only_the_missing_chain(
    scripted: Scripted, cache: Any, discard: bool
) -> None:
    options = {"random_seed": 5, "discard_tuned_samples": discard}
    undisturbed = scripted.undisturbed(discard)
    scripted.fail(cache, **options)
    assert numbers(cache) == [0, 1, 2]
    again = scripted.sample(cache, **options)
    assert scripted.drawn() == [3]
    assert_same_result(again, undisturbed)
    assert parts(cache) == []
    (entry,) = cache.entries()
    assert entry.record.token == again.attrs["cloudposterior_token"]
    scripted.script()
    assert_same_result(scripted.sample(cache, **options), undisturbed)
    assert scripted.drawn() == []


def test_call_without_a_seed_goes_on_with_the_first_one(scripted: Scripted, cache: Any) -> None:
    scripted.fail(cache)
    (seed,) = {entry.record.random_seed for entry in parts(cache)}
    again = scripted.sample(cache)
    assert scripted.drawn() == [3]
    assert again.attrs["cloudposterior_random_seed"] == seed
    assert_same_result(again, scripted.sample(False, random_seed=seed))
    assert parts(cache) == []


def test_kept_chains_are_entries_that_name_their_run(scripted: Scripted) -> None:
    scripted.fail("disk", random_seed=5)
    # a second failure keeps what is there
    notes = scripted.fail("disk", random_seed=5)
    assert (
        notes[-1]
        == "120 draws of 3 chains are kept in the cache; the same call draws only what is missing"
    )
    files = sorted(Path(".cloudposterior/small").iterdir())
    assert [path.name.rpartition("-")[0] for path in files] == [
        f"draws20_tune20_chains4_seed5_chain{chain}_part0" for chain in range(3)
    ]
    disk = cp.DiskCache(".cloudposterior")
    assert {entry.record.model for entry in disk.entries()} == {"small"}
    assert disk.verify() == []
    kept = parts(disk)[0].record
    tree, _ = disk.get(kept.token, model=kept.model, label=kept.label) or pytest.fail("a miss")
    # tuning that is discarded takes no room
    assert tree["samples"].sizes["draw"] == 20
    assert tree["stats_0"].sizes["draw"] == 40
    # no result: nothing to compare another call with
    told = cp.explain(small(), cluster=scripted.client, cache="disk", **{**RUN, "draws": 30})
    assert str(told) == "miss: nothing is kept for 'small'"
    path = parts(disk)[1].path
    assert path is not None
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.warns(cp.CacheWarning, match="moved aside"):
        again = scripted.sample("disk", random_seed=5)
    assert len(scripted.drawn()) == 2
    assert again.attrs["cloudposterior_token"] == kept.part_of
    assert len(disk.clear()) == 1


def test_overwrite_takes_nothing(scripted: Scripted) -> None:
    scripted.fail(MEMORY, random_seed=5)
    scripted.sample(MEMORY, random_seed=5, overwrite=True)
    assert scripted.drawn() == [0, 1, 2, 3]
    assert parts(MEMORY) == []


def test_other_request_takes_nothing(scripted: Scripted) -> None:
    scripted.fail(MEMORY, random_seed=5)
    scripted.sample(MEMORY, random_seed=6)
    assert scripted.drawn() == [0, 1, 2, 3]
    assert numbers(MEMORY) == [0, 1, 2]


def test_cache_without_discard_works(scripted: Scripted) -> None:
    shelf = Shelf()
    scripted.fail(shelf, random_seed=5)
    scripted.sample(shelf, random_seed=5)
    assert scripted.drawn() == [3]
    assert numbers(shelf) == [0, 1, 2]
    scripted.sample(shelf, random_seed=5)
    assert scripted.drawn() == [3]


def test_failure_to_keep_chains_hides_no_error(scripted: Scripted) -> None:
    with pytest.warns(cp.CacheWarning, match="keeping what was drawn failed.*no room"):
        notes = scripted.fail(Shelf(full=True), random_seed=5)
    assert not any("kept in the cache" in note for note in notes)


def test_warning_that_is_an_error_hides_no_error(
    scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    # as pytest is set up here
    scripted.fail(Shelf(full=True), random_seed=5)
    assert "no room on this shelf" in capsys.readouterr().err


def put_again(
    cache: Any, chain: int, changed: Callable[[xr.DataTree], xr.DataTree], **record: Any
) -> None:
    """Put something else in the place of a chain."""
    old = next(entry.record for entry in parts(cache) if entry.record.manifest["chain"] == chain)
    tree, _ = cache.get(old.token, model=old.model, label=old.label)
    cache.put(changed(tree), replace(old, **record))


@pytest.mark.parametrize("seed", [None, 5])
def test_chain_of_another_seed_is_drawn_again(scripted: Scripted, seed: int | None) -> None:
    scripted.fail(MEMORY, random_seed=seed)
    put_again(MEMORY, 1, lambda tree: tree, random_seed=77)
    again = scripted.sample(MEMORY, random_seed=seed)
    assert scripted.drawn() == [1, 3]
    assert again.attrs["cloudposterior_random_seed"] != 77
    assert parts(MEMORY) == []


def without_plan(tree: xr.DataTree) -> xr.DataTree:
    tree.attrs.clear()
    return tree


def too_short(tree: xr.DataTree) -> xr.DataTree:
    tree["samples"] = xr.DataTree(tree["samples"].to_dataset().isel(draw=slice(7)))
    return tree


def without_stats(tree: xr.DataTree) -> xr.DataTree:
    return tree.filter(lambda node: node.name != "stats_1")


def test_chain_that_is_not_understood_is_drawn_again(scripted: Scripted) -> None:
    undisturbed = scripted.undisturbed()
    scripted.fail(MEMORY, random_seed=5)
    for chain, changed in enumerate((without_plan, too_short, without_stats)):
        put_again(MEMORY, chain, changed)
    with pytest.warns(cp.CacheWarning, match="using the draws of an earlier run failed") as told:
        again = scripted.sample(MEMORY, random_seed=5)
    assert len(told) == 3
    assert scripted.drawn() == [0, 1, 2, 3]
    assert_same_result(again, undisturbed)


@contextmanager
def interrupted_after(chains: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Press Ctrl-C once so many chains have come in."""
    add = PyMCJoin.add
    whole: set[int] = set()

    def adding(self: Any, segment: Any, *args: Any) -> None:
        add(self, segment, *args)
        known = len(whole)
        whole.update(c for c in range(4) if self.is_whole(c))
        if known < chains <= len(whole):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PyMCJoin, "add", adding)
        yield


def test_interrupted_run_keeps_its_finished_chains(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = scripted.undisturbed()
    scripted.script(lags=3)
    with (
        interrupted_after(3, monkeypatch),
        pytest.warns(cp.CacheWarning) as told,
        caplog.at_level("INFO", logger="pymc"),
    ):
        short = scripted.sample(MEMORY, random_seed=5)
    # one message says both that there is no result, and that the draws are not lost
    (warning,) = told
    assert str(warning.message) == (
        "sampling was interrupted (3 of 4 chains, 20 of 20 draws): what there is is returned, and "
        "not cached as a result; what the same call can go on from is kept, and it draws only the "
        "rest"
    )
    assert "cache" not in caplog.text
    assert to_tree(short)["posterior"].sizes["chain"] == 3
    # the last one may have come some way, too
    assert set(numbers(MEMORY)) >= {0, 1, 2}
    scripted.script()
    assert_same_result(scripted.sample(MEMORY, random_seed=5), undisturbed)
    assert scripted.drawn() == [3]


def test_interrupted_run_of_which_nothing_is_kept_says_so(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.script(lags=3)
    with (
        interrupted_after(3, monkeypatch),
        pytest.warns(cp.CacheWarning, match=r"what there is is returned, and not cached$"),
    ):
        # nobody else's callback sees the draws of an earlier run
        scripted.sample(MEMORY, random_seed=5, callback=_nobody)
    assert numbers(MEMORY) == []


def _nobody(*_: Any, **__: Any) -> None:
    pass


def test_chains_that_are_returned_alone_are_kept_too(scripted: Scripted) -> None:
    undisturbed = scripted.undisturbed()
    scripted.script(fails=3)
    with pytest.warns() as told:
        three = scripted.sample(MEMORY, random_seed=5, keep_chains=True)
    assert {w.category for w in told} == {ClusterWarning, cp.CacheWarning}
    assert to_tree(three)["posterior"].sizes["chain"] == 3
    assert numbers(MEMORY) == [0, 1, 2]
    scripted.script()
    assert_same_result(scripted.sample(MEMORY, random_seed=5), undisturbed)
    assert scripted.drawn() == [3]


def test_run_that_fails_after_its_last_draw_keeps_all(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = scripted.undisturbed()
    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(PyMCJoin, "finish", broken)
        scripted.sample(MEMORY, random_seed=5)
    assert numbers(MEMORY) == [0, 1, 2, 3]
    scripted.script()
    assert_same_result(scripted.sample(MEMORY, random_seed=5), undisturbed)
    assert scripted.drawn() == []
    assert parts(MEMORY) == []


def broken(*_: Any, **__: Any) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    "options",
    [{"callback": lambda **_: None}, {"keep_warning_stat": True}],
    ids=lambda of: next(iter(of)),
)
def test_call_that_asks_for_more_than_numbers_keeps_nothing(
    scripted: Scripted, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PyMCJoin, "finish", broken)
    with pytest.raises(MemoryError):
        scripted.sample(MEMORY, random_seed=5, **options)
    assert MEMORY.entries() == []


def test_call_that_asks_for_more_than_numbers_takes_nothing(scripted: Scripted) -> None:
    scripted.fail(MEMORY, random_seed=5)
    seen: set[int] = set()
    scripted.sample(MEMORY, random_seed=5, callback=lambda trace, draw: seen.add(draw.chain))
    assert seen == {0, 1, 2, 3}
    # its result answers the call without a callback, too
    assert parts(MEMORY) == []


def test_population_keeps_nothing(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PyMCJoin, "finish", broken)
    with pm.Model() as model:
        pm.Normal("x")
        step = pm.DEMetropolis()
    with pytest.raises(MemoryError):
        scripted.sample(MEMORY, model, random_seed=5, step=step)
    assert MEMORY.entries() == []


def test_nutpie_draws_only_the_missing_chain(scripted: Scripted) -> None:
    pytest.importorskip("nutpie")
    with pm.Model(name="smooth") as model:
        mu = pm.Normal("mu")
        pm.Normal("y", mu, 1.0, observed=np.array([0.1, 1.2, 0.8]))
    options = {"random_seed": 5, "nuts_sampler": "nutpie", "model": model}
    undisturbed = scripted.sample(False, **options)
    scripted.fail("disk", **options)
    disk = cp.DiskCache(".cloudposterior")
    assert numbers(disk) == [0, 1, 2]
    again = scripted.sample("disk", **options)
    assert scripted.drawn() == [3]
    for result in (again, undisturbed):
        # the seed of the chain that came in first
        result["sample_stats"].attrs.pop("inference_library_settings", None)
    assert_same_result(again, undisturbed)
    assert parts(disk) == []


# without a cluster -------------------------------------------------------------------------------


def keep(cache: Any, token: str, label: str, **manifest: Any) -> cp.Entry:
    record = cp.Record(
        token=token * 32,
        model="small",
        label=label,
        manifest=manifest,
        versions={},
        created="2026-01-01T00:00:00+00:00",
        elapsed_s=1.0,
        random_seed=1,
    )
    return cache.put(xr.DataTree(xr.Dataset({"x": ("draw", np.zeros(3))})), record)


def test_discard_removes_one_entry(cache: Any) -> None:
    keep(cache, "a", "draws50")
    other = keep(cache, "b", "draws50")
    assert cache.discard("a" * 32, model="small", label="draws50") is True
    assert cache.discard("a" * 32, model="small", label="draws50") is False
    assert cache.get("a" * 32, model="small", label="draws50") is None
    assert cache.entries() == [other]


def test_discard_leaves_another_entry_of_the_same_name(tmp_path: Path) -> None:
    disk = cp.DiskCache(tmp_path)
    entry = keep(disk, "a", "draws50")
    assert not disk.discard("a" * 8 + "b" * 24, model="small", label="draws50")
    assert disk.entries() == [entry]


def test_list_and_show_tell_a_part_from_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = cp.DiskCache(tmp_path)
    keep(disk, "a", "draws50")
    keep(disk, "b", "draws60_chain0", part_of="c" * 32, chain=0)
    assert main(["cache", "list", "--dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["part of a run" in line for line in lines] == [False, False, True, False]
    # the model's name means its results
    assert disk.show("small").record.label == "draws50"
    assert main(["cache", "show", "bbbb", "--dir", str(tmp_path)]) == 0
    assert f"part of      {'c' * 32}" in capsys.readouterr().out


def test_chain_with_other_objects_is_not_written_down() -> None:
    plan = pymc_chains.Plan(
        tune=0,
        shapes={"x": ()},
        dtypes={"x": np.dtype("float64")},
        stats=[{"tune": bool, "variable_inclusion": object}],
        stats_shapes={},
        said=(),
    )
    stats = [{"tune": np.zeros(3, bool), "variable_inclusion": np.full(3, None)}]
    assert tree_of(plan, {"x": np.zeros(3)}, stats) is None
    tree = tree_of(
        replace(plan, stats=[{"tune": bool}]), {"x": np.zeros(3)}, [{"tune": stats[0]["tune"]}]
    )
    (segment,) = segments_of(tree, 2, 3)
    assert (segment.chain, segment.first, segment.draws) == (2, 0, 3)
