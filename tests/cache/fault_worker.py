"""Puts one entry again and again, and each time another step of the system fails.

Called as ``python fault_worker.py ROOT``, in a process of its own, since libhdf5 may crash one in
which it has met a failure. Prints how many steps of each kind there were.
"""

from __future__ import annotations

import collections
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cloudposterior.cache import DiskCache, Record, folder, local

FULL, BROKEN = OSError(28, "No space left on device"), OSError(5, "Input/output error")
RECORD = Record("1" * 32, "m", "l", {}, {}, "2026-01-01T00:00:00+00:00", 1.0, None)


def tree(value: int) -> xr.DataTree:
    variables = {f"x{i}": ("i", np.full(300, float(value + i))) for i in range(8)}
    dataset = xr.Dataset({**variables, "t": ("k", np.array(["a", "b"], dtype=object))})
    return xr.DataTree.from_dict({"posterior": dataset.assign_attrs(value=value)})


class Faults:
    """Counts the steps of each kind, and lets one of them fail."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.failing: tuple[str, int, OSError] | None = None

    def step(self, kind: str) -> None:
        self.counts[kind] += 1
        if self.failing is not None and (kind, self.counts[kind]) == self.failing[:2]:
            raise self.failing[2]


FAULTS = Faults()


class File:
    """A file whose writing may fail, half of it written."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        view = memoryview(data)
        try:
            FAULTS.step("write")
        except OSError:
            self._file.write(view[: len(view) // 2])
            raise
        return int(self._file.write(view))

    def truncate(self, size: int | None = None) -> int:
        FAULTS.step("truncate")
        return int(self._file.truncate(size))

    def close(self) -> None:
        self._file.close()
        FAULTS.step("close")


def wrap(name: str, function: Any) -> Any:
    def wrapped(*arguments: Any, **options: Any) -> Any:
        FAULTS.step(name)
        return function(*arguments, **options)

    return wrapped


def install() -> None:
    create = folder.Folder.create

    def faulty(folder: Any, name: str) -> Any:
        FAULTS.step("create")
        return File(create(folder, name))

    folder.Folder.create = faulty  # type: ignore[method-assign]
    for name in ("fsync", "replace", "mkdir", "makedirs", "fstat"):
        setattr(local.os, name, wrap(name, getattr(os, name)))


def read(cache: DiskCache) -> int:
    found = cache.get(RECORD.token, model="m", label="l")
    assert found is not None, "the entry is lost"
    return int(found[0]["posterior"].attrs["value"])


def main(root: str) -> None:
    warnings.simplefilter("error")
    cache = DiskCache(root)
    cache.put(tree(0), RECORD)
    install()
    cache.put(tree(0), RECORD)
    steps = dict(FAULTS.counts)
    for kind, count in steps.items():
        for number in range(1, count + 1):
            check(cache, kind, number, FULL if kind in ("write", "truncate") else BROKEN)
    print(steps)


def put(cache: DiskCache, value: int) -> OSError | None:
    try:
        cache.put(tree(value), RECORD)
    except OSError as error:
        return error
    return None


def check(cache: DiskCache, kind: str, number: int, error: OSError) -> None:
    old = read(cache)
    FAULTS.counts.clear()
    FAULTS.failing = (kind, number, error)
    raised = put(cache, old + 1)
    FAULTS.failing = None
    where = (kind, number, raised)
    # the first making is of the root, which is there; the second closing of what is closed
    harmless = where[:2] in (("mkdir", 1), ("close", 2))
    assert raised is (None if harmless else error), where
    names = [path.name for path in Path(cache.root).rglob("*") if path.is_file()]
    assert names == ["l-11111111.nc"], (where, names)
    # the directory is flushed after the renaming, and only then a failure leaves the new entry
    is_new = raised is None or where[:2] == ("fsync", 2)
    assert read(cache) == old + is_new, where


if __name__ == "__main__":
    main(sys.argv[1])
