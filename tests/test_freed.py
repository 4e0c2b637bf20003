"""Memory that is freed while tasks compute stays for the next array."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNTS = """
import resource, threading
import numpy as np
from cloudposterior.samplers.freed import freed_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(100):
        np.ones(160_000)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

def counted():
    found = [faults()]
    with freed_kept():
        faults()
        found.append(faults())
        with freed_kept():
            pass
        found.append(faults())
    found.append(faults())
    print(*found)

thread = threading.Thread(target=counted)
thread.start()
thread.join()
"""


def counted(**environment: str) -> list[int]:
    """How often a thread gets pages, for 100 arrays of 1.3 MB: before, twice within, and after."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTS], capture_output=True, text=True, check=True, env=environment
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.once
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_arrays_get_the_memory_of_those_before_while_a_task_computes() -> None:
    """As a nanny of Dask starts its worker."""
    before, within, still, after = counted(MALLOC_TRIM_THRESHOLD_="65536")
    assert before > 10_000
    assert within < 100
    assert still < 100
    assert after > 10_000


@pytest.mark.once
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_who_has_set_it_keeps_it() -> None:
    before, within, *_ = counted(MALLOC_MMAP_THRESHOLD_="131072", MALLOC_TRIM_THRESHOLD_="65536")
    assert before > 10_000
    assert within > 10_000
