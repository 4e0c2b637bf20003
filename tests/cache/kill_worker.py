"""The kill test's processes: readers and writers of one directory, forked, and the writers killed.

Called as ``python kill_worker.py ROOT KILLS MODE``; forking, not spawning, since 200 imports take
minutes. In the mode ``mixed`` writers also discard, prune and clear, and plant broken files, which
all others move aside. Every entry is full of one number, which its attributes repeat: a mixture of
two writings shows. Prints how many hits the readers had; fails where one of them met anything but a
whole entry or a plain miss.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable

import numpy as np
import xarray as xr

from cloudposterior.cache import DiskCache, Record
from cloudposterior.errors import CacheWarning

WRITERS, READERS = 5, 3
# the last two begin alike, and so contend for a file name
TOKENS = [f"{number:032x}" for number in (1 << 120, 2 << 120, 3 << 120, 2, 3)]
LONGEST_WAIT_S = 0.03


def write_one(cache: DiskCache, rng: random.Random) -> None:
    value, size = rng.randrange(2**31), rng.choice([10, 1000, 20_000])
    variables = {f"x{number}": ("i", np.full(size, float(value))) for number in range(3)}
    variables["noise"] = ("i", np.random.default_rng(value).normal(size=size))
    dataset = xr.Dataset(variables, attrs={"value": value, "size": size})
    token, created = rng.choice(TOKENS), "2026-01-01T00:00:00+00:00"
    record = Record(token, "shared", "draws", {"value": value}, {}, created, 1.0, value)
    cache.put(xr.DataTree.from_dict({"posterior": dataset}), record)


def plant_broken(cache: DiskCache, rng: random.Random) -> None:
    """Put a torn file in the place of an entry."""
    path = cache.root / "shared" / f"draws-{rng.choice(TOKENS)[:8]}.nc"
    partial = path.with_name(f".cloudposterior-writing-{os.getpid()}-torn")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(rng.randbytes(500))
    os.replace(partial, path)


def do_one(cache: DiskCache, rng: random.Random) -> None:
    """Do something with the cache that changes it."""
    chosen = rng.random()
    if chosen < 0.15:
        cache.discard(rng.choice(TOKENS), model="shared", label="draws")
    elif chosen < 0.25:
        cache.prune(keep=3)
    elif chosen < 0.28:
        cache.clear()
    elif chosen < 0.45:
        plant_broken(cache, rng)
    else:
        write_one(cache, rng)


def read_one(cache: DiskCache, rng: random.Random) -> bool:
    token = rng.choice(TOKENS)
    found = cache.get(token, model="shared", label="draws")
    if found is None:
        return False
    dataset, record = found[0]["posterior"].to_dataset(), found[1].record
    value, size = dataset.attrs["value"], dataset.attrs["size"]
    assert (record.token, record.manifest) == (token, {"value": value})
    assert all(variable.shape == (size,) for variable in dataset.data_vars.values())
    assert all((dataset[f"x{number}"].values == value).all() for number in range(3))
    noise = np.random.default_rng(value).normal(size=size)
    assert (dataset["noise"].values == noise).all()
    return True


def write_for_ever(root: str, mode: str, seed: int, told: int) -> None:
    cache, rng = DiskCache(root), random.Random(seed)
    act = do_one if mode == "mixed" else write_one
    while True:
        os.write(told, b".")
        act(cache, rng)


def read_until_told(root: str, seed: int, stop: int, hits: int) -> None:
    cache, rng, count = DiskCache(root), random.Random(seed), 0
    while not select.select([stop], [], [], 0)[0]:
        count += read_one(cache, rng)
        cache.entries()
    os.write(hits, f"{count}\n".encode())


def fork(run: Callable[[], None]) -> int:
    """Run something in a process of its own, and return its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        run()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def start_writer(root: str, mode: str, seed: int) -> tuple[int, int]:
    read_end, write_end = os.pipe()
    pid = fork(lambda: write_for_ever(root, mode, seed, write_end))
    os.close(write_end)
    return pid, read_end


def kill_writers(root: str, kills: int, mode: str) -> None:
    """Keep the writers at work, and kill one after another at any moment of a writing."""
    rng = random.Random(0)
    writers = [start_writer(root, mode, seed) for seed in range(WRITERS)]
    for number in range(kills + WRITERS):
        pid, told = writers.pop(0)
        if not os.read(told, 1):
            raise RuntimeError(f"writer {pid} ended by itself")
        select.select([], [], [], rng.random() * LONGEST_WAIT_S)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, f"writer {pid} ended by itself: {status}"
        os.close(told)
        if number < kills:
            writers.append(start_writer(root, mode, WRITERS + number))


def main(root: str, kills: int, mode: str) -> None:
    warnings.simplefilter("error")  # a torn file would be warned of
    if mode == "mixed":
        warnings.filterwarnings("ignore", ".*it is foreign.*; it was moved aside", CacheWarning)
    # numpy's and pyarrow's threads are idle, and take no part here
    warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
    with tempfile.TemporaryDirectory() as scratch:  # what is imported at first use, once for all
        write_one(DiskCache(scratch), random.Random(0))
        read_one(DiskCache(scratch), random.Random(0))
    (stopped, stop), (counted, count) = os.pipe(), os.pipe()
    readers = [
        fork(lambda seed=seed: read_until_told(root, seed, stopped, count))
        for seed in range(READERS)
    ]
    kill_writers(root, kills, mode)
    os.write(stop, b".")
    statuses = [os.waitpid(pid, 0)[1] for pid in readers]
    assert statuses == [0] * READERS, statuses
    print(sum(map(int, os.read(counted, 1000).split())))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
