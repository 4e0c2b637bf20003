"""What is put comes back as it was, whatever it is; others can open the file."""

from __future__ import annotations

import datetime as dt
import importlib
import json
import warnings
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cloudposterior.cache import DiskCache, Record

TIMES = np.array(["2020-02-29T12:00:00", "NaT", "1816-01-01"], dtype="M8[s]")
ZONE = zoneinfo.ZoneInfo("Europe/Paris")
NESTED = {"a": [1, (2, [3.0, None]), {"b": (True,)}], 3: "int key", (1, 2): "tuple key"}


def objects(*items: Any) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):
        array[position] = item
    return array


ARRAYS: dict[str, np.ndarray] = {
    **{f"number_{code}": np.array([0, 1, 7], dtype=code) for code in "bBhHiIlLqQefdFD"},
    "big_endian_float": np.array([1.5, -2.0], dtype=">f8"),
    "big_endian_int": np.array([1, 2], dtype=">i2"),
    "big_endian_complex": np.array([1 + 2j, 2], dtype=">c16"),
    "big_endian_time": TIMES.astype(">M8[s]"),
    "bool": np.array([True, False, True]),
    "not_finite": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
    "half_not_finite": np.array([np.nan, np.inf, 6e-8, 65504], dtype=np.float16),
    "complex_not_finite": np.array([complex(np.nan, 1), complex(0, -np.inf)]),
    "extreme_ints": np.array([-(2**63), 2**63 - 1]),
    "extreme_uints": np.array([0, 2**64 - 1], dtype=np.uint64),
    **{f"time_{unit}": TIMES.astype(f"M8[{unit}]") for unit in ("s", "ms", "us", "ns")},
    **{
        f"span_{unit}": np.array([0, -5, "NaT"], dtype=f"m8[{unit}]")
        for unit in ("s", "ms", "us", "ns")
    },
    "time_without_nat": TIMES[:1],
    "fixed_text": np.array(["a", "", "résumé 🎲", "abcde"]),
    "fixed_text_nul": np.array(["a\0b", "c"]),
    "fixed_text_surrogate": np.array(["\udc80", "c"]),
    "fixed_text_wide": np.array(["a"], dtype="<U50"),
    "fixed_bytes": np.array([b"ab", b"", b"\xff\x00\x01"]),
    "object_text": objects("a", "", "b c"),
    "object_text_none": objects("a", None, "b"),
    "object_text_nan": objects("a", float("nan")),
    "object_text_na": objects("a", pd.NA),
    "object_text_none_and_empty": objects("a", None, ""),
    "object_text_none_and_nan": objects("a", None, float("nan")),
    "object_text_nul": objects("a\0", "\0"),
    "object_text_surrogate": objects("\ud800", 1),
    "object_text_long": objects("x" * 100_000),
    "object_numpy_text": objects(np.str_("a"), "a"),
    "object_ints": objects(1, 2, 2**70),
    "object_floats": objects(1.5, float("nan"), float("-inf")),
    "object_all_none": objects(None, None),
    "object_mixed": objects(1, "1", 1.0, True, None, b"1", (1, "1"), [1], {"1": 1}),
    "object_numpy": objects(np.float32(1), np.int8(1), np.datetime64("2020", "D"), np.bool_(True)),
    "object_dates": objects(dt.date(2020, 1, 1), dt.date(1, 1, 1)),
    "object_periods": objects(pd.Period("2020-01", "M"), pd.Period("2020Q1", "Q")),
    "matrix": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(20)[::2],
    "matrix_of_text": np.array([["a", "bc"], ["", "d"]]),
    "matrix_of_bytes": np.array([[b"a", b"bc"], [b"", b"d"]]),
    "matrix_of_complex": np.arange(6).reshape(2, 3) * 1j,
    "scalar": np.array(1.5),
    "scalar_bool": np.array(True),
    "scalar_text": np.array("abc"),
    "scalar_bytes": np.array(b"abc"),
    "scalar_object": np.array(None, dtype=object),
    "scalar_complex": np.array(1j),
    "scalar_time": np.array("2020-01-01", dtype="M8[ns]"),
    "compressible": np.zeros((4, 5000), dtype=np.int64) + 1,
    "compressible_vector": np.repeat([1.0, 2.0], 200_000),
    **{
        f"empty_{name}": np.empty(shape, dtype=dtype)
        for name, shape, dtype in [
            ("float", (0,), "f8"), ("matrix", (4, 0), "f4"), ("cube", (2, 0, 3), "i4"),
            ("text", (0,), "<U7"), ("bytes", (0,), "S3"), ("object", (0,), "O"),
            ("bool", (0,), "?"), ("time", (0,), "M8[ns]"), ("complex", (0,), "c16"),
            ("half", (0,), "f2"),
        ]
    },
}  # fmt: skip

COORDS: dict[str, Any] = {
    "ints": np.array([3, 1, 2]),
    "range": pd.RangeIndex(2, 10, 3),
    "negative_range": pd.RangeIndex(10, 0, -5),
    "empty_range": pd.RangeIndex(0),
    "small_ints": np.array([3, 1], dtype=np.int8),
    "floats": np.array([0.5, np.nan]),
    "single_floats": np.array([0.5, 1], dtype=np.float32),
    "bools": np.array([True, False]),
    "complex": np.array([1j, 2]),
    "fixed_text": np.array(["a", "bcd"]),
    "list_of_text": ["a", "b"],
    "object_text": objects("a", "b"),
    "pandas_text": pd.Index(["a", "b"]),
    "pandas_text_na": pd.Index(["a", None], dtype="string"),
    "text_none": objects("a", None),
    "text_nan": objects("a", float("nan")),
    "bytes": np.array([b"a", b"bc"]),
    "datetimes": pd.date_range("2020-01-01", periods=3, freq="D"),
    "datetimes_ns": np.array(["2020-01-01T00:00:00.000000001", "NaT"], dtype="M8[ns]"),
    "datetimes_s": np.array(["0001-01-01"], dtype="M8[s]"),
    "spans": pd.timedelta_range("1h", periods=3),
    "zoned": pd.date_range("2020-10-25", periods=3, freq="h", tz="Europe/Paris"),
    "zoned_utc": pd.date_range("2020-10-25", periods=3, tz="UTC"),
    "zoned_offset": pd.date_range("2020-10-25", periods=3, tz="+02:30"),
    "periods": pd.period_range("2020-01", periods=3, freq="M"),
    "periods_week": pd.period_range("2020-01-01", periods=3, freq="W-WED"),
    "categories": pd.CategoricalIndex(["b", "a", None], categories=["b", "a", "z"], ordered=True),
    "categories_int": pd.CategoricalIndex([3, 1]),
    "intervals": pd.interval_range(0, 3),
    "intervals_time": pd.interval_range(pd.Timestamp("2020"), periods=2, closed="left"),
    "masked": pd.Index([1, None], dtype="Int64"),
    "masked_float": pd.Index([1.5, None], dtype="Float32"),
    "masked_bool": pd.Index([True, None], dtype="boolean"),
    "tuples": objects(("a", 1), ("b", (2.5, None))),
    "dates": objects(dt.date(2020, 1, 1), dt.date(2021, 1, 1)),
    "mixed": objects(1, "1", 2.5, None),
    "empty": np.array([], dtype="f8"),
    "empty_text": np.array([], dtype="<U3"),
    "empty_object": np.array([], dtype=object),
    "empty_dates": np.array([], dtype="M8[ns]"),
    "empty_categories": pd.CategoricalIndex([], categories=["a"]),
}

ATTRIBUTES: dict[str, Any] = {
    "none": None, "true": True, "false": False, "int": 3, "negative": -3, "float": 1.5,
    "big": 2**64, "bigger": -(10**5000), "int64_min": -(2**63), "text": "résumé 🎲",
    "empty_text": "", "nul": "a\0b", "only_nul": "\0", "surrogate": "\udc80", "long": "x" * 200_000,
    "nan": float("nan"), "inf": float("-inf"), "minus_zero": -0.0, "complex": complex(1, -0.0),
    "bytes": b"\x00\xff", "bytearray": bytearray(b"a"), "one_item": [1], "one_text": ["a"],
    "empty_list": [], "empty_tuple": (), "empty_dict": {}, "list": [1, 2], "texts": ["a", "b"],
    "tuple": (1, 2), "mixed": [1, "a", None, 1.0], "nested": NESTED, "set": {1, 2},
    "frozenset": frozenset(["a"]), "decimal": Decimal("1.10"), "date": dt.date(2020, 2, 29),
    "datetime": dt.datetime(2020, 1, 1, 1, 2, 3, 4), "folded": dt.datetime(2020, 10, 25, 2, fold=1),
    "utc": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    "offset": dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30), "X")),
    "zoned": dt.datetime(2020, 7, 1, tzinfo=ZONE), "time": dt.time(1, 2, 3, 4),
    "timedelta": dt.timedelta(-1, 2, 3), "numpy_int": np.int32(3), "numpy_float": np.float64(1.5),
    "numpy_half": np.float16(0.1), "numpy_bool": np.bool_(True), "numpy_text": np.str_("a\0"),
    "numpy_bytes": np.bytes_(b"a\0"), "numpy_complex": np.complex64(1j), "numpy_uint": np.uint64(2),
    "numpy_time": np.datetime64("2020-01-01", "D"), "numpy_nat": np.datetime64("NaT", "ns"),
    "numpy_span": np.timedelta64(25, "m"), "array": np.arange(3), "matrix": np.eye(2),
    "scalar_array": np.array(1.5), "empty_array": np.empty((0, 2)), "text_array": np.array(["a"]),
    "bool_array": np.array([True]), "object_array": objects(1, "a", None, (1,)),
    "time_array": TIMES, "half_array": np.ones(2, dtype="f2"), "large_array": np.zeros(20_000),
    "timestamp": pd.Timestamp("2020-01-01 00:00:00.000000001"),
    "timestamp_zoned": pd.Timestamp("2020-07-01", tz="Europe/Paris"), "nat": pd.NaT, "na": pd.NA,
    "pandas_timedelta": pd.Timedelta("1ns"), "period": pd.Period("2020-01", "M"),
    "interval": pd.Interval(0, 1.5, closed="both"), "list_of_arrays": [np.arange(2), {"a": (1,)}],
    # names that netCDF, HDF5 or xarray take for their own
    "_FillValue": 3.0, "missing_value": "none", "units": "days", "calendar": "lunar",
    "scale_factor": 10.0, "add_offset": "x", "dtype": "bool", "coordinates": "a b c",
    "_Unsigned": "true", "CLASS": "DIMENSION_SCALE", "NAME": "n", "_Netcdf4Dimid": 99,
    "DIMENSION_LIST": [1], "_nc3_strict": 1, "cloudposterior_layout": "mine", "grid_mapping": "g",
    # odd names
    "": 1, ".": 2, "..": 3, "a/b": 4, "a b": 5, " a": 6, "🎲": 7, "nul\0": 8, "1": 9, 1: 10,
    (1, 2): 11, None: 12,
}  # fmt: skip

# a tree takes names with a slash for dimensions only
DIM_NAMES = ["a/b", "/", "x", ".."]
NAMES = [
    ".", "..", "a b", " a ", "", "🎲", "résumé", "radon::mu_a", "1st", "a\0b", "a\nb",
    "x" * 300, "_private", "_nc4_non_coord_x", "CON", "\udc80", "A", "a", "mu[0]", 'quo"te',
]  # fmt: skip


def one_variable(array: np.ndarray, **more: Any) -> xr.Dataset:
    dims = [f"dim_{axis}" for axis in range(array.ndim)]
    return xr.Dataset({"x": xr.Variable(dims, array)}, **more)


def multi_index(frame: pd.MultiIndex) -> xr.Dataset:
    coords = xr.Coordinates.from_pandas_multiindex(frame, "obs")
    dataset = xr.Dataset({"y": ("obs", np.arange(len(frame)))}, coords=coords)
    dataset["obs"].attrs["why"] = "both"
    first = frame.names[0]
    dataset[first].attrs["unit"] = None
    return dataset


def with_odd_names() -> xr.Dataset:
    data = {name: (f"{name} dim", np.arange(3)) for name in NAMES}
    more = {f"on {number}": (dim, np.arange(2)) for number, dim in enumerate(DIM_NAMES)}
    return xr.Dataset(data | more, coords={f"{name} dim": [3, 1, 2] for name in NAMES[:8]})


def with_name_clashes() -> xr.Dataset:
    return xr.Dataset(
        {
            "x": ("y", [1, 2]), "z": (("x", "y"), np.ones((3, 2))),
            "real_imag": ((), 1), "c": ("string3", [1j, 2]), "s": ("y", np.array([b"abc", b"d"])),
            "x-2d711642": ((), 2), 5: ((), 1), ("t", 1): ((), 2),
        }
    )  # fmt: skip


def extension(values: Any) -> xr.Dataset:
    return xr.Dataset({"x": ("i", values, {"a": (1,)})})


DATASETS: dict[str, Callable[[], xr.Dataset]] = {
    "no_variables": lambda: xr.Dataset(attrs={"a": 1}),
    "attributes": lambda: xr.Dataset({"x": ("i", [1.5, 2.5], ATTRIBUTES)}, attrs=ATTRIBUTES),
    "index_attributes": lambda: xr.Dataset(coords={"i": ("i", [1, 2], ATTRIBUTES)}),
    "odd_names": with_odd_names,
    "name_clashes": with_name_clashes,
    "names_by_case": lambda: xr.Dataset({"a": ((), 1), "A": ((), 2)}),
    "dims_order": lambda: xr.Dataset(
        {"b": (("z", "a"), np.ones((2, 3))), "a2": (("a", "z"), np.ones((3, 2)))}
    ),
    "variables_order": lambda: xr.Dataset({n: ((), i) for i, n in enumerate("zaZ_m")}),
    "coords_beside": lambda: xr.Dataset(
        {"x": (("i", "j"), np.ones((2, 3)))},
        coords={
            "lon": (("i", "j"), np.arange(6.0).reshape(2, 3)), "when": ((), TIMES[0]),
            "name of": ("i", ["a", "b"]), "j": [1, 2, 3],
        },
    ),
    "coord_without_index": lambda: xr.Dataset(coords={"i": [1, 2, 3]}).drop_indexes("i"),
    "index_on_another": lambda: xr.Dataset(
        coords={"i": [1, 2], "j": ("i", ["a", "b"])}
    ).set_xindex("j"),
    "multi_index": lambda: multi_index(
        pd.MultiIndex.from_product([["b", "a"], [2, 1]], names=["letter", "number"])
    ),
    "multi_index_dates_nan": lambda: multi_index(
        pd.MultiIndex.from_arrays(
            [pd.to_datetime(["2020", "2021", None]), [1.5, np.nan, 2.5], ["a", None, "c"]],
            names=["when", "how much", "what"],
        )
    ),
    "multi_index_unused_levels": lambda: multi_index(
        pd.MultiIndex.from_product([["c", "b", "a"], [2, 1]], names=["letter", "number"])[2:5]
    ),
    "multi_index_stacked": lambda: xr.Dataset(
        {"x": (("i", "j"), np.ones((2, 2)))}, coords={"i": ["b", "a"], "j": pd.RangeIndex(2)}
    ).stack(ij=("i", "j")),
    "multi_index_zoned": lambda: multi_index(
        pd.MultiIndex.from_arrays(
            [pd.date_range("2020", periods=2, tz="Europe/Paris"), pd.Categorical(["a", "b"])],
            names=["when", "what"],
        )
    ),
    "multi_index_empty": lambda: multi_index(
        pd.MultiIndex.from_arrays([[], []], names=["when", "what"])
    ),
    "lazy": lambda: xr.Dataset({"x": ("i", dask.array.arange(10, chunks=3))}),
    "lazy_scalar": lambda: xr.Dataset({"x": ((), dask.array.ones(()))}),
    "data_categories": lambda: extension(pd.Categorical(["a", None, "b"])),
    "data_masked": lambda: extension(pd.array([1, None], dtype="Int64")),
    "data_text": lambda: extension(pd.array(["a", "b"], dtype="str")),
    "data_periods": lambda: extension(pd.period_range("2020", periods=2, freq="M").array),
    "data_timestamps_zoned": lambda: extension(pd.date_range("2020", periods=2, tz="UTC").array),
}  # fmt: skip
DATASETS |= {f"array_{name}": lambda a=array: one_variable(a) for name, array in ARRAYS.items()}
DATASETS |= {
    f"coord_array_{name}": lambda a=array: one_variable(a).set_coords("x")
    for name, array in ARRAYS.items()
}
DATASETS |= {
    f"coord_{name}": lambda v=values: xr.Dataset(
        {"y": ("i", np.arange(float(len(v))))}, coords={"i": v}
    )
    for name, values in COORDS.items()
}


def through(cache: DiskCache, tree: xr.DataTree, record: Record) -> xr.DataTree:
    cache.put(tree, record)
    found = cache.get(record.token, model=record.model, label=record.label)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("name", DATASETS)
def test_round_trip_is_exact(name, cache, make_record, assert_same, recwarn):
    tree = xr.DataTree.from_dict({"posterior": DATASETS[name]()})
    entry = cache.put(tree, make_record())
    found = cache.get(make_record().token, model="radon", label="draws1000_chains4")
    assert found is not None
    assert cache.verify() == []
    with xr.open_datatree(entry.path, engine="h5netcdf") as opened:
        assert set(opened.children) == {"posterior"}
        opened.load()
    assert [str(warning.message) for warning in recwarn] == []
    with warnings.catch_warnings():
        # pandas deprecates what xarray does to compare indexes with a time zone
        warnings.filterwarnings("ignore", "DatetimeIndex.values", FutureWarning)
        warnings.filterwarnings("ignore", "DatetimeIndex.values", DeprecationWarning)
        assert_same(found[0], tree.load())


def test_round_trip_of_a_whole_result(cache, make_record, make_tree, assert_same):
    tree = make_tree()
    tree.name = "result"
    assert_same(through(cache, tree, make_record()), tree)


def test_round_trip_of_nested_groups_with_inherited_coords(cache, make_record, assert_same):
    tree = xr.DataTree.from_dict(
        {
            "/": xr.Dataset({"x": ("i", [1, 2])}, coords={"i": [5, 6], "s": 1}, attrs={"a": None}),
            "/child": xr.Dataset({"y": ("i", [3, 4])}),
            "/child/grand child": xr.Dataset({"z": (("i", "j"), np.ones((2, 2)))}),
            "/empty": xr.Dataset(),
        }
    )
    assert_same(through(cache, tree, make_record()), tree)


def test_round_trip_of_a_branch_keeps_inherited_coords(cache, make_record):
    tree = xr.DataTree.from_dict(
        {"/": xr.Dataset(coords={"i": [5, 6]}), "/child": xr.Dataset({"y": ("i", [3, 4])})}
    )
    got = through(cache, tree["child"], make_record())
    assert got["y"].identical(tree["child/y"])
    assert got.path == "/"


def test_round_trip_of_a_result_read_lazily_from_a_file(cache, make_record, tmp_path):
    xr.Dataset({"x": ("i", np.arange(5.0))}).to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "x.nc", engine="h5netcdf") as lazy:
        tree = xr.DataTree.from_dict({"posterior": lazy})
        got = through(cache, tree, make_record())
    assert got["posterior/x"].values.tolist() == [0, 1, 2, 3, 4]


def test_a_hit_is_the_callers_own(cache, make_record, make_tree, assert_same):
    first = through(cache, make_tree(), make_record())
    first["posterior/mu"].values[:] = 0
    first["posterior"].attrs["created_at"] = "changed"
    found = cache.get(make_record().token, model="radon", label="draws1000_chains4")
    assert_same(found[0], make_tree())


class Opaque:
    """A value that no file can hold."""


@pytest.mark.parametrize(
    ("dataset", "named"),
    [
        (lambda: xr.Dataset({"x": ((), 1, {"how": Opaque()})}), ["'x'", "'how'", "Opaque"]),
        (lambda: xr.Dataset(attrs={"how": [Opaque()]}), ["'/posterior'", "'how'", "Opaque"]),
        (lambda: xr.Dataset({"x": ("i", objects(1, Opaque()))}), ["'x'", "Opaque"]),
        (lambda: xr.Dataset({"x": ((), np.longdouble(1))}), ["'x'", "float128"]),
        (lambda: xr.Dataset({"x": ("i", np.zeros(2, dtype="i4,f8"))}), ["'x'", "dtype"]),
        (lambda: xr.Dataset({"x": ((), 1, {"how": lambda: 1})}), ["'x'", "'how'", "function"]),
        (
            lambda: xr.Dataset(coords=xr.Coordinates.from_xindex(
                xr.indexes.RangeIndex.arange(0, 3, dim="i"))),
            ["RangeIndex", "'i'"],
        ),
    ],
)  # fmt: skip
def test_put_refuses_what_cannot_be_held(dataset, named, cache, make_record):
    tree = xr.DataTree.from_dict({"posterior": dataset()})
    with pytest.raises(TypeError) as caught:
        cache.put(tree, make_record())
    for word in ["posterior", *named]:
        assert word in str(caught.value)
    assert not cache.root.exists()


def test_put_refuses_a_value_within_itself(cache, make_record):
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(TypeError, match=r"'loop'.*within itself"):
        cache.put(xr.DataTree(xr.Dataset(attrs={"loop": loop})), make_record())


def test_file_opens_with_xarray_alone(cache, make_record, make_tree):
    tree = make_tree()
    entry = cache.put(tree, make_record())
    with xr.open_datatree(entry.path) as opened:
        assert set(opened.children) == set(tree.children)
        for name in ("mu", "radon::mu_a"):
            assert opened["posterior"][name].variable.equals(tree["posterior"][name].variable)
        assert opened["sample_stats/diverging"].dtype == bool
        assert opened["posterior/county"].values.tolist() == ["AITKIN", "ANOKA", "BECKER"]
        assert opened.attrs["cloudposterior_token"] == make_record().token
        assert opened.attrs["cloudposterior_format"] == 1
        assert opened.attrs["cloudposterior_elapsed_s"] == 12.5
        assert json.loads(opened.attrs["cloudposterior_manifest"]) == make_record().manifest


def test_file_opens_with_arviz_alone(cache, make_record, make_tree):
    arviz = importlib.import_module("arviz")
    tree = make_tree()
    entry = cache.put(tree, make_record())
    opened = arviz.from_netcdf(str(entry.path))
    posterior = opened["posterior"]
    assert np.array_equal(posterior["mu"].values, tree["posterior/mu"].values)
    assert np.array_equal(opened["observed_data"]["y"].values, tree["observed_data/y"].values)


def test_others_see_dates_and_complex_values(cache, make_record):
    dataset = xr.Dataset({"t": ("i", TIMES), "s": ("i", TIMES - TIMES[0]), "b": ("i", [b"ab"] * 3)})
    entry = cache.put(xr.DataTree.from_dict({"posterior": dataset}), make_record())
    with xr.open_datatree(entry.path, engine="h5netcdf") as opened:
        assert np.array_equal(opened["posterior/t"].values, TIMES, equal_nan=True)
        assert opened["posterior/s"].dtype == "m8[s]"
        assert opened["posterior/b"].values.tolist() == [b"ab"] * 3


def test_others_get_user_data_with_misleading_attributes_unchanged(cache, make_record):
    attrs = {"_FillValue": 1.0, "scale_factor": 10.0, "units": "days since 2020-01-01"}
    dataset = xr.Dataset({"x": ("i", [1.0, 2.0], attrs)})
    entry = cache.put(xr.DataTree.from_dict({"posterior": dataset}), make_record())
    with xr.open_datatree(entry.path, engine="h5netcdf") as opened:
        assert opened["posterior/x"].values.tolist() == [1.0, 2.0]
        assert opened["posterior/x"].attrs["user_units"] == "days since 2020-01-01"


def test_manifest_of_megabytes(cache, make_record, make_tree):
    manifest = {f"component_{number}": "é" + "0a" * 50 for number in range(20_000)}
    record = make_record(manifest=manifest)
    entry = cache.put(make_tree(), record)
    found = cache.get(record.token, model="radon", label=record.label)
    assert found[1] == entry
    assert entry.record == record
    with xr.open_datatree(entry.path, engine="h5netcdf") as opened:
        parts = [name for name in opened.attrs if name.startswith("cloudposterior_manifest_")]
        text = "".join(opened.attrs[f"cloudposterior_manifest_{n}"] for n in range(len(parts)))
    assert len(text) > 2_000_000
    assert json.loads(text) == manifest


def test_compression_only_where_it_pays(cache, make_record):
    noise = np.random.default_rng(0).normal(size=(4, 50_000))
    counts = np.ones((4, 50_000), dtype=np.int64)
    for seed, array, factor in (("noise", noise, 1.0), ("counts", counts, 0.1)):
        tree = xr.DataTree.from_dict({"posterior": one_variable(array)})
        entry = cache.put(tree, make_record(seed))
        assert entry.size_bytes < factor * array.nbytes + 20_000
        with xr.open_datatree(entry.path, engine="h5netcdf") as opened:
            chunks = opened["posterior/x"].encoding.get("chunksizes")
        assert chunks == (None if seed == "noise" else (1, 50_000))
