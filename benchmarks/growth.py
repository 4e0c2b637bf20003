"""How cost grows with parameters, observations, chains and entries of a cache.

Next to nothing is sampled: posteriors are put into a cache under the token that a call asks for,
and chains are those of a sampler that sleeps. Entries are links to copies of the file of one small
run, which lie in the memory of the system, as those of a disk that was just listed do.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import joblib
import numpy as np
import pymc as pm
import xarray as xr
from cluster_time import local_cluster
from dask.base import tokenize
from distributed import Client
from rows import Point, best, run_script, timed
from sleeping import Sleeping, draw_segments, segments_of

import cloudposterior as cp
from cloudposterior.cache.protocol import Record

SIZES = {
    "parameters": ([10, 100, 1_000, 10_000], [2, 10]),
    "observations": ([10**3, 10**4, 10**5, 10**6, 10**7], [10, 1_000]),
    "chains": ([2, 10, 100, 1_000], [2, 6]),
    "entries": ([1, 10, 100, 1_000, 10_000, 100_000], [1, 20]),
    "draws": (100, 5),
}
CALL: dict[str, Any] = {"draws": 100, "tune": 100, "chains": 4, "random_seed": 1, "quiet": True}
OTHER_CALL = {**{name: CALL[name] for name in ("draws", "tune", "chains")}, "random_seed": 2}
CHAIN_SEGMENTS, SEGMENT_S = 4, 0.02
LINKS_OF_A_COPY = 1_000


class Asking:
    """A cache that notes what it is asked for, and ends the call there."""

    def get(self, token: str, *, model: str, label: str) -> None:
        """Note the token and the names."""
        self.record = record_of(token, model, label)
        raise KeyboardInterrupt

    def put(self, tree: xr.DataTree, record: Record) -> None:
        """Keep nothing."""

    def entries(self) -> list[Any]:
        """Have nothing."""
        return []


def record_of(token: str, model: str, label: str) -> Record:
    return Record(token, model, label, {}, {}, "2026-01-01T00:00:00+00:00", 1.0, 1)


def record_of_call(model: pm.Model) -> Record:
    """Give what a call of `CALL` is kept under."""
    asking = Asking()
    try:
        cp.sample(model, cache=asking, **CALL)
    except KeyboardInterrupt:
        return asking.record
    raise AssertionError("the cache was not asked")


def scalars(size: int) -> pm.Model:
    with pm.Model(name="scalars") as model:
        for number in range(size):
            pm.Normal(f"x{number}")
    return model


def vector(size: int) -> pm.Model:
    with pm.Model(name="vector") as model:
        pm.Normal("x", shape=size)
    return model


def posterior_of(model: pm.Model, draws: int) -> xr.DataTree:
    rng = np.random.default_rng(1)
    variables = {}
    for variable in model.free_RVs:
        shape = variable.type.shape
        dims = ("chain", "draw", *(f"{variable.name}_dim_{i}" for i in range(len(shape))))
        variables[variable.name] = (dims, rng.normal(size=(4, draws, *shape)))
    return xr.DataTree.from_dict({"posterior": xr.Dataset(variables)})


def parameters(asked: argparse.Namespace) -> Iterator[Point]:
    for size in asked.parameters:
        for kind, build in {"named variables": scalars, "one vector": vector}.items():
            model = build(size)
            repeats = 1 if size >= 10_000 else 3
            token = best(lambda m=model: tokenize(m), repeats)
            yield Point("parameters", f"token, {kind}", size, token)
            record = record_of_call(model)
            with tempfile.TemporaryDirectory() as directory:
                cache = cp.DiskCache(directory)
                tree = posterior_of(model, asked.draws)
                save, _ = timed(lambda c=cache, t=tree, r=record: c.put(t, r))
                names = {"model": record.model, "label": record.label}
                read = best(lambda c=cache, r=record, n=names: c.get(r.token, **n), repeats)
                hit = best(lambda m=model, d=directory: cp.sample(m, cache=d, **CALL), repeats)
            yield Point("parameters", f"posterior saved, {kind}", size, save)
            yield Point("parameters", f"posterior read, {kind}", size, read)
            yield Point("parameters", f"hit, {kind}", size, hit)


def observations(asked: argparse.Namespace) -> Iterator[Point]:
    for size in asked.observations:
        values = np.random.default_rng(1).normal(size=size)
        for kind, wrap in {"constant": np.asarray, "`pm.Data`": named}.items():
            with pm.Model() as model:
                pm.Normal("y", pm.Normal("mu"), observed=wrap(values))
            token = best(lambda m=model: tokenize(m))
            yield Point("observations", f"token, {kind}", size, token)
        alone = best(lambda v=values: joblib.hash(v))
        yield Point("observations", "joblib.hash of the array alone", size, alone)


def named(values: np.ndarray) -> Any:
    return pm.Data("seen", values)


def chains(asked: argparse.Namespace) -> Iterator[Point]:
    with (
        dask.config.set({"distributed.worker.profile.enabled": False}),
        local_cluster(2) as client,
        segments_of(SEGMENT_S),
    ):
        draw_segments(client, Sleeping(1), 2)  # workers have imported what they need
        for size in asked.chains:
            cpu, in_loop = time.process_time(), loop_time(client)
            wall, _ = timed(lambda n=size: draw_segments(client, Sleeping(CHAIN_SEGMENTS), n))
            cpu, in_loop = time.process_time() - cpu, loop_time(client) - in_loop
            slept = size * CHAIN_SEGMENTS * SEGMENT_S / 2
            yield Point("chains", "wall, less what was slept", size, max(0.0, wall - slept))
            yield Point("chains", "CPU of scheduler and connections", size, in_loop)
            yield Point("chains", "CPU of the driver", size, max(0.0, cpu - in_loop))


def loop_time(client: Client) -> float:
    """Give the CPU time of the thread in which the scheduler and the client's connections are."""
    return float(client.run_on_scheduler(time.thread_time))


def entries(asked: argparse.Namespace) -> Iterator[Point]:
    model = vector(10)
    record = record_of_call(model)
    tree = posterior_of(model, asked.draws)
    names = {"model": record.model, "label": record.label}
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory() as elsewhere:
        cp.sample(model, cache=elsewhere, **{**OTHER_CALL, "random_seed": 3}, quiet=True)
        (other,) = cp.DiskCache(elsewhere).entries()
        cache = cp.DiskCache(directory)
        path = Path(str(cache.put(tree, record).path))
        there = 1
        for size in asked.entries:
            add_links(Path(str(other.path)), path.parent, range(there, size))
            there = size
            repeats = 1 if size >= 10_000 else 3
            for curve, call in {
                "look up": lambda: cache.get(record.token, **names),
                "list": cache.entries,
                "prune, dry run": lambda n=size: cache.prune(keep=n // 2, dry_run=True),
                "say why it was a miss": lambda: cp.explain(model, cache=cache, **OTHER_CALL),
            }.items():
                yield Point("cache entries", curve, size, best(call, repeats))
            assert len(cache.entries()) == size


def add_links(file: Path, directory: Path, numbers: range) -> None:
    """Put links to copies of a file into a directory: a file has not room for all of them."""
    for number in numbers:
        if number % LINKS_OF_A_COPY == 0 or number == numbers.start:
            copy = directory / f"entry-{number:08x}.nc"
            shutil.copyfile(file, copy)
        else:
            os.link(copy, directory / f"entry-{number:08x}.nc")


def measure(asked: argparse.Namespace) -> Iterator[Point]:
    for panel in (parameters, observations, chains, entries):
        yield from panel(asked)


if __name__ == "__main__":
    run_script(__doc__, measure, SIZES)
