"""Eight processes put and get one token behind one URL; all that is read is whole.

Called as ``python -m tests.cache.share_worker URL OPTIONS``; forked before any of them talks to the
store.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
import warnings
from typing import Any

import numpy as np
import s3fs
import xarray as xr

from cloudposterior.cache import DiskCache, Record, RemoteCache
from cloudposterior.cache.files import FileCache
from tests.cache import stores

PROCESSES, ROUNDS = 8, 2
RECORD = Record("1" * 32, "shared", "draws", {}, {}, "2026-01-01T00:00:00+00:00", 1.0, None)


def work(cache: FileCache, number: int, rounds: int) -> None:
    for turn in range(rounds):
        value = number * ROUNDS + turn
        variables = {name: ("i", np.full(5000 + value, float(value))) for name in "xyz"}
        tree = xr.DataTree.from_dict({"posterior": xr.Dataset(variables, attrs={"value": value})})
        cache.put(tree, RECORD)
        found = cache.get(RECORD.token, model="shared", label="draws")
        assert found is not None, "an entry that is never removed was not there"
        read = found[0]["posterior"].to_dataset()
        kept = read.attrs["value"]
        assert all((read[name].values == kept).all() for name in "xyz")
        assert read.sizes["i"] == 5000 + kept
        assert len(cache.entries()) <= 1


def main(url: str, options: dict[str, Any]) -> None:
    assert stores and s3fs  # imported for the file systems that they are
    warnings.simplefilter("error")  # a torn file would be warned of
    warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
    with tempfile.TemporaryDirectory() as scratch:  # what is imported at first use, once for all
        work(DiskCache(scratch), 0, 1)
    children = []
    for number in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            try:
                work(RemoteCache(url, **options), number, ROUNDS)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    assert statuses == [0] * PROCESSES, statuses


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
