"""Where the machine fails: at every step of a writing, with real limits, and in mid-run."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import cloudposterior as cp
from cloudposterior.cache import DiskCache, files, folder, local, netcdf, sink
from cloudposterior.errors import CacheWarning

pytestmark = pytest.mark.once

WORKER = Path(__file__).with_name("fault_worker.py")


def get(cache, record):
    return cache.get(record.token, model=record.model, label=record.label)


def files_in(root: Path) -> set[str]:
    return {path.name for path in root.rglob("*") if path.is_file()}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], check=False, capture_output=True, text=True)


@pytest.mark.skipif(os.name == "nt", reason="steps of POSIX systems")
def test_put_survives_a_failure_of_every_step(tmp_path):
    done = run(str(WORKER), str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (0, "")
    steps = ast.literal_eval(done.stdout)
    assert steps["write"] > 20, steps
    expected = {"write", "create", "close", "fsync", "replace", "mkdir", "makedirs", "fstat"}
    assert expected <= steps.keys()


LIMITED_FILES = """
import resource, sys, warnings
sys.path.insert(0, sys.argv[2])
from fault_worker import RECORD, read, tree
from cloudposterior.cache import DiskCache

warnings.simplefilter("error")
cache, refused = DiskCache(sys.argv[1]), 0
size = cache.put(tree(0), RECORD).size_bytes
value, step = 0, max(1, size // 30)
for limit in [0, 1, *range(step, size + 2 * step, step)]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        cache.put(tree(value + 1), RECORD)
        value += 1
    except OSError as error:
        assert error.errno == 27, error
        refused += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert read(cache) == value
    assert len(list(cache.root.rglob("*.nc"))) == 1 and not list(cache.root.rglob(".*"))
assert value > 0 and refused > 25, (value, refused)
"""


@pytest.mark.skipif(os.name == "nt", reason="a limit of POSIX systems")
def test_put_survives_a_limit_of_any_size(tmp_path):
    done = run("-c", LIMITED_FILES, str(tmp_path / "cache"), str(WORKER.parent))
    assert (done.returncode, done.stderr) == (0, "")


def test_full_disk_costs_no_posterior(small_disk, build, stub_runs, short):
    (small_disk / "filler").write_bytes(bytes(290_000))
    with pytest.warns(CacheWarning, match="returned, but could not be saved.*No space"):
        result = cp.sample(build(), cache=small_disk / "cache", **short)
    assert result["posterior"]["mu"].shape == (2, 20)
    assert files_in(small_disk) == {"filler"}


@pytest.mark.parametrize("failing", ["fsync", "replace", "mkdir"])
def test_failing_system_costs_no_posterior(failing, tmp_path, build, stub_runs, short, monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(local.os, failing, fail)
    with pytest.warns(CacheWarning, match="returned, but could not be saved.*Input/output"):
        result = cp.sample(build(), cache=tmp_path / "cache", **short)
    monkeypatch.undo()
    assert result["posterior"]["mu"].shape == (2, 20)
    assert files_in(tmp_path) == set()


def test_read_only_directory_costs_no_posterior(read_only_disk, build, stub_runs, short):
    subprocess.run(["mount", "-o", "remount,ro", str(read_only_disk)], check=True)
    with pytest.warns(CacheWarning, match="could not be saved.*[Rr]ead-only"):
        result = cp.sample(build(), cache=read_only_disk / "cache", **short)
    assert result["posterior"]["mu"].shape == (2, 20)


@pytest.mark.parametrize("what", ["model", "root"])
@pytest.mark.parametrize("step", ["write_netcdf", "append_seal"])
def test_directory_removed_in_mid_put_is_made_again(
    what, step, cache, make_tree, make_record, assert_same, monkeypatch
):
    real = getattr(files, step)

    def remove(*arguments, **options):
        monkeypatch.setattr(files, step, real)
        shutil.rmtree(cache.root / "radon" if what == "model" else cache.root)
        return real(*arguments, **options)

    monkeypatch.setattr(files, step, remove)
    path = cache.put(make_tree(), make_record()).path
    assert_same(get(cache, make_record())[0], make_tree())
    assert files_in(cache.root) == {path.name}


def test_directory_that_is_removed_again_and_again_is_an_error(
    cache, make_tree, make_record, monkeypatch
):
    real = files.append_seal

    def remove(*arguments, **options):
        shutil.rmtree(cache.root)
        return real(*arguments, **options)

    monkeypatch.setattr(files, "append_seal", remove)
    with pytest.raises(FileNotFoundError):
        cache.put(make_tree(), make_record())


def test_directory_removed_between_put_and_get_is_a_miss(cache, make_tree, make_record):
    cache.put(make_tree(), make_record())
    shutil.rmtree(cache.root)
    assert get(cache, make_record()) is None
    assert cache.entries() == [] and cache.verify() == [] and cache.clear() == []
    cache.put(make_tree(), make_record())
    assert get(cache, make_record()) is not None


def test_partial_file_that_cannot_be_removed_hides_no_error(
    cache, make_tree, make_record, monkeypatch
):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(folder.Folder, "remove", fail)
    monkeypatch.setattr(files, "append_seal", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.put(make_tree(), make_record())


def test_directory_that_no_system_can_flush_is_no_error(cache, make_tree, make_record, monkeypatch):
    """Some network file systems flush files, and not directories."""
    fsync = os.fsync

    def flush(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(local.os, "fsync", flush)
    cache.put(make_tree(), make_record())
    assert get(cache, make_record()) is not None


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="the list of locks is Linux's")
def test_no_lock_is_ever_held(cache, make_tree, make_record, monkeypatch):
    held = []

    def look(real):
        def looked(*arguments):
            # a lock is listed with its file: device and inode
            locked = re.findall(r"[0-9a-f]+:[0-9a-f]+:([0-9]+) ", Path("/proc/locks").read_text())
            ours = {str(path.stat().st_ino) for path in [cache.root, *cache.root.rglob("*")]}
            held.append(not ours.isdisjoint(locked))
            return real(*arguments)

        return looked

    monkeypatch.setattr(sink.Sink, "write", look(sink.Sink.write))
    monkeypatch.setattr(folder.Folder, "rename", look(folder.Folder.rename))
    monkeypatch.setattr(files, "rebuild_tree", look(files.rebuild_tree))
    cache.put(make_tree(), make_record())
    assert get(cache, make_record()) is not None
    assert len(held) > 20 and not any(held)


def test_no_source_asks_for_a_lock():
    for source in Path(files.__file__).parent.glob("*.py"):
        text = source.read_text()
        assert not [word for word in ("fcntl", "flock", "lockf", "msvcrt") if word in text], source
    assert "locking=False" in Path(netcdf.__file__).read_text()


DAY_S = 86_400


def partial(cache: DiskCache, age_s: float) -> Path:
    path = cache.root / "radon" / f".cloudposterior-writing-{age_s}"
    path.write_text("half")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


@pytest.mark.parametrize("apart_s", [-3 * DAY_S, -5 * 3600, 5 * 3600, 3 * DAY_S])
def test_prune_on_a_machine_whose_clock_is_wrong_spares_living_writers(
    apart_s, cache, make_tree, make_record, monkeypatch
):
    cache.put(make_tree(), make_record())
    living, slow, dead = (partial(cache, age) for age in (0, 5 * 3600, 2 * DAY_S))
    wrong = time.time() + apart_s
    monkeypatch.setattr(time, "time", lambda: wrong)
    cache.prune()
    assert living.exists() and slow.exists() and not dead.exists()
    assert len(list((cache.root / "radon").iterdir())) == 3


def test_prune_on_a_full_disk_goes_by_the_local_clock(cache, make_tree, make_record, monkeypatch):
    cache.put(make_tree(), make_record())
    living, dead = partial(cache, 0), partial(cache, 2 * DAY_S)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.Folder, "create", full)
    cache.prune()
    assert living.exists() and not dead.exists()


@pytest.mark.parametrize("age_s", [-5 * 3600, 5 * 3600, 3 * DAY_S])
def test_writer_whose_clock_is_wrong_keeps_its_result(
    age_s, cache, make_tree, make_record, assert_same, monkeypatch
):
    """Where a file has its writer's time, it may look days old while it is written."""
    seal = files.append_seal

    def prune_elsewhere(file, text):
        monkeypatch.setattr(files, "append_seal", seal)
        size = seal(file, text)
        os.utime(file.fileno(), (time.time() - age_s,) * 2)
        DiskCache(cache.root).prune()
        return size

    monkeypatch.setattr(files, "append_seal", prune_elsewhere)
    path = cache.put(make_tree(), make_record()).path
    assert_same(get(cache, make_record())[0], make_tree())
    assert files_in(cache.root) == {path.name}


def test_machines_whose_processes_have_one_id_write_apart(
    cache, make_tree, make_record, assert_same, monkeypatch
):
    monkeypatch.setattr(os, "getpid", lambda: 7)
    seal = files.append_seal

    def write_elsewhere(file, text):
        monkeypatch.setattr(files, "append_seal", seal)
        other = DiskCache(cache.root)
        other.put(make_tree(1), make_record("a"))
        other.put(make_tree(2), make_record("b"))
        return seal(file, text)

    monkeypatch.setattr(files, "append_seal", write_elsewhere)
    cache.put(make_tree(0), make_record("a"))
    assert_same(get(cache, make_record("a"))[0], make_tree(0))
    assert_same(get(cache, make_record("b"))[0], make_tree(2))
    assert len(files_in(cache.root)) == 2


def test_entries_of_machines_whose_clocks_are_wrong_are_found_and_listed(
    cache, make_tree, make_record, assert_same
):
    now = datetime.now(UTC)
    for seed, hours in enumerate([30, -30, 0]):
        created = (now + timedelta(hours=hours)).isoformat()
        path = cache.put(make_tree(seed), make_record(str(seed), created=created)).path
        os.utime(path, ((now - timedelta(hours=hours)).timestamp(),) * 2)
    for seed in range(3):
        assert_same(get(cache, make_record(str(seed)))[0], make_tree(seed))
    assert [e.record.token for e in cache.entries()] == [
        make_record(str(seed)).token for seed in (1, 2, 0)
    ]
    assert cache.prune(older_than=timedelta(hours=40)) == []
