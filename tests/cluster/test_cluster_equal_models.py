"""A worker keeps one model for all that are equal: their arguments fit it, however it was built."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytest
from distributed import Client

from cloudposterior.identity.model import components, token_of

from .models import Y
from .sameness import Options, assert_same_result, on_cluster, plain

pytestmark = pytest.mark.usefixtures("quick_compiling", "cut_small")


def build(*, again: bool) -> pm.Model:
    """Use an expression twice, or write it down twice, which is one to a token."""
    with pm.Model(name="equal") as model:
        x = pm.Normal("x", shape=len(Y))

        def doubled() -> Any:
            return x * np.linspace(1.0, 2.0, len(Y))

        once = doubled()
        spread = pm.HalfNormal("spread", 1.0)
        pm.Potential("p", -(once**2).sum())
        pm.Normal("y", doubled() if again else once, spread, observed=Y)
    return model


def arguments(model: pm.Model, kind: str) -> Options:
    x, spread = model["x"], model["spread"]
    if kind == "initvals":
        return {"initvals": {x: np.full(len(Y), 0.25), spread: 1.5}}
    return {"step": [pm.NUTS([x], model=model), pm.Metropolis([spread], model=model)]}


@pytest.mark.parametrize("kind", ["initvals", "step"])
@pytest.mark.parametrize("again", [True, False])
def test_equal_model_draws_as_plain_where_another_is_kept(
    again: bool, kind: str, two_workers: Client
) -> None:
    first, second = build(again=not again), build(again=again)
    assert token_of(components(first)) == token_of(components(second))
    on_cluster(first, two_workers, **arguments(first, kind))
    ours = on_cluster(second, two_workers, **arguments(second, kind))
    same = build(again=again)
    assert_same_result(ours, plain(same, **arguments(same, kind)))
