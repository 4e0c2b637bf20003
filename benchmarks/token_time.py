"""Time the token of a model beside PyTensor's printed graph, which is no key but does less."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pymc as pm
from dask.base import tokenize
from pytensor.printing import debugprint

import cloudposterior  # noqa: F401  (registers the tokens)
from cloudposterior.demo import radon_model

REPEATS = 5


def best_ms(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Time a call, the best of several."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times) * 1e3


def million(coords: dict[str, object] | None = None) -> pm.Model:
    observed = np.random.default_rng(0).normal(size=1_000_000)
    with pm.Model(coords=coords) as model:
        pm.Normal("y", pm.Normal("mu"), 1, observed=observed, dims=list(coords) if coords else None)
    return model


def many_variables() -> pm.Model:
    with pm.Model() as model:
        for i in range(500):
            x = pm.Normal(f"x{i}", 0, 1 + i)
            d = pm.Deterministic(f"d{i}", x**2 + 1)
            pm.Potential(f"p{i}", -0.1 * d)
            pm.Normal(f"y{i}", x, 1, observed=float(i))
    return model


def deep() -> pm.Model:
    with pm.Model() as model:
        value = pm.Normal("x")
        for i in range(20_000):
            value = value + 1.0 * i
        pm.Potential("p", value)
    return model


def cases() -> Iterator[tuple[str, pm.Model, float | None]]:
    yield "radon", radon_model(), 20
    yield "1e6 observations", million(), 60
    yield "1e6 observations, 1e6 coords", million({"obs": np.arange(1_000_000)}), None
    yield "500 variables, 1,500 more", many_variables(), 500
    yield "40,000 nodes in a chain", deep(), None


def printed(model: pm.Model) -> str:
    return debugprint(list(model.named_vars.values()), file="str")


def main() -> None:
    print(f"{'model':32}{'token':>10}{'bar':>8}{'printed':>10}{'ratio':>8}")
    for name, model, bar in cases():
        token = best_ms(lambda m=model: tokenize(m))
        # a chain of 40,000 nodes is too deep to print
        text = None if name.endswith("chain") else best_ms(lambda m=model: printed(m), 1)
        shown = "" if text is None else f"{text:10.1f}{token / text:8.2f}"
        print(f"{name:32}{token:10.1f}{'' if bar is None else f'{bar:.0f}':>8}{shown}")


if __name__ == "__main__":
    main()
