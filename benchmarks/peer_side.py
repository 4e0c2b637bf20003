"""One tool that keeps what `pymc.sample` gives, in cases that notebooks meet; see `peers.py`.

Run in the environment of the tool, which need not be the one of this repository::

    python peer_side.py TOOL {first,later,later-with-arviz} DIRECTORY DRAWS

Prints JSON: for each case how long it took in seconds, and whether it was answered with what had
been kept.
"""

from __future__ import annotations

import csv
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm

RADON = Path(__file__).parents[1] / "cloudposterior" / "data" / "radon.csv"
RESTARTED = "kernel restarted"
SCALE = 1.0
Sample = Callable[..., Any]


@dataclass(frozen=True)
class Asked:
    """What is sampled: a function that builds a model of data, and the data."""

    name: str
    build: Callable[..., pm.Model]
    data: dict[str, np.ndarray]


def radon_data(changed: int = 0) -> dict[str, np.ndarray]:
    """Read the data, and change one value of a covariate where asked to."""
    with RADON.open() as file:
        houses = list(csv.DictReader(file))
    names = ("county_code", "floor", "log_radon")
    data = {name: np.array([float(house[name]) for house in houses]) for name in names}
    data["floor"][400] += changed
    return data


def radon(county_code: np.ndarray, floor: np.ndarray, log_radon: np.ndarray) -> pm.Model:
    with pm.Model(name="radon") as model:
        on_floor = pm.Data("floor", floor)
        mu, sigma = pm.Normal("mu_a", 0.0, 10.0), pm.HalfNormal("sigma_a", 2.0)
        a = pm.Deterministic("a", mu + sigma * pm.Normal("z_a", shape=85))
        mean = a[county_code.astype(int)] + pm.Normal("b", 0.0, 10.0) * on_floor
        pm.Normal("log_radon", mean, pm.HalfNormal("sigma", 5.0), observed=log_radon)
    return model


def own_function(scale: float) -> Asked:
    """Ask for a model with a function that closes over a number."""

    def logp(value: Any, mu: Any) -> Any:
        return -scale * pm.math.abs(value - mu)

    return _custom("closure", logp)


def own_global(scale: float) -> Asked:
    """Ask for a model with a function that reads a global."""
    global SCALE
    SCALE = scale

    def logp(value: Any, mu: Any) -> Any:
        return -SCALE * pm.math.abs(value - mu)

    return _custom("global", logp)


def _custom(name: str, logp: Callable[..., Any]) -> Asked:
    def build(observed: np.ndarray) -> pm.Model:
        with pm.Model(name=name) as model:
            pm.CustomDist("y", pm.Normal("mu"), logp=logp, observed=observed)
        return model

    return Asked(name, build, {"observed": np.array([0.1, 0.5, 2.0])})


def plain(directory: str) -> Sample:
    def sample(asked: Asked, **call: Any) -> Any:
        with asked.build(**asked.data):
            return pm.sample(**call)

    return sample


def by_joblib(directory: str) -> Sample:
    """Put it around `pymc.sample`, with the model as an argument."""

    @joblib_memory(directory)
    def fit(model: pm.Model, **call: Any) -> Any:
        with model:
            return pm.sample(**call)

    return lambda asked, **call: fit(asked.build(**asked.data), **call)


def by_joblib_of_data(directory: str) -> Sample:
    """Put it around a function of the data that builds the model with what is global to it."""

    @joblib_memory(directory, ignore=["build"])
    def fit(build: Callable[..., pm.Model], name: str, data: Any, **call: Any) -> Any:
        with build(**data):
            return pm.sample(**call)

    return lambda asked, **call: fit(asked.build, asked.name, asked.data, **call)


def joblib_memory(directory: str, **more: Any) -> Any:
    import joblib

    return joblib.Memory(directory, verbose=0).cache(**more)


def by_cloudposterior(directory: str) -> Sample:
    """Give what both this package and its namesake on PyPI have."""
    import cloudposterior as cp

    def sample(asked: Asked, **call: Any) -> Any:
        with cp.cloud(asked.build(**asked.data), cache=directory, progress=False):
            return pm.sample(**call)

    return sample


TOOLS = {
    "plain": plain,
    "joblib": by_joblib,
    "joblib-of-data": by_joblib_of_data,
    "cloudposterior": by_cloudposterior,
}


def answered(sample: Sample, asked: Asked, draws: int) -> dict[str, Any]:
    """Build and sample, and say how long that took and whether the answer is an old one."""
    call = {"draws": draws, "tune": draws, "chains": 4, "cores": 2, "random_seed": 1}
    shown = {"progressbar": False, "compute_convergence_checks": False}
    now, began = datetime.now(UTC), time.perf_counter()
    try:
        result = sample(asked, nuts_sampler="pymc", **call, **shown)
    except Exception as error:  # noqa: BLE001  (what a tool cannot do is what is asked)
        return {"error": type(error).__name__}
    seconds = time.perf_counter() - began
    made = datetime.fromisoformat(result["posterior"].attrs["created_at"])
    return {"seconds": seconds, "kept": made.replace(tzinfo=made.tzinfo or UTC) < now}


def cases(phase: str) -> Iterator[tuple[str, Asked]]:
    again = Asked("radon", radon, radon_data())
    if phase != "first":
        yield {"later": RESTARTED, "later-with-arviz": f"{RESTARTED}, ArviZ imported"}[phase], again
        return
    model = radon(**radon_data())
    same = Asked("radon", lambda **_: model, radon_data())
    yield "first time", same
    yield "same model again", same
    yield "model built again", again
    yield "one value of 919 changed", Asked("radon", radon, radon_data(1))
    yield "own function, first time", own_function(1.0)
    yield "own function, model built again", own_function(1.0)
    yield "number that it closes over changed", own_function(2.0)
    yield "own global, first time", own_global(1.0)
    yield "global that it reads changed", own_global(2.0)


def main() -> None:
    tool, phase, directory, draws = sys.argv[1:]
    if phase == "later-with-arviz":
        importlib.import_module("arviz")
    began = time.perf_counter()
    sample = TOOLS[tool](directory)
    imported_s = time.perf_counter() - began
    found = {}
    for case, asked in cases(phase):
        found[case] = answered(sample, asked, int(draws))
        if found[case].get("kept") and phase == "first":  # once more, for the time
            found[case]["seconds"] = answered(sample, asked, int(draws))["seconds"]
        if phase != "first" and "seconds" in found[case]:
            found[case]["seconds"] += imported_s
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
