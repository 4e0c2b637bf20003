"""Eight processes share one directory while writers are killed: not one torn read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("kill_worker.py")
KILLS = 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork are of POSIX systems")
def test_no_torn_read_while_writers_are_killed(cache):
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(WORKER), str(cache.root), str(KILLS)],
        check=False, capture_output=True, text=True, env={**os.environ, **one_thread},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 0, "the readers had no hit at all"
    assert cache.verify() == []
    assert 1 <= len(cache.entries()) <= 5
    strays = list(cache.root.rglob(".cloudposterior-writing-*"))
    assert strays, "not one writer was killed while it wrote"
    assert not list(cache.root.rglob("*.aside-*"))
