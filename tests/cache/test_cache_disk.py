"""The cache on disk: finding, replacing, refusing, and what happens where the disk does not."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import pytest
import xarray as xr

from cloudposterior.cache import DiskCache, files, folder, read_entry, upkeep
from cloudposterior.cache.seal import FORMAT
from cloudposterior.errors import CacheFileError, CacheWarning
from tests.cache import crafting


def get(cache, record):
    return cache.get(record.token, model=record.model, label=record.label)


def files_in(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}


def test_disk_gives_back_what_was_put(cache, make_tree, make_record, assert_same):
    record = make_record()
    assert get(cache, record) is None and cache.entries() == []
    entry = cache.put(make_tree(), record)
    assert entry.path == cache.root / "radon" / f"draws1000_chains4-{record.token[:8]}.nc"
    assert entry.size_bytes == entry.path.stat().st_size
    assert entry.record == record
    tree, found = get(cache, record)
    assert_same(tree, make_tree())
    assert found == entry == read_entry(entry.path) == cache.entries()[0]
    assert files_in(cache.root) == {f"radon/{entry.path.name}"}


def test_disk_replaces_an_entry_with_the_same_token(cache, make_tree, make_record, assert_same):
    cache.put(make_tree(0), make_record())
    cache.put(make_tree(1), make_record(elapsed_s=1.0))
    tree, entry = get(cache, make_record())
    assert_same(tree, make_tree(1))
    assert entry.record.elapsed_s == 1.0
    assert len(files_in(cache.root)) == 1


def test_disk_replaces_a_file_that_another_has_open(cache, make_tree, make_record, assert_same):
    entry = cache.put(make_tree(0), make_record())
    with xr.open_datatree(entry.path, engine="h5netcdf") as lazy:
        cache.put(make_tree(1), make_record())
        assert lazy["posterior/mu"].variable.equals(make_tree(0)["posterior/mu"].variable)
    assert_same(get(cache, make_record())[0], make_tree(1))


def test_entries_whose_tokens_begin_alike_live_side_by_side(
    cache, make_tree, make_record, assert_same
):
    tokens = ["0" * 32, "0" * 8 + "1" * 24, "0" * 16 + "1" * 16, "0" * 31 + "2"]
    for seed, token in enumerate(tokens):
        cache.put(make_tree(seed), make_record(token=token))
    for seed, token in enumerate(tokens):
        assert_same(get(cache, make_record(token=token))[0], make_tree(seed))
    assert get(cache, make_record(token="0" * 30 + "33")) is None
    lengths = sorted(len(entry.path.stem.rpartition("-")[2]) for entry in cache.entries())
    assert lengths == [8, 16, 16, 32]
    assert cache.verify() == []


def test_entry_with_a_longer_name_is_found_when_the_shorter_is_gone(cache, make_tree, make_record):
    first, second = make_record(token="0" * 32), make_record(token="0" * 8 + "1" * 24)
    cache.put(make_tree(), first).path
    cache.put(make_tree(), second)
    (cache.root / "radon" / "draws1000_chains4-00000000.nc").unlink()
    assert get(cache, second) is not None and get(cache, first) is None


@pytest.mark.parametrize(
    "model", ["../../x", "x" * 300, "🎲", "CON", "trailing.", "", "a/b", "/etc", "nul\0", "\udc80"]
)
def test_hostile_model_name_stays_inside(model, cache, make_tree, make_record, tmp_path):
    record = make_record(model=model, label=model)
    entry = cache.put(make_tree(), record)
    assert entry.path.resolve().parent.parent == cache.root.resolve()
    assert entry.record == record
    assert get(cache, record) is not None
    assert cache.entries() == [entry]
    assert os.listdir(tmp_path) == ["cache"]
    with xr.open_datatree(entry.path, engine="h5netcdf") as opened:
        assert "cloudposterior_model" in opened.attrs


def test_models_that_differ_by_case_stay_apart(cache, make_tree, make_record, assert_same):
    for seed, model in enumerate(["radon", "Radon", "RADON"]):
        cache.put(make_tree(seed), make_record(model=model))
    for seed, model in enumerate(["radon", "Radon", "RADON"]):
        assert_same(get(cache, make_record(model=model))[0], make_tree(seed))


@pytest.mark.parametrize(
    "changes", [{"token": "../../../../x"}, {"token": "0" * 31}, {"created": "yesterday"}]
)
def test_put_refuses_a_record_that_cannot_be_found_again(changes, cache, make_tree, make_record):
    with pytest.raises(ValueError):
        cache.put(make_tree(), make_record(**changes))
    assert not cache.root.exists()


def test_put_refuses_a_manifest_that_is_no_json(cache, make_tree, make_record):
    with pytest.raises(TypeError):
        cache.put(make_tree(), make_record(manifest={"a": object()}))
    assert not cache.root.exists()


def older_format(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    assert raw[-88] == FORMAT
    raw[-88] = FORMAT - 1
    path.write_bytes(raw)


BREAKAGES = {
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "short": (lambda path: path.write_bytes(b"x"), "too short"),
    "text": (lambda path: path.write_text("not a netCDF file\n" * 50), "foreign"),
    "torn": (lambda path: os.truncate(path, path.stat().st_size // 2), "torn"),
    "flipped": (lambda path: flip(path, 5000), "damaged"),
    "flipped description": (lambda path: flip(path, -200), "description is damaged"),
    "grown": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "torn"),
    "older": (older_format, "format 0"),
    "foreign netCDF": (lambda path: h5py.File(path, "w").close(), "not written by cloudposterior"),
    "directory": (lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
    "pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file"),
}


def flip(path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 0xFF
    path.write_bytes(raw)


@pytest.mark.parametrize("name", BREAKAGES)
def test_broken_file_is_a_miss_and_moved_aside(name, cache, make_tree, make_record, assert_same):
    damage, reason = BREAKAGES[name]
    path = cache.put(make_tree(), make_record()).path
    damage(path)
    if name not in ("directory", "pipe"):
        assert [broken for broken, _ in cache.verify()] == [path]
        assert reason in cache.verify()[0][1]
    # a listing reads no draws
    assert [entry.path for entry in cache.entries()] == ([path] if name == "flipped" else [])
    with pytest.warns(CacheWarning) as caught:
        assert get(cache, make_record()) is None
    assert len(caught) == 1
    assert str(path) in str(caught[0].message) and reason in str(caught[0].message)
    (aside,) = path.parent.iterdir()
    assert aside.name.startswith(f"{path.stem}.aside-") and aside.name in str(caught[0].message)
    assert get(cache, make_record()) is None
    cache.put(make_tree(), make_record())
    assert_same(get(cache, make_record())[0], make_tree())
    assert aside.exists()


def test_put_moves_a_broken_file_aside(cache, make_tree, make_record, assert_same):
    path = cache.put(make_tree(), make_record()).path
    path.write_text("mine")
    with pytest.warns(CacheWarning, match="moved aside"):
        cache.put(make_tree(1), make_record())
    assert_same(get(cache, make_record())[0], make_tree(1))
    (aside,) = path.parent.glob("*.aside-*")
    assert aside.read_text() == "mine"


def test_read_entry_names_a_broken_file(tmp_path):
    path = tmp_path / "x.nc"
    path.write_text("not ours" * 100)
    with pytest.raises(CacheFileError, match=r"x\.nc: it is foreign"):
        read_entry(path)
    with pytest.raises(FileNotFoundError):
        read_entry(tmp_path / "y.nc")


def test_whole_file_with_a_layout_from_elsewhere_is_a_miss(cache, make_tree, make_record):
    def later(description):
        crafting.variable(description, "mu")["codec"] = {"kind": "later", "dtype": "?!"}

    crafting.change(cache.put(make_tree(), make_record()).path, later)
    with pytest.warns(CacheWarning, match="layout is not understood"):
        assert get(cache, make_record()) is None


def test_file_of_another_token_is_no_hit_and_stays(cache, make_tree, make_record):
    path = cache.put(make_tree(), make_record("a")).path
    other = path.with_name(f"draws1000_chains4-{make_record('b').token[:8]}.nc")
    path.rename(other)
    assert get(cache, make_record("b")) is None
    assert other.exists()
    assert "not where it is looked for" in cache.verify()[0][1]


def test_file_that_vanishes_while_it_is_read_is_a_miss(cache, make_tree, make_record, monkeypatch):
    cache.put(make_tree(), make_record())

    def vanish(folder, name):
        raise FileNotFoundError(name)

    monkeypatch.setattr(folder.Folder, "open", vanish)
    assert get(cache, make_record()) is None


def test_file_that_is_replaced_while_it_is_read_is_read_anew(
    cache, make_tree, make_record, assert_same, monkeypatch
):
    path = cache.put(make_tree(), make_record()).path
    whole = path.read_bytes()
    flip(path, 5000)

    def check_while_another_writes(file, seal):
        (path.parent / "new").write_bytes(whole)
        os.replace(path.parent / "new", path)
        return check(file, seal)

    check = upkeep.check_all
    monkeypatch.setattr(upkeep, "check_all", check_while_another_writes)
    assert_same(get(cache, make_record())[0], make_tree())
    assert files_in(cache.root) == {path.relative_to(cache.root).as_posix()}


def test_file_that_cannot_be_read_is_a_miss_and_stays(cache, make_tree, make_record, monkeypatch):
    path = cache.put(make_tree(), make_record()).path

    def refuse(folder, name):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(folder.Folder, "open", refuse)
    with pytest.warns(CacheWarning, match="Permission denied") as caught:
        assert get(cache, make_record()) is None
    assert len(caught) == 1 and str(path) in str(caught[0].message)
    assert path.exists()


def test_root_that_is_a_file(tmp_path, make_tree, make_record):
    (tmp_path / "file").write_text("mine")
    cache = DiskCache(tmp_path / "file")
    with pytest.raises(OSError):
        cache.put(make_tree(), make_record())
    # nothing can lie there, so looking is a plain miss: the warning is for what cannot be saved
    assert get(cache, make_record()) is None
    assert (tmp_path / "file").read_text() == "mine"


def test_read_only_directory(read_only_disk, make_tree, make_record, assert_same):
    cache = DiskCache(read_only_disk / "cache")
    path = cache.put(make_tree(), make_record()).path
    cache.put(make_tree(), make_record("broken")).path.write_text("torn")
    subprocess.run(["mount", "-o", "remount,ro", str(read_only_disk)], check=True)
    assert_same(get(cache, make_record())[0], make_tree())
    with pytest.raises(OSError, match=r"[Rr]ead-only"):
        cache.put(make_tree(), make_record("b"))
    with pytest.warns(CacheWarning, match="could not be moved aside"):
        assert get(cache, make_record("broken")) is None
    assert path.exists()


FILL_A_DISK = """
import sys
import numpy as np, xarray as xr
from cloudposterior.cache import DiskCache, Record

cache, refused = DiskCache(sys.argv[1]), 0
for size in range(10, 120, 7):
    dataset = xr.Dataset({f"x{i}": ("i", np.arange(300.0) + i) for i in range(size)})
    record = Record(f"{size:032x}", "m", "l", {}, {}, "2026-01-01T00:00:00+00:00", 1.0, None)
    try:
        cache.put(xr.DataTree.from_dict({"posterior": dataset}), record)
    except OSError as error:
        assert error.errno == 28, error
        refused += 1
    assert not list(cache.root.rglob(".*")), list(cache.root.rglob(".*"))
    assert cache.verify() == []
    cache.clear()
assert 3 < refused < 13, refused
"""


def test_full_disk_raises_and_leaves_nothing(small_disk):
    """In a process of its own: libhdf5 itself, met by a full disk, crashes it at some sizes."""
    command = [sys.executable, "-c", FILL_A_DISK, str(small_disk / "cache")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("step", ["write_netcdf", "append_seal"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_put_leaves_the_old_entry_and_nothing_else(
    step, failure, cache, make_tree, make_record, assert_same, monkeypatch
):
    cache.put(make_tree(0), make_record())
    before = files_in(cache.root)
    real = getattr(files, step)

    def fail(*arguments, **options):
        real(*arguments, **options)
        raise failure

    monkeypatch.setattr(files, step, fail)
    with pytest.raises(type(failure)):
        cache.put(make_tree(1), make_record())
    assert files_in(cache.root) == before
    assert_same(get(cache, make_record())[0], make_tree(0))


def test_threads_share_a_cache(cache, make_tree, make_record, assert_same):
    def work(seed):
        cache.put(make_tree(seed), make_record(str(seed % 4)))
        return get(cache, make_record(str(seed % 4)))[0]

    with ThreadPoolExecutor(6) as pool:
        for seed, got in enumerate(pool.map(work, range(24))):
            assert got["posterior"].attrs["seed"] % 4 == seed % 4
            assert_same(got, make_tree(got["posterior"].attrs["seed"]))
    assert len(files_in(cache.root)) == 4


def test_cache_reads_no_pickle_and_imports_nothing_from_above():
    for source in Path(files.__file__).parent.glob("*.py"):
        imports = [line for line in source.read_text().splitlines() if "import " in line]
        for module in ("pickle", "pymc", "arviz", "distributed", "cloudposterior.api"):
            assert not [line for line in imports if module in line], (source, module)


def test_repr_names_the_directory(tmp_path):
    assert str(tmp_path) in repr(DiskCache(tmp_path))
