"""Chains of a call, drawn in this process as workers draw them, and small models to draw from."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm

from cloudposterior.operations.sample import SampleCall
from cloudposterior.samplers import kept
from cloudposterior.samplers.protocol import Budget, Run, Segment, State
from cloudposterior.samplers.pymc_chains import PyMCChains
from cloudposterior.samplers.seeds import packed_seed
from cloudposterior.shipping import pack_arguments, pack_model

Draws = dict[str, np.ndarray]

OPTIONS: dict[str, Any] = {
    # enough for what tunes every few draws
    "draws": 12,
    "tune": 20,
    "chains": 2,
    "random_seed": 3,
    "nuts_sampler": "pymc",
    "progressbar": False,
    "quiet": True,
}


class Chains:
    """The chains of a call."""

    def __init__(self, model: pm.Model, **options: Any) -> None:
        self.call = call = SampleCall(model, (), {**OPTIONS, **options}, on_cluster=True)
        token, structure = call.model_tokens()
        self.model = pack_model(model)
        self.run = Run(
            key=uuid.uuid4().hex,
            model=token,
            structure=structure,
            arguments=pack_arguments(call.arguments_of_chains("pymc"), model),
            seed=packed_seed(call.seed),
            chains=call.chains,
            settings=call.settings,
        )

    def start(self, chain: int = 1) -> State:
        return PyMCChains().start(self.model, self.run, (chain,))

    def advance(self, state: State, draws: int) -> tuple[State, Segment]:
        """Draw so many draws."""
        left = iter(range(draws - 1))
        budget = Budget(1e6, lambda: next(left, None) is None)
        state, (part,) = PyMCChains().advance(self.model, self.run, state, budget)
        assert part.draws == draws
        return state, part

    def draws(
        self, *cuts: int, chain: int = 1, through: Callable[[State], State] = lambda state: state
    ) -> Draws:
        """Draw a chain, cut after these many draws; each part is in what is like a new process."""
        state, parts = self.start(chain), []
        for end in (*cuts, state.total):
            kept._kept.clear()
            state, part = self.advance(through(state), end - state.drawn)
            parts.append(draws_of(part))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def draws_of(part: Segment) -> Draws:
    """Give the draws of a segment, and its statistics but the times."""
    drawn = dict(part.samples)
    for number, kinds in enumerate(part.stats):
        for name in kinds.keys() - {"warning"}:
            if not name.startswith(("perf_", "process_")):
                drawn[f"{number} {name}"] = kinds[name]
    return drawn


def assert_same_draws(one: Draws, other: Draws) -> None:
    assert one.keys() == other.keys()
    for name, values in other.items():
        assert one[name].dtype == values.dtype
        assert np.array_equal(one[name], values, equal_nan=values.dtype.kind == "f"), name


def normal() -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x", shape=3)
        s = pm.HalfNormal("s")
        pm.Normal("y", x.sum(), s, observed=[0.1, -0.4, 0.3])
    return model


def discrete() -> pm.Model:
    with pm.Model() as model:
        b = pm.Bernoulli("b", 0.4, shape=3)
        z = pm.Categorical("z", [0.2, 0.3, 0.5], shape=2)
        n = pm.Poisson("n", 3.0)
        pm.Normal("y", n + z.sum() * b.sum(), 1.0, observed=[2.0, 3.0])
    return model
