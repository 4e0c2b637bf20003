"""PyMC comes to what it compiles for blocks in the way that `operations.compiled` knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytensor
import pytest

from cloudposterior.operations.call import FunctionCall
from cloudposterior.operations.calls import make_call
from cloudposterior.operations.work import Computed, compute_blocks
from cloudposterior.samplers.protocol import Run
from cloudposterior.shipping import pack_arguments, pack_model

from .results import line, posterior_group, posterior_of, same

OPERATIONS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "sample_prior_predictive": lambda p: (250,),
    "sample_posterior_predictive": lambda p: (p,),
    "compute_log_likelihood": lambda p: (p,),
    "compute_log_prior": lambda p: (p,),
    "compute_deterministics": lambda p: (posterior_group(p),),
}


def computed(name: str, *, key: str) -> list[Computed]:
    """What a worker gives for the first four blocks."""
    model = line()
    call = make_call(name, model, OPERATIONS[name](posterior_of(model)), {}, on_cluster=True)
    assert isinstance(call, FunctionCall)
    blocks = call.blocks()
    assert blocks is not None
    arguments, _ = call.to_run()
    small = {k: v for k, v in arguments.items() if k not in ("model", "random_seed", *call.large)}
    run = Run(
        key="run",
        model=key,
        structure=key,
        arguments=pack_arguments(small, model),
        seed=1,
        chains=0,
        settings={**call.settings, "mode": "FAST_COMPILE"},
    )
    parts = [(block, blocks.draws(block)) for block in list(blocks)[:4]]
    return compute_blocks(name, pack_model(model), run, blocks.data, parts)


@pytest.mark.parametrize("name", OPERATIONS)
def test_function_is_compiled_once_and_gives_what_a_new_one_gives(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[int] = []
    function = pytensor.function

    def counting(*args: Any, **kwargs: Any) -> Any:
        compiled.append(1)
        return function(*args, **kwargs)

    monkeypatch.setattr(pytensor, "function", counting)
    # a model that this process has not kept yet
    first = computed(name, key=f"first {name}")
    assert len(compiled) == 1
    again = computed(name, key=f"first {name}")
    assert len(compiled) == 1
    anew = computed(name, key=f"second {name}")
    assert len(compiled) == 2
    for one, other, third in zip(first, again, anew, strict=True):
        assert same(one.samples, other.samples)
        assert same(one.samples, third.samples)


def test_log_says_what_is_drawn_once_for_each_call() -> None:
    said = [one.said for one in computed("sample_posterior_predictive", key="log")]
    assert any("line::y" in words[-1] for words in said[0])
