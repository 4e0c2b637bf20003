"""More draws, or more chains, than a run that is kept: only what is missing is drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pytest
from distributed import Client

import cloudposterior as cp
from cloudposterior.cluster.drive import Drive
from cloudposterior.posterior import to_tree
from cloudposterior.samplers.longer_join import LongerJoin
from cloudposterior.samplers.pymc_join import PyMCJoin
from tests.cluster import models
from tests.cluster.sameness import SHORT, Options, assert_same_result, plain

pytestmark = pytest.mark.usefixtures("quick_compiling", "cut_small")

RUN: Options = {**SHORT, "draws": 20, "tune": 30}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Chain, first draw and count of each segment that workers drew."""
    segments: list[tuple[int, int, int]] = []
    draw = Drive.draw

    @functools.wraps(draw)
    def noting(self: Any, groups: Any, take: Callable[..., None], **options: Any) -> Any:
        def taking(segment: Any, state: Any) -> None:
            segments.append((segment.chain, segment.first, segment.draws))
            take(segment, state)

        return draw(self, groups, taking, **options)

    monkeypatch.setattr(Drive, "draw", noting)
    return segments


def counted(segments: list[tuple[int, int, int]]) -> dict[int, tuple[int, int]]:
    """Give the first draw of each chain that was drawn, and how many there were."""
    found: dict[int, tuple[int, int]] = {}
    for chain, first, draws in segments:
        lowest, total = found.get(chain, (first, 0))
        found[chain] = (min(lowest, first), total + draws)
    segments.clear()
    return found


def sampler(client: Client, cache: Any, build: Callable[[], pm.Model]) -> Callable[..., Any]:
    return lambda **options: cp.sample(build(), cluster=client, cache=cache, **{**RUN, **options})


@pytest.fixture(params=["disk", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return cp.DiskCache(tmp_path / "cache") if request.param == "disk" else cp.MemoryCache()


@pytest.mark.parametrize(
    ("build", "discard"),
    [(models.normal, False), (models.changepoint, True)],
    ids=["NUTS", "compound without its tuning"],
)
def test_more_draws_and_then_more_chains(
    two_workers: Client, cache: Any, build: Any, discard: bool, drawn: Any
) -> None:
    sample = sampler(two_workers, cache, build)
    options = {"discard_tuned_samples": discard}
    sample(**options)
    counted(drawn)
    longer = sample(draws=45, **options)
    assert counted(drawn) == {0: (50, 25), 1: (50, 25)}
    assert_same_result(longer, plain(build(), **{**RUN, **options, "draws": 45}))
    wider = sample(draws=45, chains=4, **options)
    assert counted(drawn) == {2: (0, 75), 3: (0, 75)}
    assert_same_result(wider, plain(build(), **{**RUN, **options, "draws": 45, "chains": 4}))
    # what was joined is kept as if it had been drawn at once
    again = sample(draws=45, chains=4, **options)
    assert drawn == []
    assert_same_result(again, wider)
    # their states are of runs of two and of four chains, which PyMC does not mix
    sample(draws=60, chains=4, **options)
    assert set(counted(drawn).values()) == {(0, 90)}


def test_more_draws_can_be_asked_for_again_and_again(two_workers: Client, drawn: Any) -> None:
    sample = sampler(two_workers, cp.MemoryCache(), models.normal)
    for draws in (10, 20, 30):
        result = sample(draws=draws)
        start = 0 if draws == 10 else 20 + draws
        assert counted(drawn) == dict.fromkeys((0, 1), (start, 30 + draws - start))
    assert_same_result(result, plain(models.normal(), **RUN | {"draws": 30}))


def test_one_chain_is_the_first_of_more(two_workers: Client, drawn: Any) -> None:
    sample = sampler(two_workers, cp.MemoryCache(), models.normal)
    sample(chains=1)
    counted(drawn)
    wider = sample(chains=3)
    assert sorted(counted(drawn)) == [1, 2]
    assert_same_result(wider, plain(models.normal(), **{**RUN, "chains": 3}))


def test_run_without_a_seed_goes_on_with_that_of_the_earlier_one(
    two_workers: Client, drawn: Any
) -> None:
    sample = sampler(two_workers, cp.MemoryCache(), models.normal)
    short = sample(random_seed=None)
    counted(drawn)
    longer = sample(random_seed=None, draws=30)
    assert counted(drawn) == {0: (50, 10), 1: (50, 10)}
    seed = short.attrs["cloudposterior_random_seed"]
    assert longer.attrs["cloudposterior_random_seed"] == seed
    assert_same_result(longer, plain(models.normal(), **{**RUN, "draws": 30, "random_seed": seed}))


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({}, {"draws": 30, "random_seed": 6}),
        ({}, {"draws": 30, "tune": 31}),
        ({}, {"draws": 30, "target_accept": 0.9}),
        ({}, {"draws": 30, "chains": 3}),
        ({"draws": 30}, {"draws": 20}),
        ({"init": "adapt_full"}, {"init": "adapt_full", "chains": 3}),
        ({"init": "advi"}, {"init": "advi", "draws": 30}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:QuadPotentialFullAdapt is an experimental:UserWarning")
def test_what_is_another_run_is_drawn_whole(
    two_workers: Client, drawn: Any, first: Options, then: Options
) -> None:
    sample = sampler(two_workers, cp.MemoryCache(), models.normal)
    sample(**first)
    counted(drawn)
    result = sample(**then)
    assert {start for start, _ in counted(drawn).values()} == {0}
    if then.get("init") != "advi":
        assert_same_result(result, plain(models.normal(), **{**RUN, **then}))


def test_overwrite_draws_all(two_workers: Client, drawn: Any) -> None:
    cache = cp.MemoryCache()
    sampler(two_workers, cache, models.normal)()
    counted(drawn)
    sampler(two_workers, cache, models.normal)(draws=30, overwrite=True)
    assert {start for start, _ in counted(drawn).values()} == {0}


def test_other_data_is_another_run(two_workers: Client, drawn: Any) -> None:
    cache = cp.MemoryCache()
    sampler(two_workers, cache, models.regression)()
    counted(drawn)
    sampler(two_workers, cache, lambda: models.regression(0.5))(draws=30)
    assert {start for start, _ in counted(drawn).values()} == {0}


def test_states_are_in_the_file_and_nobody_is_bothered_by_them(
    two_workers: Client, tmp_path: Path
) -> None:
    cache = cp.DiskCache(tmp_path)
    sample = sampler(two_workers, cache, models.normal)
    result, hit = sample(), sample()
    for one in (result, hit):
        assert "cloudposterior_states" not in to_tree(one).children
    (entry,) = cache.entries()
    assert entry.path is not None
    read = az.from_netcdf(entry.path)
    assert np.array_equal(read["posterior"]["small::mu"], to_tree(result)["posterior"]["small::mu"])
    assert cache.verify() == []


def test_states_that_are_not_understood_cost_no_result(two_workers: Client, drawn: Any) -> None:
    cache = cp.MemoryCache()
    sample = sampler(two_workers, cache, models.normal)
    sample()
    (entry,) = cache.entries()
    tree, _ = cache.get(entry.record.token, model="small", label="") or pytest.fail("a miss")
    for group in tree["cloudposterior_states"].children.values():
        group.attrs["state"] = {"class": "os.system"}
    cache.put(tree, entry.record)
    counted(drawn)
    with pytest.warns(cp.CacheWarning, match="no earlier run was gone on from: ValueError"):
        longer = sample(draws=30)
    assert {start for start, _ in counted(drawn).values()} == {0}
    assert_same_result(longer, plain(models.normal(), **{**RUN, "draws": 30}))


def interrupt_after(segments: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    add, seen = LongerJoin.add, []

    def adding(self: Any, *args: Any) -> None:
        add(self, *args)
        seen.append(1)
        if len(seen) == segments:
            raise error

    monkeypatch.setattr(LongerJoin, "add", adding)


def test_longer_run_that_is_stopped_gives_equal_chains_and_keeps_all(
    two_workers: Client, drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = sampler(two_workers, cp.MemoryCache(), models.normal)
    sample()
    counted(drawn)
    came_in = {0: 50, 1: 50}
    # two chains may have got equally far by chance
    while len(set(came_in.values())) == 1:
        with monkeypatch.context() as patched:
            interrupt_after(4, patched, KeyboardInterrupt())
            with pytest.warns(cp.CacheWarning, match="sampling was interrupted"):
                short = to_tree(sample(draws=5000))["posterior"]
        came_in |= {chain: first + draws for chain, (first, draws) in counted(drawn).items()}
    interrupt_after(2, monkeypatch, KeyboardInterrupt())
    with pytest.warns(cp.CacheWarning, match="sampling was interrupted"):
        sample(draws=5000)
    # the longer chain lost nothing to the shorter one
    for chain, (first, _) in counted(drawn).items():
        assert first == came_in[chain]
    assert short.sizes["chain"] == 2
    assert 20 <= short.sizes["draw"] < 5000
    whole = to_tree(plain(models.normal(), **{**RUN, "draws": short.sizes["draw"]}))["posterior"]
    assert np.array_equal(short["small::mu"], whole["small::mu"])


@pytest.mark.parametrize("more", [{"draws": 45}, {"chains": 4}], ids=["draws", "chains"])
def test_longer_run_without_a_chain_that_failed_has_the_others_whole(
    two_workers: Client, more: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = sampler(two_workers, cp.MemoryCache(), models.normal)
    sample()
    last = more.get("chains", 2) - 1
    draw = Drive.draw

    def failing(self: Any, groups: Any, take: Any, **options: Any) -> Any:
        def taking(segment: Any, state: Any) -> None:
            if segment.chain != last:
                take(segment, state)

        draw(self, groups, taking, **options)
        self._lines[-1].error = cp.ChainError((last,), "here", "scripted")
        return self.failed

    monkeypatch.setattr(Drive, "draw", failing)
    with pytest.warns() as told:
        got = to_tree(sample(keep_chains=True, **more))["posterior"]
    assert any("the other chains are returned" in str(one.message) for one in told)
    whole = to_tree(plain(models.normal(), **{**RUN, **more}))["posterior"]
    assert got.sizes["chain"] == last
    assert np.array_equal(got["small::mu"], whole["small::mu"][:last])


def test_longer_run_that_fails_loses_no_draw(
    two_workers: Client, drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = sampler(two_workers, cp.MemoryCache(), models.normal)
    sample()
    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        interrupt_after(6, patched, MemoryError())
        sample(draws=400)
    counted(drawn)
    longer = sample(draws=400)
    assert min(start for start, _ in counted(drawn).values()) > 50
    assert_same_result(longer, plain(models.normal(), **{**RUN, "draws": 400}))


def test_join_of_a_plain_run_knows_no_earlier_one() -> None:
    assert PyMCJoin(models.normal(), {**RUN, "trace": None, "callback": None}).states() == {}
