"""Results that stay in their file: parts of them are read as they are asked for."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from cloudposterior.cache import DiskCache, MemoryCache, RemoteCache
from cloudposterior.cache.lazy import ArrayInFile, KeptFile
from cloudposterior.cache.upkeep import read_entry
from cloudposterior.config import stays_on_disk
from cloudposterior.errors import CacheFileError, CacheWarning
from cloudposterior.identity.walk import Walk
from cloudposterior.operations.given import content

KINDS = {
    "float": np.float64,
    "half": np.float16,
    "flag": np.bool_,
    "count": np.int64,
    "other order": np.dtype(">f8"),
    "pair": np.complex128,
    "date": "M8[ns]",
}


@pytest.fixture
def left_on_disk() -> Any:
    """Have results of more than a megabyte left in their files."""
    with dask.config.set({"cloudposterior.lazy-above": "1 MiB"}):
        yield


def large_tree() -> xr.DataTree:
    rng = np.random.default_rng(1)
    dims = ("chain", "draw", "obs")
    arrays = {
        name: (dims, rng.integers(0, 2**15, size=(2, 300, 2500)).astype(kind))
        for name, kind in KINDS.items()
    }
    dataset = xr.Dataset(
        {**arrays, "small": (("chain", "draw"), rng.normal(size=(2, 300)))},
        coords={"chain": [0, 1], "draw": np.arange(300)},
    )
    tree: xr.DataTree = xr.DataTree.from_dict({"log_likelihood": dataset})
    return tree


def get(cache: Any, record: Any) -> xr.Dataset:
    found = cache.get(record.token, model=record.model, label=record.label)
    assert found is not None
    dataset: xr.Dataset = found[0]["log_likelihood"].to_dataset()
    return dataset


@pytest.mark.parametrize("url", [None, "memory://lazy"])
def test_large_arrays_come_as_dask_arrays_and_are_those_that_were_put(
    url: str | None, tmp_path: Any, make_record: Any, left_on_disk: None
) -> None:
    cache: Any = DiskCache(tmp_path) if url is None else RemoteCache(url)
    tree, record = large_tree(), make_record()
    cache.put(tree, record)
    found = get(cache, record)
    cache.discard(record.token, model=record.model, label=record.label)
    lazy = {name for name, v in found.data_vars.items() if isinstance(v.data, da.Array)}
    # what is made of more than one number each, or is small, is there at once
    assert lazy == {"float", "half", "flag", "count", "other order"}
    for name, values in tree["log_likelihood"].data_vars.items():
        assert found[name].dtype == values.dtype, name
        assert np.array_equal(found[name].to_numpy(), values.to_numpy()), name
        some = {"draw": slice(290, 3, -4), "obs": 7}
        part = found[name].isel(some, missing_dims="ignore").to_numpy()
        assert np.array_equal(part, values.isel(some, missing_dims="ignore")), name


def test_result_below_the_limit_is_in_memory(tmp_path: Any, make_record: Any) -> None:
    cache, record = DiskCache(tmp_path), make_record()
    cache.put(large_tree(), record)
    assert all(isinstance(v.data, np.ndarray) for v in get(cache, record).data_vars.values())
    assert not stays_on_disk(2**27)
    assert stays_on_disk(2**60)


def test_compressed_arrays_of_another_machine_come_whole(tmp_path: Any, make_record: Any) -> None:
    cache, record = DiskCache(tmp_path), make_record()
    tree = large_tree().map_over_datasets(xr.zeros_like)
    cache.put(tree, record)
    with dask.config.set({"cloudposterior.lazy-above": "1 MiB"}):
        found = get(cache, record)
        assert isinstance(found["float"].data, np.ndarray)
        assert not found["float"].any().item()
        # what is written now is read in parts later, and so not compressed
        cache.put(tree, record)
        assert isinstance(get(cache, record)["float"].data, da.Array)


def test_parts_of_an_array_are_those_of_numpy(tmp_path: Any) -> None:
    array = np.random.default_rng(2).normal(size=(3, 7, 5))
    path = tmp_path / "file"
    path.write_bytes(b"head" + array.tobytes())
    with path.open("rb") as file:
        there = ArrayInFile(KeptFile(path, b"", file), 4, array.shape, array.dtype)
    steps = [slice(None), slice(1, 2), slice(6, None, -2), slice(2, 2), slice(-3, -1), 1, -1]
    for first in steps:
        assert np.array_equal(there[first], array[first])
        for second in steps:
            for third in steps:
                assert np.array_equal(there[first, second, third], array[first, second, third]), (
                    first,
                    second,
                    third,
                )


def total(pickled: bytes) -> float:
    with dask.config.set(scheduler="synchronous"):
        return float(pickle.loads(pickled).sum())


def test_another_process_reads_the_file_that_it_was_and_no_other(
    tmp_path: Any, make_record: Any, left_on_disk: None
) -> None:
    cache, record = DiskCache(tmp_path), make_record()
    tree = large_tree()
    cache.put(tree, record)
    values = get(cache, record)["float"]
    pickled = pickle.dumps(values)
    assert len(pickled) < 20_000
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(total, pickled).result() == float(values.sum())
        cache.put(tree.isel(draw=slice(200)), record)
        with pytest.raises(CacheFileError, match="not the file that it was"):
            pool.submit(total, pickled).result()
        cache.clear()
        with pytest.raises(CacheFileError, match="is not on this machine"):
            pool.submit(total, pickled).result()
    # here it is open
    assert float(values.sum()) == float(tree["log_likelihood"]["float"].sum())


def test_object_of_a_store_is_read_by_who_fetched_it(make_record: Any, left_on_disk: None) -> None:
    cache, record = RemoteCache("memory://fetched"), make_record()
    cache.put(large_tree(), record)
    pickled = pickle.dumps(get(cache, record)["float"])
    there = pickle.loads(pickled)
    with pytest.raises(CacheFileError, match="scheduler='threads'"):
        there.load(scheduler="threads")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_that_were_forked_read_what_they_ask_for(tmp_path: Any) -> None:
    array = np.arange(300_000.0).reshape(-1, 30)
    path = tmp_path / "file"
    path.write_bytes(array.tobytes())
    with path.open("rb") as file:
        there = ArrayInFile(KeptFile(path, b"", file), 0, array.shape, array.dtype)

    def reads_right(seed: int) -> bool:
        rows = np.random.default_rng(seed).integers(0, len(array), 10_000)
        return all(np.array_equal(there[int(row)], array[row]) for row in rows)

    child = os.fork()
    if not child:
        os._exit(0 if reads_right(1) else 1)
    here = reads_right(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert here


@pytest.mark.parametrize("url", [None, "memory://beside-a-client"])
def test_results_on_disk_are_read_here_whoever_else_computes_for_dask(
    url: str | None,
    tmp_path: Any,
    make_record: Any,
    left_on_disk: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    cache: Any = DiskCache("relative") if url is None else RemoteCache(url)
    tree, record = large_tree(), make_record()
    dataset = tree["log_likelihood"].to_dataset()
    # an index that is large itself
    tree["other"] = xr.Dataset({"y": ("point", np.arange(2e5))}, {"point": np.arange(200_000)})
    cache.put(tree, record)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.run(os.chdir, str(elsewhere))
        found = cache.get(record.token, model=record.model, label=record.label)
        assert found is not None
        values = found[0]["log_likelihood"].to_dataset()
        assert found[0]["other"].indexes["point"][-1] == 199_999
        assert Walk().value(content(values)) == Walk().value(content(dataset))
        MemoryCache().put(found[0], record)
        DiskCache(tmp_path / "copy").put(found[0], record)
        total = client.compute(values["float"].sum())
        if url is None:
            assert float(total.result()) == float(dataset["float"].sum())
        else:
            # an error of the task, and of nothing else
            with pytest.raises(CacheFileError, match="read there only"):
                total.result()
        assert client.submit(sum, [1, 2]).result() == 3
    assert len(cache.entries()) == 1


def test_setting_that_is_none_is_refused_at_once(tmp_path: Any) -> None:
    with (
        dask.config.set({"cloudposterior.lazy-above": "lots"}),
        pytest.raises(ValueError, match="lazy-above is 'lots'"),
    ):
        DiskCache(tmp_path)


def test_file_that_gets_shorter_is_an_error_and_no_crash(
    tmp_path: Any, make_record: Any, left_on_disk: None
) -> None:
    cache, record = DiskCache(tmp_path), make_record()
    path = cache.put(large_tree(), record).path
    values = get(cache, record)["float"]
    assert isinstance(path, type(tmp_path))
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(OSError, match="shorter than it was"):
        values.load()


def test_damaged_file_is_found_before_anything_is_read_of_it(
    tmp_path: Any, make_record: Any, left_on_disk: None
) -> None:
    cache, record = DiskCache(tmp_path), make_record()
    path = cache.put(large_tree(), record).path
    assert isinstance(path, type(tmp_path))
    assert read_entry(path).record.token == record.token
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"damage")
    with pytest.warns(CacheWarning, match="wrong checksum"):
        assert cache.get(record.token, model=record.model, label=record.label) is None
