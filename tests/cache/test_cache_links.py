"""Symbolic links lead no write, no move, no removal and no read out of the directory."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from cloudposterior.cache import DiskCache, files, folder, local
from cloudposterior.errors import CacheWarning

pytestmark = pytest.mark.once

LABEL = "draws1000_chains4"


def get(cache, record):
    return cache.get(record.token, model=record.model, label=record.label)


def state_of(root: Path) -> dict[str, tuple[bytes, int]]:
    """All files below a directory: content and number of links."""
    return {
        path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_nlink)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def outside(tmp_path, make_tree, make_record):
    """A cache of somebody else, with an entry of the same name and token, and a broken one."""
    cache = DiskCache(tmp_path / "outside")
    cache.put(make_tree(7), make_record())
    path = Path(cache.put(make_tree(8), make_record("broken")).path)
    path.write_text("torn" * 100)
    (path.parent / ".cloudposterior-writing-1").write_text("half")
    os.utime(path.parent / ".cloudposterior-writing-1", (0, 0))
    return cache


def everything(cache, make_tree, make_record):
    """Do all that can be done with a cache, whatever comes of it."""
    for seed in ("a", "broken"):
        for act in (
            lambda record: get(cache, record),
            lambda record: cache.put(make_tree(), record),
            lambda record: get(cache, record),
            lambda record: cache.discard(record.token, model=record.model, label=record.label),
            lambda record: cache.prune(keep=0),
            lambda record: cache.clear(),
            lambda record: cache.verify(),
        ):
            with contextlib.suppress(OSError):
                act(make_record(seed))


@pytest.mark.filterwarnings("ignore::cloudposterior.errors.CacheWarning")
@pytest.mark.parametrize("target", ["directory", "file", "broken", "dangling"])
def test_nothing_outside_is_touched(target, cache, outside, make_tree, make_record):
    before = state_of(outside.root)
    there = outside.root / "radon"
    if target == "directory":
        cache.root.mkdir()
        (cache.root / "radon").symlink_to(there, target_is_directory=True)
    else:
        (cache.root / "radon").mkdir(parents=True)
        for seed in ("a", "broken"):
            name = f"{LABEL}-{make_record(seed).token[:8]}.nc"
            where = {"file": there / name, "broken": there / name, "dangling": there / "new.nc"}
            (cache.root / "radon" / name).symlink_to(where[target])
    everything(cache, make_tree, make_record)
    assert state_of(outside.root) == before


def test_linked_directory_is_a_warned_miss_and_no_place_to_write(
    cache, outside, make_tree, make_record
):
    cache.root.mkdir()
    (cache.root / "radon").symlink_to(outside.root / "radon", target_is_directory=True)
    with pytest.warns(CacheWarning, match="symbolic link, which is not followed"):
        assert get(cache, make_record()) is None
    with pytest.raises(OSError, match="symbolic link"):
        cache.put(make_tree(), make_record())
    assert cache.entries() == []


def test_linked_file_is_moved_aside_as_a_link(cache, outside, make_tree, make_record, assert_same):
    path = Path(cache.put(make_tree(), make_record()).path)
    path.unlink()
    path.symlink_to(outside.entries()[0].path)
    with pytest.warns(CacheWarning, match="symbolic link; it was moved aside"):
        assert get(cache, make_record()) is None
    (aside,) = path.parent.iterdir()
    assert aside.is_symlink()
    assert cache.put(make_tree(1), make_record()).path == path
    assert_same(get(cache, make_record())[0], make_tree(1))
    assert_same(get(outside, make_record())[0], make_tree(7))


def test_root_itself_may_be_a_link(tmp_path, make_tree, make_record, assert_same):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far", target_is_directory=True)
    cache = DiskCache(tmp_path / "near")
    cache.put(make_tree(), make_record())
    assert_same(get(cache, make_record())[0], make_tree())
    assert len(cache.clear()) == 1


def swap_for_a_link(directory: Path, target: Path) -> None:
    """Put a link to elsewhere in the place of a directory that is in use."""
    directory.rename(directory.with_name("moved"))
    directory.symlink_to(target, target_is_directory=True)


@pytest.mark.parametrize("step", ["write_netcdf", "append_seal"])
def test_directory_swapped_while_written_leads_nowhere(
    step, cache, outside, make_tree, make_record, monkeypatch
):
    cache.put(make_tree(0), make_record())
    before = state_of(outside.root)
    real = getattr(files, step)

    def swap(*arguments, **options):
        swap_for_a_link(cache.root / "radon", outside.root / "radon")
        return real(*arguments, **options)

    monkeypatch.setattr(files, step, swap)
    with contextlib.suppress(OSError):
        cache.put(make_tree(1), make_record())
    assert state_of(outside.root) == before


@pytest.mark.filterwarnings("ignore::cloudposterior.errors.CacheWarning")
@pytest.mark.parametrize("act", ["get", "discard", "clear"])
@pytest.mark.parametrize("broken", [False, True])
def test_directory_swapped_between_look_and_deed_leads_nowhere(
    act, broken, cache, outside, make_tree, make_record, monkeypatch
):
    path = Path(cache.put(make_tree(0), make_record()).path)
    if broken:
        path.write_text("torn" * 100)
    before = state_of(outside.root)
    real = local.read_seal if act != "get" else files.read_seal

    def swap(file):
        found = None
        try:
            found = real(file)
        finally:
            if not (cache.root / "radon").is_symlink():
                swap_for_a_link(cache.root / "radon", outside.root / "radon")
        return found

    monkeypatch.setattr(local, "read_seal", swap)
    monkeypatch.setattr(files, "read_seal", swap)
    record = make_record()
    with contextlib.suppress(OSError):
        if act == "get":
            get(cache, record)
        elif act == "discard":
            cache.discard(record.token, model=record.model, label=record.label)
        else:
            cache.clear()
    assert (cache.root / "radon").is_symlink(), "nothing was swapped"
    assert state_of(outside.root) == before


@pytest.mark.filterwarnings("ignore::cloudposterior.errors.CacheWarning")
@pytest.mark.parametrize(
    ("step", "act"),
    [("open", "get"), ("open", "discard"), ("rename", "get"), ("rename", "put"),
     ("remove", "discard"), ("remove", "clear"), ("create", "put"), ("names", "clear")],
)  # fmt: skip
def test_directory_swapped_at_the_last_moment_leads_nowhere(
    step, act, cache, outside, make_tree, make_record, assert_same, monkeypatch
):
    """After the directory was opened, and before the name in it is used."""
    path = Path(cache.put(make_tree(0), make_record()).path)
    if (step, act) == ("rename", "get"):
        path.write_text("torn" * 100)
    before = state_of(outside.root)
    real = getattr(folder.Folder, step)

    def swap(folder, *names):
        if folder.path.name == "radon" and not (cache.root / "radon").is_symlink():
            swap_for_a_link(cache.root / "radon", outside.root / "radon")
        return real(folder, *names)

    monkeypatch.setattr(folder.Folder, step, swap)
    record = make_record()
    names = {"model": record.model, "label": record.label}
    acts = {
        "get": lambda: cache.get(record.token, **names),
        "put": lambda: cache.put(make_tree(1), record),
        "discard": lambda: cache.discard(record.token, **names),
        "clear": cache.clear,
    }
    found = None
    with contextlib.suppress(OSError):
        found = acts[act]()
    assert (cache.root / "radon").is_symlink(), "nothing was swapped"
    assert state_of(outside.root) == before
    if (step, act) == ("open", "get"):
        assert_same(found[0], make_tree(0))


def test_file_swapped_for_a_link_after_it_was_looked_at_is_not_read(
    cache, outside, make_tree, make_record, monkeypatch
):
    path = Path(cache.put(make_tree(0), make_record()).path)
    target = outside.entries()[0].path
    check = folder._check_regular

    def swap(status):
        check(status)
        if not path.is_symlink():
            path.unlink()
            path.symlink_to(target)

    monkeypatch.setattr(folder, "_check_regular", swap)
    with pytest.warns(CacheWarning, match="symbolic link; it was moved aside"):
        assert get(cache, make_record()) is None


def test_directory_swapped_for_a_link_after_it_was_looked_at_is_not_opened(
    cache, outside, make_tree, make_record, monkeypatch
):
    cache.put(make_tree(0), make_record())
    before = state_of(outside.root)
    look = folder._is_link

    def swap(status):
        found = look(status)
        if not (cache.root / "radon").is_symlink():
            swap_for_a_link(cache.root / "radon", outside.root / "radon")
        return found

    monkeypatch.setattr(folder, "_is_link", swap)
    assert get(cache, make_record()) is None
    with pytest.raises(OSError):
        cache.put(make_tree(1), make_record())
    assert state_of(outside.root) == before


def test_partial_file_swapped_for_a_link_leads_nowhere(
    cache, outside, make_tree, make_record, monkeypatch
):
    before = state_of(outside.root)
    (precious,) = outside.root.glob("radon/*-*.nc") and [outside.entries()[0].path]
    seal = files.append_seal

    def swap(file, text):
        (partial,) = cache.root.glob("radon/.cloudposterior-writing-*")
        partial.unlink()
        partial.symlink_to(precious)
        return seal(file, text)

    monkeypatch.setattr(files, "append_seal", swap)
    with pytest.raises(OSError, match="replaced while it was written"):
        cache.put(make_tree(1), make_record("b"))
    assert state_of(outside.root) == before
    assert list((cache.root / "radon").iterdir()) == []


def test_partial_file_is_not_written_through_a_link_that_waits(
    cache, tmp_path, make_tree, make_record, monkeypatch
):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    name = ".cloudposterior-writing-known"
    (cache.root / "radon").mkdir(parents=True)
    (cache.root / "radon" / name).symlink_to(victim)
    monkeypatch.setattr(local, "partial_name", lambda: name)
    with pytest.raises(FileExistsError):
        cache.put(make_tree(), make_record())
    assert victim.read_text() == "mine"


def test_good_file_that_comes_in_the_place_of_a_broken_one_is_put_back(
    cache, make_tree, make_record, assert_same, monkeypatch
):
    path = Path(cache.put(make_tree(), make_record()).path)
    whole = path.read_bytes()
    path.write_text("torn" * 100)
    rename = folder.Folder.rename

    def write_before(opened, old, new):
        if ".aside-" in new:
            monkeypatch.setattr(folder.Folder, "rename", rename)
            (path.parent / "other").write_bytes(whole)
            os.replace(path.parent / "other", path)
        rename(opened, old, new)

    monkeypatch.setattr(folder.Folder, "rename", write_before)
    assert_same(get(cache, make_record())[0], make_tree())
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("act", ["get", "put", "entries"])
def test_good_file_that_goes_and_comes_back_is_not_taken_for_the_broken_one_between(
    act, cache, make_tree, make_record, assert_same, monkeypatch
):
    """As where another process moves it aside in error, and puts it back."""
    path = Path(cache.put(make_tree(), make_record()).path)
    away = path.with_name("away")
    real = folder.Folder.open

    @contextlib.contextmanager
    def opened_between(opened, name):
        monkeypatch.setattr(folder.Folder, "open", real)
        os.rename(path, away)
        path.write_text("torn" * 100)
        with real(opened, name) as file:
            os.replace(away, path)
            yield file

    monkeypatch.setattr(folder.Folder, "open", opened_between)
    if act == "get":
        assert_same(get(cache, make_record())[0], make_tree())
    elif act == "put":
        cache.put(make_tree(), make_record())
    else:
        assert len(cache.entries()) == 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_without_lookups_in_open_directories_links_are_refused_too(
    cache, outside, make_tree, make_record, assert_same, monkeypatch
):
    """As on Windows, whose paths are whole ones."""
    monkeypatch.setattr(folder, "_HAS_LOOKUPS", False)
    before = state_of(outside.root)
    cache.put(make_tree(), make_record())
    assert_same(get(cache, make_record())[0], make_tree())
    assert len(cache.entries()) == 1 and cache.verify() == []
    shutil.move(cache.root / "radon", cache.root / "moved")
    (cache.root / "radon").symlink_to(outside.root / "radon", target_is_directory=True)
    with pytest.warns(CacheWarning, match="symbolic link"):
        assert get(cache, make_record()) is None
    with pytest.raises(OSError, match="symbolic link"):
        cache.put(make_tree(), make_record())
    assert len(cache.clear()) == 1 and cache.entries() == []
    assert state_of(outside.root) == before
