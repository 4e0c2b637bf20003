"""Trees, records, and what "the same" means, for the tests of the cache."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cloudposterior.cache import DiskCache, Record


def token_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@pytest.fixture
def make_record() -> Callable[..., Record]:
    def make(seed: str = "a", **changes: Any) -> Record:
        known: dict[str, Any] = {
            "token": token_of(seed),
            "model": "radon",
            "label": "draws1000_chains4",
            "manifest": {"county_idx": "6f2a", "options": {"draws": 1000}},
            "versions": {"pymc": "5.28.5"},
            "created": "2026-01-02T03:04:05+00:00",
            "elapsed_s": 12.5,
            "random_seed": [1, 2, 3, 4],
        }
        return Record(**{**known, **changes})

    return make


@pytest.fixture
def make_tree() -> Callable[..., xr.DataTree]:
    """A result like PyMC's; `seed` tells one from another."""

    def make(seed: int = 0, draws: int = 50) -> xr.DataTree:
        rng = np.random.default_rng(seed)
        coords = {"chain": np.arange(4), "draw": np.arange(draws)}
        shape = (4, draws)
        posterior = xr.Dataset(
            {
                "mu": (("chain", "draw"), rng.normal(size=shape)),
                "radon::mu_a": (
                    ("chain", "draw", "county"),
                    rng.normal(size=(*shape, 3)),
                    {"units": "days"},
                ),
            },
            coords={**coords, "county": np.array(["AITKIN", "ANOKA", "BECKER"])},
            attrs={"created_at": "2026-01-02", "tuning_steps": 1000, "seed": seed, "flag": True},
        )
        stats = xr.Dataset(
            {
                "diverging": (("chain", "draw"), rng.random(shape) < 0.1),
                "tree_depth": (("chain", "draw"), rng.integers(1, 8, size=shape)),
                "divergence_message": (("chain", "draw"), np.full(shape, None, dtype=object)),
            },
            coords=coords,
        )
        observed = xr.Dataset({"y": ("obs_id", rng.normal(size=9))}, {"obs_id": np.arange(9)})
        groups = {"/": xr.Dataset(attrs={"sampler": None}), "posterior": posterior}
        tree = {**groups, "sample_stats": stats, "observed_data": observed}
        return xr.DataTree.from_dict(tree)

    return make


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache")


def assert_same_value(got: Any, put: Any, where: str) -> None:
    """Equal, and of exactly the same types all the way down."""
    assert type(got) is type(put), (where, type(got), type(put))
    if isinstance(put, np.ndarray):
        assert (got.dtype, got.shape) == (put.dtype, put.shape), where
        if put.dtype.kind == "O":
            assert_same_value(got.ravel().tolist(), put.ravel().tolist(), where)
        else:
            assert np.array_equal(got, put, equal_nan=put.dtype.kind in "fcmM"), where
    elif isinstance(put, list | tuple):
        assert len(got) == len(put), where
        for number, (one, other) in enumerate(zip(got, put, strict=True)):
            assert_same_value(one, other, f"{where}[{number}]")
    elif isinstance(put, dict):
        assert_same_value(list(got.items()), list(put.items()), where)
    elif isinstance(put, dt.datetime | dt.time):
        assert (got, got.tzinfo, got.fold) == (put, put.tzinfo, put.fold), where
    elif put is not pd.NA and put is not pd.NaT and bool(put != put):
        assert bool(got != got), where
    elif put is not pd.NA and put is not pd.NaT:
        assert got == put, where
        assert type(put) is int or repr(got) == repr(put), where


def assert_same_variable(got: xr.Variable, put: xr.Variable, where: str) -> None:
    assert got.dims == put.dims, where
    assert got.dtype == put.dtype, (where, got.dtype, put.dtype)
    assert type(got) is type(put), where
    assert_same_value(got.attrs, put.attrs, where)
    assert_same_value(np.asarray(got.values), np.asarray(put.values), where)


def assert_same_tree(got: xr.DataTree, put: xr.DataTree) -> None:
    # xarray compares NaN and NA within tuples and lists by identity: such a tree is not even
    # identical to its own copy, and the rest of this function alone can tell
    assert got.identical(put) or not put.identical(pickle.loads(pickle.dumps(put)))
    assert got.name == put.name
    assert [node.path for node in got.subtree] == [node.path for node in put.subtree]
    for one, other in zip(got.subtree, put.subtree, strict=True):
        a, b = one.to_dataset(inherit=False), other.to_dataset(inherit=False)
        assert list(a.data_vars) == list(b.data_vars)
        assert list(a.coords) == list(b.coords)
        assert dict(a.sizes) == dict(b.sizes)
        assert_same_value(a.attrs, b.attrs, one.path)
        assert set(a.xindexes) == set(b.xindexes)
        for name in b.indexes:
            assert type(a.indexes[name]) is type(b.indexes[name])
            assert a.indexes[name].dtype == b.indexes[name].dtype
            assert a.indexes[name].equals(b.indexes[name])
            assert a.indexes[name].names == b.indexes[name].names
        for name in b.variables:
            assert_same_variable(a.variables[name], b.variables[name], f"{one.path}/{name!r}")


@pytest.fixture
def assert_same() -> Callable[[xr.DataTree, xr.DataTree], None]:
    return assert_same_tree


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB of its own."""
    yield from _mounted(tmp_path / "small", "size=300k")


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that not even root can write to; with a writable way in, ``inside``."""
    yield from _mounted(tmp_path / "fixed", "size=4m")


def _mounted(place: Path, options: str) -> Iterator[Path]:
    place.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
