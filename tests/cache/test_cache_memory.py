"""The cache in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import dask.array
import pytest
import xarray as xr

from cloudposterior.cache import MemoryCache


def get(cache, record):
    return cache.get(record.token, model=record.model, label=record.label)


def test_memory_gives_back_what_was_put(make_tree, make_record, assert_same):
    cache, tree = MemoryCache(), make_tree()
    assert get(cache, make_record()) is None
    entry = cache.put(tree, make_record())
    got, found = get(cache, make_record())
    assert_same(got, tree)
    assert found == entry and entry.path is None
    assert entry.record == make_record()
    assert entry.size_bytes > tree["posterior/mu"].nbytes
    assert cache.entries() == [entry]
    cache.clear()
    assert get(cache, make_record()) is None and cache.entries() == []


def change_all(tree):
    tree["posterior/mu"].values[:] = 0
    tree["sample_stats/divergence_message"].values[:] = "changed"
    tree["posterior"].attrs["nested"]["list"].append("changed")
    tree["posterior/radon::mu_a"].attrs["units"] = "changed"
    tree["posterior"] = xr.Dataset()


def test_memory_shares_nothing_with_its_callers(make_tree, make_record, assert_same):
    def build():
        tree = make_tree()
        tree["posterior"].attrs["nested"] = {"list": [1]}
        return tree

    cache, put = MemoryCache(), build()
    record = make_record()
    cache.put(put, record)
    change_all(put)
    record.manifest["options"]["draws"] = 0
    first, _ = get(cache, make_record())
    assert_same(first, build())
    change_all(first)
    second, entry = get(cache, make_record())
    assert_same(second, build())
    assert entry.record == make_record()


def test_memory_replaces_an_entry_with_the_same_token(make_tree, make_record, assert_same):
    cache = MemoryCache()
    cache.put(make_tree(0), make_record())
    cache.put(make_tree(1), make_record())
    assert len(cache.entries()) == 1
    assert_same(get(cache, make_record())[0], make_tree(1))


def test_memory_computes_lazy_variables(make_record):
    cache = MemoryCache()
    lazy = xr.Dataset({"x": ("i", dask.array.arange(5, chunks=2))})
    cache.put(xr.DataTree.from_dict({"posterior": lazy}), make_record())
    assert get(cache, make_record())[0]["posterior/x"].chunks is None


@pytest.mark.parametrize("token", ["", "xyz", "../../x", "A" * 32, "0" * 31, "0" * 65])
def test_memory_refuses_what_is_no_token(token, make_tree, make_record):
    with pytest.raises(ValueError, match="hex digits"):
        MemoryCache().put(make_tree(), make_record(token=token))


def test_memory_serves_threads(make_tree, make_record, assert_same):
    cache = MemoryCache()

    def work(seed):
        record = make_record(str(seed))
        cache.put(make_tree(seed), record)
        return get(cache, record)[0]

    with ThreadPoolExecutor(8) as pool:
        for seed, got in enumerate(pool.map(work, range(16))):
            assert_same(got, make_tree(seed))
    assert len(cache.entries()) == 16
