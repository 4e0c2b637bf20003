"""Chains that are drawn whole come together whatever their values, and keep their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from distributed import Client

import cloudposterior as cp
from cloudposterior.posterior import from_tree, to_tree
from cloudposterior.samplers.protocol import Budget, Run, Segment
from cloudposterior.samplers.seeds import chain_seed
from cloudposterior.samplers.whole_chains import WholeChains
from cloudposterior.samplers.whole_join import WholeJoin
from cloudposterior.shipping import pack_arguments, pack_model

from . import models
from .sameness import Options, assert_same_result, plain, same_values

DRAWS = 8


# joining -----------------------------------------------------------------------------------------


def one_chain(draws: int, *, start: float) -> xr.DataTree:
    """What a worker gives: a deterministic that has no value in places, and one without any."""
    values = start + np.arange(draws, dtype=float)[None]
    root = np.where(values % 3 == 1, np.nan, values)
    posterior = xr.Dataset(
        {
            "x": (("chain", "draw"), values),
            "root": (("chain", "draw"), root),
            "never": (("chain", "draw"), np.full((1, draws), np.nan)),
        },
        coords={"chain": [0], "draw": np.arange(draws)},
        attrs={"sampling_time": 1.0},
    )
    stats = xr.Dataset({"step_size": (("chain", "draw"), values)}, coords=posterior.coords)
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats})


def join_of(lengths: Mapping[int, int], chains: int = 3) -> WholeJoin:
    with pm.Model() as model:
        pm.Normal("x")
    call = {"draws": DRAWS, "chains": chains, "compute_convergence_checks": False, "quiet": True}
    join = WholeJoin(model, call, checks=False)
    for chain, draws in lengths.items():
        join.add(Segment(chain, 0, draws, one_chain(draws, start=10 * chain), [], ()))
    return join


def test_draws_without_a_value_are_draws() -> None:
    join = join_of({2: DRAWS, 0: DRAWS, 1: DRAWS})
    assert [join.drawn(chain) for chain in range(3)] == [DRAWS] * 3
    posterior = to_tree(join.finish(1.0))["posterior"]
    assert dict(posterior.sizes) == {"chain": 3, "draw": DRAWS}
    expected = np.concatenate([one_chain(DRAWS, start=s)["posterior"]["root"] for s in (0, 10, 20)])
    assert same_values(posterior["root"].to_numpy(), expected)


def test_kept_chains_may_have_draws_without_a_value() -> None:
    before = join_of({0: DRAWS, 2: DRAWS})
    after = join_of({})
    for number in (0, 2):
        tree = before.part(number, 0)
        assert tree is not None
        after.add_part(number, tree)
    after.add(Segment(1, 0, DRAWS, one_chain(DRAWS, start=10), [], ()))
    assert_same_result(after.finish(1.0), join_of({0: DRAWS, 1: DRAWS, 2: DRAWS}).finish(1.0))


def test_kept_chain_of_fewer_draws_is_refused() -> None:
    with pytest.raises(ValueError, match="chain 1 is not of the form"):
        join_of({0: DRAWS}).add_part(1, one_chain(DRAWS - 1, start=0))


@pytest.mark.parametrize("short", [False, True], ids=["whole", "cut short"])
def test_chains_keep_their_numbers(short: bool) -> None:
    join = join_of({2: DRAWS - 2 * short, 1: DRAWS})
    posterior = to_tree(join.finish(1.0, without={0}))["posterior"]
    assert posterior["chain"].to_numpy().tolist() == [1, 2]
    assert posterior["chain"].dtype == np.int64
    assert posterior["x"].to_numpy()[:, 0].tolist() == [10, 20]
    assert posterior.sizes["draw"] == DRAWS - 2 * short


def test_chains_cut_short_are_as_many_as_make_the_most_draws() -> None:
    join = join_of({0: 0, 1: 6, 2: 5, 3: 1}, chains=4)
    assert [join.drawn(chain) for chain in range(4)] == [0, 6, 5, 1]
    result = to_tree(join.finish(1.0))
    for group in ("posterior", "sample_stats"):
        assert dict(result[group].sizes) == {"chain": 2, "draw": 5}
        assert result[group]["chain"].to_numpy().tolist() == [1, 2]


def test_chains_without_a_draw_make_no_result() -> None:
    with pytest.raises(ValueError, match="Not enough samples"):
        join_of({0: 0}).finish(1.0)


# drawing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("draws", "asked"), [(8, 8), (5, 8), (0, 0)])
def test_chain_that_was_whole_when_it_was_stopped_is_finished(
    draws: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nutpie")
    stopped: list[bool] = []

    def sample(*_: Any) -> Any:
        stopped.append(True)
        return from_tree(one_chain(draws, start=0))

    monkeypatch.setattr(WholeChains, "_sample", sample)
    model = models.normal()
    arguments = pack_arguments({"draws": asked}, model)
    run = Run("key", "token", "whole", arguments, seed=1, chains=1, settings={})
    budget = Budget(60.0, lambda: bool(stopped))
    sampler, packed = WholeChains("nutpie"), pack_model(model)
    start = sampler.start(packed, run, (0,))
    state, (segment,) = sampler.advance(packed, run, start, budget)
    assert segment.draws == draws
    assert state == (replace(start, drawn=1) if draws == asked else start)


# on a cluster ------------------------------------------------------------------------------------


def without_values() -> pm.Model:
    """A deterministic that has no value in places, and one that has none anywhere."""
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0)
        pm.Deterministic("root", pm.math.sqrt(x - 0.3))
        pm.Deterministic("never", x * np.nan)
        pm.Normal("y", x, 1.0, observed=models.Y)
    return model


@pytest.mark.slow
@pytest.mark.usefixtures("exact")
@pytest.mark.filterwarnings("ignore:.*numba.*:UserWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("sampler", ["nutpie", "numpyro"])
def test_result_with_values_that_are_none_is_whole_and_cached(
    sampler: str, two_workers: Client
) -> None:
    pytest.importorskip(sampler)
    cache = cp.MemoryCache()
    options: Options = {
        "nuts_sampler": sampler,
        "random_seed": 11,
        "chains": 2,
        "draws": 30,
        "tune": 20,
        "progressbar": False,
        "compute_convergence_checks": False,
    }
    ours = to_tree(cp.sample(without_values(), cluster=two_workers, cache=cache, **options))
    assert len(cache.entries()) == 1
    for chain in range(2):
        change = {"chains": 1, "random_seed": chain_seed(11, chain, 2)}
        alone = to_tree(plain(without_values(), **{**options, **change}))["posterior"]
        assert 0 < int(alone["root"].isnull().sum()) < 30
        for name in ("x", "root", "never"):
            drawn = ours["posterior"][name].to_numpy()[chain]
            assert same_values(drawn, alone[name].to_numpy()[0]), name
