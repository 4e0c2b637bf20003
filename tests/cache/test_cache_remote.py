"""A cache behind a URL keeps the promises of the cache on disk, as far as the store can."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import fsspec
import pytest
import s3fs

import cloudposterior as cp
from cloudposterior.cache import DiskCache, RemoteCache, files, remote, upkeep
from cloudposterior.cache.choice import choose_cache
from cloudposterior.cli import main
from cloudposterior.errors import CacheWarning
from tests.cache import crafting
from tests.cache.stores import SECRET, SharedFileSystem, s3_options, s3_server

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
LABEL = "draws1000_chains4"


@pytest.fixture(scope="session")
def s3():
    with s3_server() as (url, _):
        yield url


@dataclass
class Place:
    """A URL with nothing below it, and a way of looking there without the cache."""

    url: str
    options: dict[str, Any]

    def open(self) -> RemoteCache:
        return RemoteCache(self.url, **self.options)

    @property
    def fs(self) -> Any:
        """A file system of its own: another machine's."""
        protocol = self.url.partition("://")[0]
        fs = fsspec.filesystem(protocol, **self.options, skip_instance_cache=True)
        fs.invalidate_cache()
        return fs

    def path(self, name: str) -> str:
        return f"{self.fs._strip_protocol(self.url)}/{name}"

    def names(self) -> set[str]:
        root = self.fs._strip_protocol(self.url)
        return {name.removeprefix(root + "/") for name in self.fs.find(root)}

    def read(self, name: str) -> bytes:
        return self.fs.cat_file(self.path(name))

    def write(self, name: str, raw: bytes) -> None:
        fs, path = self.fs, self.path(name)
        if not self.url.startswith("s3"):
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, raw)


@pytest.fixture(params=["memory", "shared", "s3"])
def place(request, tmp_path):
    number = zlib.crc32(request.node.nodeid.encode())
    if request.param == "memory":
        yield Place(f"memory://cache{number}", {})
        fsspec.filesystem("memory").store.clear()
    elif request.param == "shared":
        yield Place(f"shared://{tmp_path}/cache", {})
        SharedFileSystem.failing.clear()
    else:
        options = s3_options(request.getfixturevalue("s3"))
        place = Place(f"s3://bucket{number}/a team's prefix [1]", options)
        place.fs.mkdir(f"bucket{number}")
        yield place


@pytest.fixture
def remote_cache(place):
    return place.open()


def get(cache, record):
    return cache.get(record.token, model=record.model, label=record.label)


def name_of(record, directory: str = "radon") -> str:
    return f"{directory}/{LABEL}-{record.token[:8]}.nc"


def test_remote_gives_back_what_was_put(
    place, remote_cache, cache, make_tree, make_record, assert_same
):
    record = make_record()
    assert get(remote_cache, record) is None and remote_cache.entries() == []
    entry = remote_cache.put(make_tree(), record)
    assert entry.path == f"{place.url}/{name_of(record)}" and entry.record == record
    assert place.names() == {name_of(record)}
    tree, found = get(remote_cache, record)
    assert_same(tree, make_tree())
    assert [found] == [entry] == remote_cache.entries() == place.open().entries()
    assert remote_cache.verify() == []
    # the file is that of a directory, to the byte
    path = Path(cache.put(make_tree(), record).path)
    path.write_bytes(place.read(name_of(record)))
    assert_same(get(cache, record)[0], make_tree())


def test_remote_replaces_an_entry_with_the_same_token(
    place, remote_cache, make_tree, make_record, assert_same
):
    remote_cache.put(make_tree(0), make_record())
    remote_cache.put(make_tree(1), make_record(elapsed_s=1.0))
    tree, entry = get(remote_cache, make_record())
    assert_same(tree, make_tree(1))
    assert entry.record.elapsed_s == 1.0
    assert place.names() == {name_of(make_record())}


def test_remote_entries_whose_tokens_begin_alike_live_side_by_side(
    remote_cache, make_tree, make_record, assert_same
):
    tokens = ["0" * 32, "0" * 8 + "1" * 24, "0" * 16 + "1" * 16]
    for seed, token in enumerate(tokens):
        remote_cache.put(make_tree(seed), make_record(token=token))
    for seed, token in enumerate(tokens):
        assert_same(get(remote_cache, make_record(token=token))[0], make_tree(seed))
    assert remote_cache.verify() == []


def test_remote_hostile_model_names_stay_below_the_url(place, remote_cache, make_tree, make_record):
    for model in ["../../x", "/etc", "..", "a/b", "s3://other/x", "a*[b]?", ""]:
        record = make_record(model=model, label=model)
        entry = remote_cache.put(make_tree(), record)
        (name,) = place.names()
        assert entry.path == f"{place.url}/{name}" and name.count("/") == 1
        assert get(remote_cache, record)[1] == entry
        assert remote_cache.clear() == [entry] and place.names() == set()


def test_remote_upkeep(place, remote_cache, make_tree, make_record):
    made = []
    for number, days in enumerate([40, 30, 20, 10]):
        created = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        record = make_record(str(number), created=created, model=f"model{number % 2}")
        made.append(remote_cache.put(make_tree(number), record))
    for name in ("model0/notes.txt", "model0/other.nc", "top.nc", "model0/deep/er/x.nc"):
        place.write(name, b"mine" * 100)
    foreign = place.names() - {e.path.removeprefix(f"{place.url}/") for e in made}
    assert remote_cache.entries() == made
    assert [path for path, _ in remote_cache.verify()] == [f"{place.url}/model0/other.nc"]
    relative = made[2].path.removeprefix(f"{place.url}/")
    for text in (made[2].path, relative, relative[:-3], made[2].record.token[:12]):
        assert remote_cache.show(text) == made[2]
    with pytest.raises(FileNotFoundError, match="no entry 'none' in .*holds 4"):
        remote_cache.show("none")
    assert remote_cache.prune(keep=3, dry_run=True) == made[:1]
    assert remote_cache.prune(older_than=timedelta(days=25)) == made[:2]
    record = made[2].record
    assert remote_cache.discard(record.token, model=record.model, label=record.label)
    assert not remote_cache.discard(record.token, model=record.model, label=record.label)
    assert remote_cache.clear() == made[3:]
    assert place.names() == foreign


def test_remote_near_reads_what_is_near(place, remote_cache, make_tree, make_record, monkeypatch):
    made = [remote_cache.put(make_tree(n), make_record(str(n))) for n in range(3)]
    for model in ("radon-b", "other", "of another kind", "a", "b", "c"):
        remote_cache.put(make_tree(), make_record(model, model=model))
    place.write("radon/deep/er/x.nc", b"mine" * 100)
    read = []
    parts = remote.RemoteStore._parts

    def count(store, items, starts):
        read.extend(f"{item.directory}/{item.name}" for item in items)
        return parts(store, items, starts)

    monkeypatch.setattr(remote.RemoteStore, "_parts", count)
    record = make_record("0")
    own, others = remote_cache.near(record.token, model=record.model, label=record.label)
    assert read == []
    listed = list(own)
    assert listed[0] == made[0] and sorted(listed, key=str) == sorted(made, key=str)
    assert {name.partition("/")[0] for name in read} == {"radon"}
    assert next(others).record.model == "radon-b"
    assert len({entry.record.model for entry in others}) == 4
    # an empty place, and one that was never made
    empty = RemoteCache(f"{place.url}/none", **place.options)
    own, others = empty.near(record.token, model=record.model, label=record.label)
    assert list(own) == list(others) == []


def test_remote_near_gives_the_newest_first(place, remote_cache, make_tree, make_record):
    made = []
    for number in range(3):
        made.append(remote_cache.put(make_tree(number), make_record(str(number))))
        time.sleep(1.1)  # S3 has whole seconds
    record = make_record("new")
    own, _ = remote_cache.near(record.token, model=record.model, label=record.label)
    assert list(own) == made[::-1]


def test_remote_listing_reads_ends_only(place, remote_cache, make_tree, make_record, monkeypatch):
    small = [remote_cache.put(make_tree(n), make_record(str(n))) for n in range(3)]
    manifest = {f"component_{number}": "0a" * 50 for number in range(5000)}
    large = remote_cache.put(make_tree(9, draws=2000), make_record("large", manifest=manifest))
    monkeypatch.setattr(remote.RemoteStore, "open", lambda *_: 1 / 0)
    read = []
    parts = remote.RemoteStore._parts

    def count(store, items, starts):
        read.append([item.size_bytes - start for item, start in zip(items, starts, strict=True)])
        return parts(store, items, starts)

    monkeypatch.setattr(remote.RemoteStore, "_parts", count)
    assert sorted(remote_cache.entries(), key=str) == sorted([*small, large], key=str)
    assert [len(sizes) for sizes in read] == [4, 1]  # the long description in a second request
    assert max(read[0]) <= 1 << 16
    assert sum(map(sum, read)) < sum(entry.size_bytes for entry in [*small, large])


@pytest.mark.parametrize("damage", ["torn", "foreign", "empty", "crafted"])
def test_remote_broken_object_is_a_warned_miss_and_moved_aside(
    damage, place, remote_cache, tmp_path, make_tree, make_record, assert_same
):
    record = make_record()
    remote_cache.put(make_tree(), record)
    whole = place.read(name_of(record))
    raw = {"torn": whole[: len(whole) // 2], "foreign": b"mine" * 100, "empty": b""}.get(damage)
    if raw is None:
        path = tmp_path / "crafted.nc"
        path.write_bytes(whole)
        crafting.change(path, lambda told: crafting.variable(told, "mu").update(shape=[2**50]))
        raw = path.read_bytes()
    place.write(name_of(record), raw)
    with pytest.warns(CacheWarning, match="is not used: .*; it was moved aside to") as caught:
        assert get(remote_cache, record) is None
    assert len(caught) == 1
    (aside,) = place.names()
    assert aside.startswith(f"radon/{LABEL}-{record.token[:8]}.aside-")
    assert place.read(aside) == raw
    assert get(remote_cache, record) is None
    remote_cache.put(make_tree(1), record)
    assert_same(get(remote_cache, record)[0], make_tree(1))


def test_remote_object_replaced_while_it_is_read_is_read_anew(
    place, remote_cache, make_tree, make_record, assert_same, monkeypatch
):
    remote_cache.put(make_tree(), make_record())
    whole = place.read(name_of(make_record()))
    place.write(name_of(make_record()), whole[:-5])
    read = files.read_seal

    def write_elsewhere(file):
        monkeypatch.setattr(files, "read_seal", read)
        place.write(name_of(make_record()), whole)
        return read(file)

    monkeypatch.setattr(files, "read_seal", write_elsewhere)
    assert_same(get(remote_cache, make_record())[0], make_tree())
    assert place.names() == {name_of(make_record())}


@pytest.mark.parametrize("place", ["memory", "s3"], indirect=True)  # which copy and delete
def test_remote_object_replaced_while_it_is_moved_aside_stays(
    place, remote_cache, make_tree, make_record, assert_same, monkeypatch
):
    remote_cache.put(make_tree(), make_record())
    whole = place.read(name_of(make_record()))
    place.write(name_of(make_record()), whole[:-5])
    looks = []
    look = remote.RemoteStore._is_still

    def look_after_another_write(store, item):
        looks.append(item)
        if len(looks) == 2:  # between the copy and the deletion
            place.write(name_of(make_record()), whole)
        return look(store, item)

    monkeypatch.setattr(remote.RemoteStore, "_is_still", look_after_another_write)
    assert_same(get(remote_cache, make_record())[0], make_tree())
    assert place.names() == {name_of(make_record())}


def test_another_machines_entries_are_seen_at_once(place, make_tree, make_record):
    one, other = place.open(), place.open()
    one.put(make_tree(), make_record("b"))
    assert len(one.entries()) == 1 and get(one, make_record()) is None
    # whatever else this process does with the store, and fsspec remembers
    fsspec.filesystem(place.url.partition("://")[0], **place.options).ls(place.path("radon"))
    code = "import sys, pickle; cache, tree, record = pickle.load(sys.stdin.buffer); "
    if place.url.startswith("s3"):  # a process of its own has a listing of its own
        sent = pickle.dumps((other, make_tree(), make_record()))
        subprocess.run(
            [sys.executable, "-c", code + "cache.put(tree, record)"], input=sent, check=True
        )
    else:
        other.put(make_tree(), make_record())
    assert len(one.entries()) == 2 and get(one, make_record()) is not None
    place.fs.rm_file(place.path(name_of(make_record())))
    assert get(one, make_record()) is None and len(one.entries()) == 1


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_remote_cache_can_be_pickled(
    pickler, place, remote_cache, make_tree, make_record, assert_same
):
    remote_cache.put(make_tree(), make_record())
    copy = pickle.loads(pickler.dumps(remote_cache))
    assert repr(copy) == repr(remote_cache)
    assert_same(get(copy, make_record())[0], make_tree())


def test_threads_share_a_remote_cache(remote_cache, make_tree, make_record, assert_same):
    def work(seed):
        remote_cache.put(make_tree(seed), make_record(str(seed % 2)))
        return get(remote_cache, make_record(str(seed % 2)))[0]

    with ThreadPoolExecutor(4) as pool:
        for seed, got in enumerate(pool.map(work, range(8))):
            assert got["posterior"].attrs["seed"] % 2 == seed % 2
            assert_same(got, make_tree(got["posterior"].attrs["seed"]))


def test_remote_cache_serves_a_call(
    place, remote_cache, build, stub_runs, short, assert_same_draws
):
    first = cp.sample(build(), cache=remote_cache, **short)
    again = cp.sample(build(), cache=place.open(), **short)
    assert len(stub_runs) == 1
    assert_same_draws(first, again)
    assert len(place.names()) == 1


@pytest.mark.parametrize("what", ["file", "s3", "shared"])
def test_eight_processes_share_an_entry(what, request, tmp_path):
    options: dict[str, Any] = {}
    url = f"{what}://{tmp_path}/cache"
    if what == "s3":
        options = s3_options(request.getfixturevalue("s3"))
        url = "s3://eight/cache"
        fsspec.filesystem("s3", **options).mkdir("eight")
    done = subprocess.run(
        [sys.executable, "-m", "tests.cache.share_worker", url, json.dumps(options)],
        check=False, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    cache = RemoteCache(url, **options)
    assert cache.verify() == [] and len(cache.entries()) == 1
    if what != "s3":
        assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


# what goes wrong


@pytest.mark.parametrize("step", ["put_file", "mv"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("the line is dead")]
)
def test_failed_upload_leaves_the_old_entry_and_nothing_else(
    step, error, tmp_path, make_tree, make_record, assert_same, monkeypatch
):
    place = Place(f"shared://{tmp_path}/cache", {})
    cache = place.open()
    cache.put(make_tree(0), make_record())
    monkeypatch.setitem(SharedFileSystem.failing, step, error)
    with pytest.raises(OSError, match=error.args[-1]):
        cache.put(make_tree(1), make_record())
    SharedFileSystem.failing.clear()
    assert place.names() == {name_of(make_record())}
    assert_same(get(cache, make_record())[0], make_tree(0))


def test_scratch_space_that_is_full_is_an_error(remote_cache, make_tree, make_record, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_netcdf", full)
    with pytest.raises(OSError, match="No space"):
        remote_cache.put(make_tree(), make_record())
    assert remote_cache.entries() == []


def test_object_that_fits_on_no_disk_here_is_a_miss(
    place, remote_cache, make_tree, make_record, monkeypatch
):
    remote_cache.put(make_tree(), make_record())
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.warns(CacheWarning, match="10 are free"):
        assert get(remote_cache, make_record()) is None
    assert place.names() == {name_of(make_record())}


def test_scratch_files_are_removed(remote_cache, tmp_path, make_tree, make_record, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(remote.tempfile, "tempdir", str(scratch))
    remote_cache.put(make_tree(), make_record())
    assert get(remote_cache, make_record()) is not None
    assert remote_cache.verify() == []
    assert list(scratch.iterdir()) == []


DAY_S = 86_400


def test_strays_of_a_store_that_renames_are_removed_by_its_own_clock(
    tmp_path, make_tree, make_record, monkeypatch
):
    place = Place(f"shared://{tmp_path}/cache", {})
    cache = place.open()
    cache.put(make_tree(), make_record())
    for name, age_s in (("old", 2 * DAY_S), ("new", 0)):
        place.write(f"radon/.cloudposterior-writing-{name}", b"half")
        path = tmp_path / "cache" / "radon" / f".cloudposterior-writing-{name}"
        now = path.stat().st_mtime
        os.utime(path, (now - age_s, now - age_s))
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert cache.prune(dry_run=True) == [] and len(place.names()) == 3
    assert cache.prune() == []
    assert place.names() == {name_of(make_record()), "radon/.cloudposterior-writing-new"}


def test_no_bucket_is_said_before_and_after_the_run(s3, build, stub_runs, short):
    cache = RemoteCache("s3://nowhere/cache", **s3_options(s3))
    with pytest.warns(CacheWarning) as caught:
        result = cp.sample(build(), cache=cache, **short)
    told = [str(warning.message) for warning in caught]
    assert result["posterior"]["mu"].shape == (2, 20)
    assert "there is no bucket 'nowhere'" in told[0] and "not used" in told[0]
    assert "the posterior is returned, but could not be saved" in told[-1]
    with pytest.raises(OSError, match="no bucket 'nowhere'"):
        cache.entries()
    assert not fsspec.filesystem("s3", **s3_options(s3)).exists("nowhere")


def test_no_credentials_are_asked_for(s3, make_record, monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    options = {"client_kwargs": s3_options(s3)["client_kwargs"]}
    with pytest.warns(CacheWarning, match="NoCredentialsError.*give credentials"):
        assert get(RemoteCache("s3://bucket/cache", **options), make_record()) is None


def test_server_that_goes_down_in_mid_put_costs_no_posterior(build, stub_runs, short, monkeypatch):
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with s3_server() as (url, process):
        options = {**s3_options(url), "config_kwargs": {"retries": {"max_attempts": 0}}}
        fsspec.filesystem("s3", **options).mkdir("bucket")
        append = files.append_seal

        def go_down(file, text):
            process.kill()
            process.wait()
            return append(file, text)

        monkeypatch.setattr(files, "append_seal", go_down)
        with pytest.warns(CacheWarning, match="returned, but could not be saved.*onnect"):
            result = cp.sample(build(), cache=RemoteCache("s3://bucket/cache", **options), **short)
    assert result["posterior"]["mu"].shape == (2, 20)


def test_missing_package_is_named_before_anything_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ImportError, match="pip install s3fs"):
        choose_cache("s3://bucket/prefix", directory="unused")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s4://bucket/x", "fsspec knows no protocol 's4'"),
        ("s3://", "names no place"),
        ("s3:///", "names no place"),
        ("s3://bucket/../other", "must have neither"),
        ("s3://bucket/a\0b", "must have neither"),
        ("simplecache::s3://bucket/x", "chain of file systems"),
    ],
)
def test_url_that_is_no_place_is_refused(url, said):
    with pytest.raises(ValueError, match=said):
        choose_cache(url, directory="unused")


def test_choose_cache_takes_urls(tmp_path):
    assert isinstance(choose_cache("memory://team/x", directory="unused"), RemoteCache)
    local = choose_cache(f"file://{tmp_path}/a b", directory="unused")
    assert isinstance(local, DiskCache) and local.root == tmp_path / "a b"
    assert choose_cache("memory", directory="unused") is cp.cache.choice.MEMORY


# secrets


LEAKS = f"login of ann:{SECRET}@host failed, {SECRET}"


@pytest.mark.parametrize("step", ["info", "get_file", "put_file"])
def test_no_secret_is_shown(step, tmp_path, make_tree, make_record, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, logger="cloudposterior")
    url = f"shared://ann:{SECRET}@{tmp_path}/cache?token={SECRET}"
    cache = RemoteCache(f"shared://ann:{SECRET}@{tmp_path}/cache", password=SECRET)
    assert SECRET not in repr(cache) + cache.url + repr(RemoteCache(url))
    entry = cache.put(make_tree(), make_record())
    assert SECRET not in str(entry) and "***@" in entry.path
    assert cache.entries() == [entry] and cache.show(entry.path) == entry
    assert SECRET.encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*.nc"))
    monkeypatch.setitem(SharedFileSystem.failing, step, RuntimeError(LEAKS))
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        get(cache, make_record())
    said += [str(warning.message) for warning in caught]
    for act in (cache.verify, lambda: cache.put(make_tree(), make_record())):
        try:
            said.append(str(act()))
        except OSError as error:
            said += [str(error), repr(error), repr(error.__cause__)]
    SharedFileSystem.failing.clear()
    text = "\n".join([*said, caplog.text])
    assert "login of" in text and SECRET not in text and "ann:" not in text


# the command line


def test_command_line_takes_a_url(place, remote_cache, make_tree, make_record, capsys, monkeypatch):
    if place.options:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing-key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", place.options["client_kwargs"]["endpoint_url"])
    manifest = {"components": [], "options": {}, "versions": {}}
    made = [remote_cache.put(make_tree(n), make_record(str(n), manifest=manifest)) for n in (0, 1)]
    assert main(["cache", "list", "--dir", place.url]) == 0
    assert "2 entries" in capsys.readouterr().out
    token = made[0].record.token
    assert main(["cache", "show", token, "--dir", place.url]) == 0
    assert made[0].path in capsys.readouterr().out
    other = made[1].record.token
    assert main(["cache", "diff", token, other, "--dir", place.url]) == 0
    assert main(["cache", "verify", "--dir", place.url]) == 0
    with cp.config.dask.config.set({"cloudposterior.cache": place.url}):
        assert main(["cache", "prune", "--keep", "1"]) == 0
    assert len(remote_cache.entries()) == 1
    assert main(["cache", "clear", "--dir", place.url]) == 0
    assert place.names() == set()


def test_command_line_shows_no_secret(capsys, tmp_path):
    url = f"shared://ann:{SECRET}@{tmp_path}/cache"
    assert main(["cache", "list", "--dir", url]) == 0
    assert main(["cache", "list", "--dir", f"s4://ann:{SECRET}@host/x"]) == 1
    told = capsys.readouterr()
    assert "no entries in shared://***@" in told.out and "s4://***@host/x" in told.err
    assert SECRET not in told.out + told.err


def test_upkeep_is_one_code_for_all_stores():
    source = Path(upkeep.__file__).read_text()
    assert "fsspec" not in source and "os." not in source.replace("datetime", "")
