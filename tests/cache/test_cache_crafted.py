"""Files that are whole and lie: refused before they cost memory or time, and moved aside."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cloudposterior.cache import DiskCache, Record, files, hdf5, read_entry, seal, values
from cloudposterior.cache.seal import _FOOTER, FORMAT
from cloudposterior.errors import CacheFileError, CacheWarning
from tests.cache.crafting import change, change_data, described, seal_anew, variable

pytestmark = pytest.mark.once

READER = Path(__file__).with_name("crafted_reader.py")
MOST_GROWTH_BYTES = 64 << 20
Craft = Callable[[Path], Any]
CASES: dict[str, Craft] = {}


def big_tree() -> xr.DataTree:
    """Every way in which a value can lie in a file."""
    rng = np.random.default_rng(0)
    stacked = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["one", "two"])
    posterior = xr.Dataset(
        {
            "mu": (("chain", "draw"), rng.normal(size=(4, 5000))),
            "counts": (("chain", "draw"), np.ones((4, 5000), dtype=np.int64)),
            "names": ("few", np.array(["a" * 100_000, "b", "c"], dtype=object)),
            "letters": ("few", np.array([b"ab", b"c", b"d"])),
            "when": ("few", np.array(["2020-01-01"] * 3, dtype="M8[ns]")),
            "z": ("few", np.array([1j, 2, 3])),
            "free": ("of_its_own", np.zeros(3)),
        },
        coords={
            "draw": pd.RangeIndex(5000),
            "alone": pd.RangeIndex(2),
            "few": pd.CategoricalIndex(["x", "y", "x"]),
            "day": pd.date_range("2020-01-01", periods=3, tz="Europe/Paris"),
        },
        attrs={"kept": [1, 2]},
    )
    stats = xr.Dataset({"s": ("pair", np.arange(4.0))}).assign_coords(
        xr.Coordinates.from_pandas_multiindex(stacked, "pair")
    )
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats})


def put(cache: DiskCache, names: list[str]) -> dict[str, Path]:
    """Keep the same result under as many tokens as there are names."""
    paths: dict[str, Path] = {}
    for number, name in enumerate(names):
        token = f"{number:032x}"[::-1]  # those that begin alike would share a name
        if not paths:
            created = "2026-01-01T00:00:00+00:00"
            record = Record(token, "radon", "crafted", {}, {}, created, 1.0, None)
            paths[name] = first = Path(str(cache.put(big_tree(), record).path))
            continue
        paths[name] = first.with_name(f"crafted-{token[:8]}.nc")
        shutil.copyfile(first, paths[name])
        change(paths[name], lambda told, token=token: told["record"].update(token=token))
    return paths


def described_by(name: str) -> Callable[[Callable[[dict[str, Any]], Any]], Any]:
    """Add a case that changes what a file says of itself."""

    def add(edit: Callable[[dict[str, Any]], Any]) -> None:
        CASES[name] = lambda path: change(path, edit)

    return add


def codec(variable_name: str, **changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda told: variable(told, variable_name)["codec"].update(changes)


def shaped(variable_name: str, shape: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda told: variable(told, variable_name).update(shape=shape)


def stored(variable_name: str, name: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda told: variable(told, variable_name).update(stored=name)


def group(told: dict[str, Any], number: int = 1) -> dict[str, Any]:
    return told["layout"]["groups"][number]


def index(told: dict[str, Any], kind: str, number: int = 1) -> dict[str, Any]:
    return next(spec for spec in group(told, number)["indexes"] if kind in spec)


def attribute(value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda told: group(told)["attrs"].append(["made up", value])


ONE_HASH = [{"int": hex(number * (2**61 - 1))} for number in range(40_000)]

DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "shape of an exabyte": shaped("mu", [2**60]),
    "shape of many dimensions": shaped("mu", [2] * 40),
    "shape of a product of 2**62": shaped("counts", [2**31, 2**31]),
    "shape that is negative": shaped("mu", [-4, -5000]),
    "shape of floats": shaped("mu", [4.0, 5000.0]),
    "shape of truths": shaped("mu", [True, 20_000]),
    "shape that is text": shaped("mu", "45"),
    "shape of another size": shaped("mu", [4, 4999]),
    "wide text": codec("names", dtype="<U1000000000"),
    "wide bytes": codec("letters", dtype="|S1000000000"),
    "wide text with a huge item": codec("names", dtype="<U9999999999999999"),
    "structured": codec("mu", dtype="f8,f8"),
    "subarray": codec("mu", dtype="(1000000,)f8"),
    "void": codec("mu", dtype="|V1000000000"),
    "objects": codec("mu", dtype="|O"),
    "numbers as text": codec("mu", kind="text", dtype="|O"),
    "text as JSON": codec("names", kind="json", dtype="|O"),
    "text as numbers": codec("names", kind="plain", dtype="<f8"),
    "unknown codec": codec("mu", kind="pickle"),
    "time of half a byte": codec("when", dtype="<f4"),
    "complex of floats": codec("z", dtype="<f8"),
    "endless range": lambda told: index(told, "range").update(range=[0, 2**60, 1]),
    "endless range of no variable": lambda told: next(
        spec for spec in group(told)["indexes"] if spec["dim"] == "alone"
    ).update(range=[0, 2**60, 1]),
    "range of another length": lambda told: index(told, "range").update(range=[0, 4999, 1]),
    "array of nothing": attribute({"array": ["<f8", [2**40], ""]}),
    "wide array of nothing": attribute({"array": ["<U1000000000", [9], ""]}),
    "scalar of nothing": attribute({"numpy": ["<f8", ""]}),
    "structured value": attribute({"array": ["f8,f8", [1], "AAAA"]}),
    "shape of a dataset but not its own": shaped("free", [2]),
    "keys of one hash": attribute({"dict": [[key, 0] for key in ONE_HASH]}),
    "set of one hash": attribute({"set": ONE_HASH}),
    "unknown value": attribute({"pickle": "gASVBQAAAAAAAACMAWGULg=="}),
    "value of two kinds": attribute({"set": [], "bytes": ""}),
    "time zone of a path": attribute({"pandas_time": [0, "ns", "dateutil//dev/zero"]}),
    "time zone above": attribute({"datetime": ["2020-01-01T00:00:00", 0, ["zone", "../../x"]]}),
    "zoned index of a path": lambda told: index(told, "exact")["exact"].update(
        {"zoned": [0, "ns", "dateutil//dev/zero"]}
    ),
    "period of a huge step": attribute({"pandas_period": [0, "9" * 30 + "D"]}),
    "codes outside of levels": lambda told: index(told, "multi", 2)["multi"]["codes"][0][
        "array"
    ].__setitem__(2, "fwB/AA=="),
    "codes of another length": lambda told: index(told, "multi", 2)["multi"]["codes"][0][
        "array"
    ].__setitem__(slice(1, 3), [[2], "AAA="]),
    "dataset above": stored("mu", "../../mu"),
    "dataset by a path": stored("mu", "/sample_stats/s"),
    "dataset by its whole path": stored("mu", "/posterior/mu"),
    "dataset of no name": stored("mu", ""),
    "dataset that is its group": stored("mu", "."),
    "dataset that is missing": stored("mu", "nu"),
    "dataset that is a group": lambda told: group(told)["variables"][0].update(
        stored="/posterior"
    ),
    "group above": lambda told: group(told).update(stored="/../posterior"),
    "group that is missing": lambda told: group(told).update(stored="/prior"),
    "group of a long path": lambda told: group(told).update(stored="/posterior" * 100_000),
    "group without its parent": lambda told: group(told).update(path="/a/b/c"),
    "groups within groups": lambda told: told["layout"]["groups"].extend(
        {**group(told, 0), "path": "/a" * depth} for depth in range(1, 300)
    ),
    "too many groups": lambda told: told["layout"]["groups"].extend(
        {**group(told, 0), "path": f"/g{number}"} for number in range(100_000)
    ),
    "one dataset for many": lambda told: group(told)["variables"].extend(
        {**variable(told, "mu"), "name": f"mu{number}"} for number in range(1000)
    ),
    "no groups": lambda told: told["layout"].update(groups=None),
    "groups of numbers": lambda told: told["layout"].update(groups=[1, 2]),
    "layout of text": lambda told: told.update(layout="x"),
    "no layout": lambda told: told.pop("layout"),
    "record with more": lambda told: told["record"].update(more=1),
    "record without a model": lambda told: told["record"].pop("model"),
    "model that is a list": lambda told: told["record"].update(model=["radon"]),
    "manifest that is a list": lambda told: told["record"].update(manifest=[]),
    "part of a number": lambda told: told["record"].update(manifest={"part_of": 3}),
    "created never": lambda told: told["record"].update(created="never"),
    "created as a number": lambda told: told["record"].update(created=0),
    "took a word": lambda told: told["record"].update(elapsed_s="long"),
    "record of text": lambda told: told.update(record="x"),
}  # fmt: skip
for name, edit in DESCRIPTIONS.items():
    described_by(name)(edit)


def case(craft: Craft) -> Craft:
    CASES[craft.__name__.replace("_", " ")] = craft
    return craft


@case
def description_of_ten_gigabytes(path: Path) -> None:
    size = 10 << 30
    footer = _FOOTER.pack(b"\ncloudposterior\0", FORMAT, 0, 0, size, b"", b"")
    with path.open("wb") as file:
        file.seek(size)
        file.write(footer)


@case
def description_of_many_values(path: Path) -> None:
    seal_anew(path, b'{"record": 0, "layout": [' + b"[]," * 5_000_000 + b"0]}")


@case
def description_nested_deeply(path: Path) -> None:
    seal_anew(path, b'{"record": 0, "layout": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}")


@case
def value_nested_deeply(path: Path) -> None:
    told = described(path)
    attribute("DEEP")(told)
    nested = b"[" * 20_000 + b"]" * 20_000
    seal_anew(path, json.dumps(told).encode().replace(b'"DEEP"', nested))


@case
def description_of_a_list(path: Path) -> None:
    seal_anew(path, b'["record", "layout"]')


@case
def description_that_is_no_json(path: Path) -> None:
    seal_anew(path, b"\xff\xfe")


@case
def description_with_a_number_of_5000_digits(path: Path) -> None:
    seal_anew(path, b'{"record": 0, "layout": ' + b"9" * 5000 + b"}")


def made(shape: Any, **options: Any) -> Craft:
    """Put another dataset in the place of ``free``, of which nothing else depends, and say so."""

    def craft(path: Path) -> None:
        def replace(file: h5py.File) -> None:
            del file["posterior/free"]
            file["posterior"].create_dataset("free", shape, **{"dtype": "f8", **options})

        change_data(path, replace)
        change(path, shaped("free", list(shape)))

    return craft


DATA: dict[str, Craft] = {
    "fill values of terabytes": made((2**40,)),
    "chunked fill values of terabytes": made(
        (2**40,), chunks=(2**17,), compression="gzip", shuffle=True
    ),
    "chunked fill values": made(
        (1000,), chunks=(100,), compression="gzip", shuffle=True, fillvalue=1.0
    ),
    "tiny chunks of terabytes": made((2**40,), chunks=(1,), compression="gzip", shuffle=True),
    "large chunks": made(
        (2**18,), chunks=(2**18,), compression="gzip", shuffle=True, data=np.zeros(2**18)
    ),
    "chunks without a filter": made((1000,), chunks=(1000,), data=np.zeros(1000)),
    "filter lzf": made((1000,), chunks=(1000,), compression="lzf", data=np.zeros(1000)),
    "filter scaleoffset": made((1000,), chunks=(10,), scaleoffset=2, data=np.zeros(1000)),
    "filter fletcher32": made((1000,), chunks=(10,), fletcher32=True, data=np.zeros(1000)),
    "structured dataset": made((3,), dtype=[("a", "f8"), ("b", "f8", (100,))]),
    "dataset of arrays": made((3,), dtype="(4,)f8"),
    "dataset of references": made((3,), dtype=h5py.ref_dtype),
    "dataset of regions": made((3,), dtype=h5py.regionref_dtype),
    "dataset of lists": made((3,), dtype=h5py.vlen_dtype(np.dtype("f8"))),
    "dataset of truths": made((3,), dtype="?"),
    "dataset of opaque bytes": made((3,), dtype="V100"),
    "dataset of text": made((3,), dtype=h5py.string_dtype()),
    "dataset of small floats": made((3,), dtype="f2"),
    "dataset of whole numbers": made((3,), dtype="i8", data=[1, 2, 3]),
    "dataset of more dimensions": lambda path: (
        made((3, 1), data=np.zeros((3, 1)))(path),
        change(path, shaped("free", [3])),
    ),
    "good dataset": made((4,), data=np.zeros(4)),
    "good chunks": made(
        (25_000,), chunks=(10_000,), compression="gzip", shuffle=True, data=np.arange(25_000.0)
    ),
    "dataset in part": made((20_000,), chunks=(10_000,), compression="gzip", shuffle=True),
}
CASES.update(DATA)


@case
def compact(path: Path) -> None:
    def replace(file: h5py.File) -> None:
        del file["posterior/free"]
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file["posterior"].id, b"free", h5py.h5t.NATIVE_DOUBLE, space, plan)

    change_data(path, replace)


def linked(link: Callable[[Path], Any], what: str = "posterior/mu") -> Craft:
    """Put a link in the place of a dataset or a group."""

    def craft(path: Path) -> None:
        def replace(file: h5py.File) -> None:
            file.move(what, "elsewhere")
            file[what] = link(path)

        change_data(path, replace)

    return craft


def other_file(path: Path) -> Path:
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file["mu"] = np.zeros((4, 5000))
        file["posterior/mu"] = np.zeros((4, 5000))
    return other


CASES.update(
    {
        "soft link": linked(lambda _: h5py.SoftLink("/elsewhere")),
        "soft link to itself": linked(lambda _: h5py.SoftLink("/posterior/mu")),
        "external link": linked(lambda path: h5py.ExternalLink(str(other_file(path)), "/mu")),
        "external link to a group": linked(
            lambda path: h5py.ExternalLink(str(other_file(path)), "/posterior"), "posterior"
        ),
        "soft link to a group": linked(lambda _: h5py.SoftLink("/elsewhere"), "posterior"),
        "group for a dataset": linked(lambda _: h5py.SoftLink("/sample_stats")),
    }
)


@case
def external_storage(path: Path) -> None:
    raw = path.with_name("raw")
    raw.write_bytes(bytes(160_000))
    made((20_000,), external=[(str(raw), 0, 160_000)])(path)


@case
def virtual_dataset(path: Path) -> None:
    def replace(file: h5py.File) -> None:
        del file["posterior/mu"]
        plan = h5py.VirtualLayout((4, 5000), "f8")
        plan[:] = h5py.VirtualSource(str(other_file(path)), "mu", shape=(4, 5000))
        file["posterior"].create_virtual_dataset("mu", plan)

    change_data(path, replace)


@case
def group_in_place_of_a_dataset(path: Path) -> None:
    def replace(file: h5py.File) -> None:
        del file["posterior/mu"]
        file["posterior"].create_group("mu")

    change_data(path, replace)


@case
def type_in_place_of_a_dataset(path: Path) -> None:
    def replace(file: h5py.File) -> None:
        del file["posterior/mu"]
        file["posterior/mu"] = np.dtype("f8")

    change_data(path, replace)


@case
def one_dataset_under_many_names(path: Path) -> None:
    change_data(
        path, lambda f: [f["posterior"].__setitem__(f"m{n}", f["posterior/mu"]) for n in range(50)]
    )
    change(
        path,
        lambda told: group(told)["variables"].extend(
            {**variable(told, "mu"), "name": f"m{n}", "stored": f"m{n}"} for n in range(50)
        ),
    )  # fmt: skip


@case
def group_within_itself(path: Path) -> None:
    change_data(path, lambda file: file["posterior"].__setitem__("loop", file["/posterior"]))
    change(path, lambda told: group(told).update(stored="/posterior" + "/loop" * 100_000))


def chunk(raw: bytes, filter_mask: int = 0) -> Craft:
    """Put other bytes in the place of the first chunk of ``counts``."""

    def craft(path: Path) -> None:
        def replace(file: h5py.File) -> None:
            file["posterior/counts"].id.write_direct_chunk((0, 0), raw, filter_mask)

        change_data(path, replace)

    return craft


CASES.update(
    {
        "chunk of a gigabyte": chunk(zlib.compress(bytes(1 << 30), 9)),
        "chunk that is too long": chunk(zlib.compress(bytes(40_001), 9)),
        "chunk that is too short": chunk(zlib.compress(bytes(39_999), 9)),
        "chunk that ends early": chunk(zlib.compress(bytes(40_000), 9)[:-8]),
        "chunk that is no stream": chunk(b"x" * 500),
        "chunk that is not filtered": chunk(bytes(40_000), 3),
    }
)


def reference(*numbers: tuple[int, int, int]) -> Craft:
    """Point the three texts of ``names`` elsewhere: lengths, heaps and numbers."""

    def craft(path: Path) -> None:
        description = described(path)
        with h5py.File(path, "r") as file:
            at = file["posterior/names"].id.get_offset()
        raw = bytearray(path.read_bytes())
        first = struct.unpack_from("<IQI", raw, at)
        for place, (length, heap, number) in enumerate(numbers):
            new = (length or first[0], heap or first[1], number or first[2])
            struct.pack_into("<IQI", raw, at + 16 * place, *new)
        path.write_bytes(raw)
        seal_anew(path, description)

    return craft


CASES.update(
    {
        "texts of gigabytes": reference(*[(2**32 - 1, 0, 0)] * 3),
        "text of another length": reference((50, 0, 0)),
        "text that is longer": reference((100_001, 0, 0)),
        "text of another heap": reference((0, 2**62, 0)),
        "text at the superblock": reference((0, 8, 0)),
        "text of another number": reference((0, 0, 60_000)),
    }
)


@case
def one_text_for_many(path: Path) -> None:
    count = 20_000

    def replace(file: h5py.File) -> None:
        del file["posterior/names"]
        file["posterior"].create_dataset("names", (count,), h5py.string_dtype(), data=["x"] * count)
        file["posterior/names"][0] = "y" * 100_000

    change_data(path, replace)
    change(path, shaped("names", [count]))
    reference(*[(0, 0, 0)] * count)(path)


@case
def data_that_is_no_hdf5(path: Path) -> None:
    description = described(path)
    raw = bytearray(path.read_bytes())
    raw[:500] = bytes(500)
    path.write_bytes(raw)
    seal_anew(path, description)


def token_of(path: Path) -> str:
    return read_entry(path).record.token


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="limits as Linux has them")
def test_crafted_files_are_refused_before_memory_is_spent(tmp_path):
    cache = DiskCache(tmp_path / "cache")
    paths = put(cache, ["good", *CASES])
    tokens = {name: token_of(path) for name, path in paths.items()}
    for name, craft in CASES.items():
        craft(paths[name])
    done = subprocess.run(
        [sys.executable, str(READER), str(cache.root), *tokens.values()],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    read = {json.loads(line)[0]: json.loads(line)[1:] for line in done.stdout.splitlines()}
    names = list(tokens)
    assert done.returncode == 0, (names[len(read) :][:1], done.stderr[-2000:])
    wrong = {}
    for name, token in tokens.items():
        hit, told, growth = read[token]
        expected = (True, 0) if name.startswith("good") else (False, 1)
        if (hit, len(told)) != expected or growth > MOST_GROWTH_BYTES:
            wrong[name] = (hit, told, growth)
        elif told and not ("CacheWarning" in told[0] and "moved aside to" in told[0]):
            wrong[name] = told
    assert wrong == {}
    left = {path.name for path in paths["good"].parent.glob("*.nc")}
    assert left == {path.name for name, path in paths.items() if name.startswith("good")}


def test_result_larger_than_the_memory_is_a_miss_and_stays(
    cache, make_tree, make_record, monkeypatch
):
    path = cache.put(make_tree(), make_record()).path
    monkeypatch.setattr(hdf5.os, "sysconf", lambda _: 10)
    with pytest.warns(CacheWarning, match="this machine has a memory of 100"):
        assert cache.get(make_record().token, model="radon", label="draws1000_chains4") is None
    assert path.exists()


def test_memory_that_runs_out_is_a_miss_and_the_file_stays(
    cache, make_tree, make_record, monkeypatch
):
    def run_out(*_):
        raise MemoryError

    path = cache.put(make_tree(), make_record()).path
    monkeypatch.setattr(files, "rebuild_tree", run_out)
    with pytest.warns(CacheWarning, match="there is not enough memory"):
        assert cache.get(make_record().token, model="radon", label="draws1000_chains4") is None
    assert path.exists()


def test_listing_survives_crafted_descriptions(cache, make_tree, make_record):
    good = cache.put(make_tree(), make_record("good"))
    for name, path in put(cache, list(DESCRIPTIONS)[::3]).items():
        CASES[name](path)
    found = cache.entries()
    assert good in found
    assert all(isinstance(entry.record.model, str) for entry in found)
    assert cache.show(good.record.token).record == good.record
    assert len(cache.verify()) > len(DESCRIPTIONS) / 6


@pytest.mark.parametrize("text", ["f8,f8", "(9,)f8", "|V9", "{}", "float64", "<M8[ns]x", None, 8])
def test_dtypes_of_no_array_are_refused(text):
    with pytest.raises(ValueError, match="not the dtype of an array"):
        values.read_dtype(text)


def test_extreme_dates_are_listed_and_pruned(cache, make_tree, make_record):
    dates = ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01"]
    made = [cache.put(make_tree(), make_record(date, created=date)) for date in dates]
    assert [entry.record.created for entry in cache.entries()] == [dates[0], dates[2], dates[1]]
    assert cache.prune(keep=1) == [made[0], made[2]]


def test_put_refuses_what_get_would(cache, make_record, monkeypatch):
    deep = xr.DataTree.from_dict({"/a" * depth: xr.Dataset() for depth in range(1, 70)})
    with pytest.raises(ValueError, match="deep"):
        cache.put(deep, make_record())
    monkeypatch.setattr(seal, "_MOST_DESCRIPTION_BYTES", 10_000)
    many = pd.array(range(2000), dtype="Int64")
    with pytest.raises(ValueError, match="keep those in numpy arrays"):
        cache.put(xr.DataTree(xr.Dataset({"x": ("i", many)})), make_record())
    assert not cache.root.exists()


def test_read_entry_refuses_a_description_of_gigabytes(cache, make_tree, make_record):
    path = cache.put(make_tree(), make_record()).path
    description_of_ten_gigabytes(path)
    with pytest.raises(CacheFileError, match="no result needs so many"):
        read_entry(path)
