"""Reads files made up to do harm, in a process that has little memory and little time.

Called as ``python crafted_reader.py ROOT TOKEN...``; prints for each token whether it was a hit,
the warnings, and by how many bytes the process has grown.
"""

from __future__ import annotations

import json
import resource
import sys
import warnings

from cloudposterior.cache import DiskCache

# beyond what the process has when all is imported and a good file was read
ROOM_BYTES = 400 << 20
SECONDS = 60


def read(cache: DiskCache, token: str) -> tuple[bool, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = cache.get(token, model="radon", label="crafted")
    return found is not None, [f"{w.category.__name__}: {w.message}" for w in caught]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def mapped_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def main(root: str, good: str, *tokens: str) -> None:
    cache = DiskCache(root)
    assert read(cache, good) == (True, [])
    resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes() + ROOM_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    for token in (good, *tokens):
        before = peak_bytes()
        hit, told = read(cache, token)
        print(json.dumps([token, hit, told, peak_bytes() - before]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
