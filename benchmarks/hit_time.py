"""Time a hit on disk beside what it is made of, and beside opening the file with ArviZ."""

from __future__ import annotations

import tempfile

import arviz as az
import pymc as pm
from dask.base import tokenize
from token_time import best_ms

import cloudposterior as cp
from cloudposterior.demo import radon_model


def main() -> None:
    model = radon_model()
    request = {"draws": 1000, "tune": 1000, "chains": 4, "random_seed": 1, "quiet": True}
    with tempfile.TemporaryDirectory() as directory:
        cp.sample(model, cache=directory, **request)
        (entry,) = cp.DiskCache(directory).entries()
        hit = best_ms(lambda: cp.sample(model, cache=directory, **request))
        rows = {
            "hit (bar: 60)": hit,
            "of which the token": best_ms(lambda: tokenize(model)),
            "arviz.from_netcdf, loaded": best_ms(lambda: az.from_netcdf(entry.path).load()),
            "sampling again": best_ms(
                lambda: cp.sample(model, cache=directory, overwrite=True, **request), 1
            ),
        }
    print(f"PyMC {pm.__version__}, radon, 4 chains of 1000 draws, {entry.size_bytes / 1e6:.1f} MB")
    for name, time_ms in rows.items():
        print(f"{name:28}{time_ms:10.1f} ms{time_ms / hit:10.2f} of a hit")


if __name__ == "__main__":
    main()
