"""Listing, checking and tidying: only what is ours, only inside, only when asked."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from cloudposterior.cache import DiskCache, upkeep
from cloudposterior.errors import CacheFileError

pytestmark = pytest.mark.once

NO_LIMIT = {"older_than": None, "max_size_bytes": None, "keep": None}


@pytest.fixture
def filled(cache, make_tree, make_record):
    """A cache of four entries, made 40, 30, 20 and 10 days ago; and those, the oldest first."""
    made = []
    for number, days in enumerate([40, 30, 20, 10]):
        created = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        record = make_record(str(number), created=created, model=f"model{number % 2}")
        made.append(cache.put(make_tree(number), record))
    return cache, made


def test_entries_are_listed_by_date(filled):
    cache, made = filled
    assert cache.entries() == made


@pytest.fixture
def read(monkeypatch):
    """The entries that are read, in order."""
    seen, as_entry = [], upkeep.as_entry

    def count(path, seal):
        seen.append(as_entry(path, seal))
        return seen[-1]

    monkeypatch.setattr(upkeep, "as_entry", count)
    return seen


def put_at(cache, tree, record, day):
    """Put a result, as if it were done at noon of a day of January."""
    entry = cache.put(tree, record)
    noon = datetime(2026, 1, day, 12, tzinfo=UTC).timestamp()
    os.utime(entry.path, (noon, noon))
    return entry


def near(cache, record):
    return cache.near(record.token, model=record.model, label=record.label)


def test_near_gives_the_entry_itself_and_then_the_newest_files(cache, make_tree, make_record):
    made = [put_at(cache, make_tree(n), make_record(str(n)), day=1 + n) for n in range(4)]
    own, others = near(cache, make_record("1"))
    assert list(own) == [made[1], made[3], made[2], made[0]]
    assert list(others) == []
    own, _ = near(cache, make_record("none of them"))
    assert list(own) == made[::-1]


def test_near_reads_what_is_asked_for_and_nothing_of_other_models(
    cache, read, make_tree, make_record
):
    made = [put_at(cache, make_tree(), make_record(str(n)), day=1 + n) for n in range(5)]
    for number in range(20):
        cache.put(make_tree(), make_record(f"other {number}", model=f"other{number}"))
    read.clear()
    own, _ = near(cache, make_record("new"))
    assert read == []
    assert [next(own), next(own)] == made[:2:-1] == read
    assert list(own) == made[2::-1]
    assert read == made[::-1]


def test_near_is_bounded_in_a_directory_of_thousands(
    cache, read, make_tree, make_record, monkeypatch
):
    monkeypatch.setattr(upkeep, "_MOST_OWN", 3)
    monkeypatch.setattr(upkeep, "_MOST_OF_OTHERS", 2)
    for model in ("radon", "radon-b"):
        for number in range(6):
            record = make_record(f"{model}{number}", model=model)
            put_at(cache, make_tree(), record, day=1 + number)
    read.clear()
    own, others = near(cache, make_record("radon0"))
    tokens = [make_record(f"radon{number}").token for number in (0, 5, 4)]
    assert [entry.record.token for entry in own] == tokens
    assert len(read) == 3
    assert [entry.record.model for entry in others] == ["radon-b"] * 2
    assert len(read) == 5


def test_near_looks_at_the_models_whose_names_have_most_in_common(
    cache, read, make_tree, make_record
):
    for model in ("a-b", "a-b-c-d", "d-e", "f", "a-c", "Intercept-x", "k", "l", "m"):
        cache.put(make_tree(), make_record(model, model=model))
    read.clear()
    own, others = near(cache, make_record("new", model="a-b-c"))
    assert list(own) == []
    assert [entry.record.model for entry in others][:3] == ["a-b", "a-b-c-d", "a-c"]
    assert len(read) == 5


def test_near_leaves_out_broken_files_and_what_is_no_directory(cache, make_tree, make_record):
    own, others = near(cache, make_record())
    assert list(own) == list(others) == []  # nothing was ever kept there
    entry = cache.put(make_tree(), make_record())
    (cache.root / "radon" / "torn.nc").write_bytes(b"no netCDF")
    (cache.root / "radon-b").write_text("no directory")
    own, others = near(cache, make_record("new"))
    assert list(own) == [entry] and list(others) == []


def test_prune_without_a_limit_removes_nothing(filled):
    cache, made = filled
    assert cache.prune(**NO_LIMIT) == []
    assert cache.entries() == made


@pytest.mark.parametrize(
    ("limits", "removed"),
    [
        ({"older_than": timedelta(days=25)}, 2),
        ({"older_than": timedelta(days=50)}, 0),
        ({"older_than": timedelta(0)}, 4),
        ({"keep": 1}, 3),
        ({"keep": 0}, 4),
        ({"keep": 9}, 0),
        ({"max_size_bytes": 0}, 4),
        ({"max_size_bytes": 10**9}, 0),
        ({"older_than": timedelta(days=35), "keep": 2}, 2),
    ],
)
def test_prune_removes_the_oldest(limits, removed, filled):
    cache, made = filled
    assert cache.prune(**{**NO_LIMIT, **limits}, dry_run=True) == made[:removed]
    assert cache.entries() == made
    assert cache.prune(**{**NO_LIMIT, **limits}) == made[:removed]
    assert cache.entries() == made[removed:]


def test_prune_by_size_stops_as_soon_as_it_fits(filled):
    cache, made = filled
    limit = made[2].size_bytes + made[3].size_bytes
    assert cache.prune(**{**NO_LIMIT, "max_size_bytes": limit}) == made[:2]


@pytest.mark.parametrize("limits", [{"keep": -1}, {"max_size_bytes": -1}])
def test_prune_refuses_a_negative_limit(limits, filled):
    cache, made = filled
    with pytest.raises(ValueError, match="negative"):
        cache.prune(**{**NO_LIMIT, **limits})
    assert cache.entries() == made


def test_clear_removes_entries_and_nothing_else(filled):
    cache, made = filled
    directory = made[0].path.parent
    foreign = {
        "notes.txt": "mine", "other.nc": "mine", "torn.nc": "mine" * 100, ".hidden": "mine",
        "x.aside-20260101T000000Z-0a1b2c3d": "mine",
    }  # fmt: skip
    for name, text in foreign.items():
        (directory / name).write_text(text)
    (cache.root / "top.nc").write_bytes(made[0].path.read_bytes())
    nested = directory / "deeper" / "still"
    nested.mkdir(parents=True)
    (nested / "x.nc").write_bytes(made[0].path.read_bytes())
    assert cache.clear(dry_run=True) == made == cache.entries()
    assert cache.clear() == made
    assert cache.entries() == []
    assert {path.name for path in directory.iterdir() if path.is_file()} == set(foreign)
    assert (cache.root / "top.nc").exists() and (nested / "x.nc").exists()


def test_clear_follows_no_link_out_of_the_directory(filled, tmp_path, make_tree, make_record):
    cache, made = filled
    outside = DiskCache(tmp_path / "outside")
    precious = outside.put(make_tree(), make_record("precious"))
    (cache.root / "linked_model").symlink_to(precious.path.parent, target_is_directory=True)
    link = made[0].path.with_name(precious.path.name)
    link.symlink_to(precious.path)
    old = tmp_path / "outside" / ".cloudposterior-writing-1"
    old.write_text("mine")
    os.utime(old, (0, 0))
    (cache.root / "linked_root").symlink_to(tmp_path / "outside", target_is_directory=True)
    assert cache.entries() == made
    assert cache.verify() == []
    assert cache.prune(**{**NO_LIMIT, "keep": 0}) == made
    assert cache.clear() == []
    assert precious.path.exists() and old.exists() and link.is_symlink()


def test_only_stray_partial_files_older_than_a_day_are_removed(filled):
    cache, made = filled
    directory = made[0].path.parent
    old, new = (directory / f".cloudposterior-writing-{name}" for name in ("old", "new"))
    for path in (old, new):
        path.write_text("half")
    two_days_ago = time.time() - 2 * 86_400
    os.utime(old, (two_days_ago, two_days_ago))
    cache.prune(**NO_LIMIT, dry_run=True)
    assert old.exists()
    cache.prune(**NO_LIMIT)
    assert new.exists() and not old.exists()
    assert cache.entries() == made and cache.verify() == []


def test_entry_replaced_since_it_was_listed_is_not_removed(filled, monkeypatch):
    cache, made = filled
    listed = cache.entries()
    os.replace(made[1].path, made[3].path)  # both of one model: another entry in its place
    monkeypatch.setattr(cache, "entries", lambda: listed)
    assert cache.clear() == [made[0], made[2]]
    assert made[3].path.exists()


def test_verify_names_what_is_wrong(filled):
    cache, made = filled
    raw = bytearray(made[0].path.read_bytes())
    raw[4000] ^= 1
    made[0].path.write_bytes(raw)
    made[1].path.write_text("text")
    assert cache.entries() == [made[0], *made[2:]]  # a listing reads no draws
    found = dict(cache.verify())
    assert set(found) == {made[0].path, made[1].path}
    assert "checksum" in found[made[0].path]
    assert made[0].path.exists() and made[1].path.exists()


def test_show_finds_by_path_and_by_parts_of_it(filled, monkeypatch):
    cache, made = filled
    entry = made[2]
    relative = entry.path.relative_to(cache.root)
    monkeypatch.chdir(cache.root)
    for name in [
        entry.path, str(entry.path), relative, str(relative), str(relative)[:-3], entry.path.name,
        entry.path.stem, entry.record.token, entry.record.token[:12],
    ]:  # fmt: skip
        assert cache.show(name).record == entry.record, name


@pytest.mark.parametrize("name", ["nothing", "", "a\0b", "x" * 5000, "../../none", "/"])
def test_show_says_that_there_is_none(name, filled):
    with pytest.raises(FileNotFoundError, match="no entry"):
        filled[0].show(name)


def test_show_says_that_there_are_several(filled):
    cache, made = filled
    with pytest.raises(ValueError, match="2 entries") as caught:
        cache.show("model0")
    assert str(made[0].path) in str(caught.value) and str(made[2].path) in str(caught.value)


def test_show_says_what_is_wrong_with_a_broken_file(filled):
    cache, made = filled
    made[0].path.write_text("x" * 500)
    with pytest.raises(CacheFileError, match="foreign"):
        cache.show(made[0].path)


def test_empty_directory(tmp_path):
    cache = DiskCache(tmp_path / "none")
    assert cache.entries() == [] and cache.verify() == [] and cache.clear() == []
    assert cache.prune(**{**NO_LIMIT, "keep": 0}) == []
    assert not cache.root.exists()
