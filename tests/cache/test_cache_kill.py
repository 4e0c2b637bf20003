"""Eight processes share one directory while writers are killed: not one torn read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloudposterior.cache import read_entry
from cloudposterior.errors import CacheFileError

pytestmark = pytest.mark.once

WORKER = Path(__file__).with_name("kill_worker.py")
KILLS = 200


def kill(root: Path, kills: int, mode: str) -> int:
    """Run the processes; return how many hits the readers had."""
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(WORKER), str(root), str(kills), mode],
        check=False, capture_output=True, text=True, env={**os.environ, **one_thread},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork are of POSIX systems")
def test_no_torn_read_while_writers_are_killed(cache):
    assert kill(cache.root, KILLS, "write") > 0, "the readers had no hit at all"
    assert cache.verify() == []
    assert 1 <= len(cache.entries()) <= 5
    strays = list(cache.root.rglob(".cloudposterior-writing-*"))
    assert strays, "not one writer was killed while it wrote"
    assert not list(cache.root.rglob("*.aside-*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork are of POSIX systems")
def test_no_torn_read_while_entries_are_removed_and_broken_and_writers_killed(cache):
    assert kill(cache.root, KILLS // 3, "mixed") > 0, "the readers had no hit at all"
    assert all("foreign" in reason for _, reason in cache.verify()), "a torn file of our own"
    aside = list(cache.root.rglob("*.aside-*"))
    assert aside, "nothing was moved aside"
    for path in aside:  # what is whole stays where it is found
        with pytest.raises(CacheFileError, match="foreign"):
            read_entry(path)
