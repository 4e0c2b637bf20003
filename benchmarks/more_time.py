"""Time more of the same, and a run that ends by itself, beside drawing all of it.

Radon on two warm workers of one thread. More draws and more chains go on from a run in the cache;
what they are compared with is the same call without one.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from typing import Any

from cluster_time import local_cluster
from rows import Row, run_script, timed

import cloudposterior as cp
from cloudposterior.demo import radon_model

SIZES = {"draws": (2000, 100), "tune": (1000, 50), "chains": (4, 2), "most": (20_000, 200)}
AIM = {"r_hat": 1.01, "ess": 400}


def measure(asked: argparse.Namespace) -> Iterator[Row]:
    model = radon_model()
    common: dict[str, Any] = {
        "tune": asked.tune,
        "nuts_sampler": "pymc",
        "quiet": True,
        "progress": False,
        "compute_convergence_checks": False,
    }
    draws, chains = asked.draws, asked.chains
    with local_cluster(2) as client, tempfile.TemporaryDirectory() as directory:

        def seconds(cache: Any, draws: int, chains: int, **more: Any) -> float:
            call = {"random_seed": 1, **common, **more}
            return timed(
                lambda: cp.sample(
                    model, draws=draws, chains=chains, cluster=client, cache=cache, **call
                )
            )[0]

        seconds(directory, draws, chains)
        more = seconds(directory, 2 * draws, chains)
        what = f"{2 * draws} draws, {draws} of them kept"
        yield Row(what, more, seconds(False, 2 * draws, chains), "all of them drawn")
        more = seconds(directory, draws, 2 * chains)
        what = f"{2 * chains} chains, {chains} of them kept"
        yield Row(what, more, seconds(False, draws, 2 * chains), "all of them drawn")
        aimed = seconds(False, asked.most, chains, until=AIM)
        what = f"until R-hat {AIM['r_hat']}, ESS {AIM['ess']}, of {asked.most:,} draws"
        yield Row(what, aimed, seconds(False, asked.most, chains), "all of them drawn")


if __name__ == "__main__":
    run_script(__doc__, measure, SIZES)
