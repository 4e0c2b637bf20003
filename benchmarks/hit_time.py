"""Time a hit beside what it is made of, opening the file with ArviZ, and sampling again."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator

import arviz as az
import pymc as pm
from dask.base import tokenize
from rows import Row, best, run_script

import cloudposterior as cp
from cloudposterior.demo import radon_model

SIZES = {"draws": (1000, 20), "repeats": (7, 2)}


def measure(asked: argparse.Namespace) -> Iterator[Row]:
    model = radon_model()
    call = {"draws": asked.draws, "tune": asked.draws, "chains": 4, "random_seed": 1, "quiet": True}
    with tempfile.TemporaryDirectory() as directory:

        def hit(cache: str) -> float:
            return best(lambda: cp.sample(model, cache=cache, **call), asked.repeats)

        cp.sample(model, cache=directory, **call)
        (entry,) = cp.DiskCache(directory).entries()
        on_disk = hit(directory)
        read = best(lambda: az.from_netcdf(entry.path).load(), asked.repeats)
        what = f"a hit on disk, radon, {entry.size_bytes / 1e6:.1f} MB"
        again = best(lambda: plain(model, call), 1)
        yield Row(what, on_disk, again, "plain `pm.sample(cores=2)`", limit=0.060)
        yield Row(what, on_disk, read, "`arviz.from_netcdf`, loaded")
        yield Row("of a hit, the token", best(lambda: tokenize(model)))
        cp.sample(model, cache="memory", **call)
        yield Row("a hit in memory, radon", hit("memory"), again, "plain `pm.sample(cores=2)`")
        yield from predictions(model, cp.sample(model, cache=directory, **call), directory)


def plain(model: pm.Model, call: dict[str, object]) -> object:
    with model:
        return pm.sample(**call, cores=2, progressbar=False)


def predictions(model: pm.Model, idata: object, directory: str) -> Iterator[Row]:
    """Time predictions that are kept."""

    def predict() -> object:
        with model:
            return pm.sample_posterior_predictive(idata, random_seed=1, progressbar=False)

    again = best(predict, 1)
    with cp.cloud(model, cache=directory, progress=False):
        predict()
        kept = best(predict)
    yield Row("predictions of radon, a hit", kept, again, "plain `sample_posterior_predictive`")


if __name__ == "__main__":
    run_script(__doc__, measure, SIZES)
