"""What a worker does for a call: blocks of draws, or the whole of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cloudposterior.identity.walk import Walk
from cloudposterior.operations.call import FunctionCall
from cloudposterior.operations.calls import make_call
from cloudposterior.operations.compiled import compiled_once
from cloudposterior.operations.given import Block, Groups, content
from cloudposterior.samplers.kept import KeptModel, keep_model
from cloudposterior.samplers.protocol import Run
from cloudposterior.samplers.seeds import unpacked_seed
from cloudposterior.samplers.surroundings import Said, said_kept, settings_of
from cloudposterior.shipping import unpack_arguments, unpack_model

__all__ = ["Computed", "compute_blocks", "compute_whole"]


@dataclass(frozen=True)
class Computed:
    """What came of a block, or of the whole.

    Attributes
    ----------
    block : Block or None
        The block; None for the whole.
    samples : xarray.DataTree or SMCChain
        Its result.
    elapsed_s : float
        How long it took, in seconds, without what was compiled for it.
    compiled_s : float
        How long that took.
    said : tuple of Said
        What PyMC logged and warned of.
    """

    block: Block | None
    samples: Any
    elapsed_s: float
    compiled_s: float = 0.0
    said: tuple[Said, ...] = ()


def compute_blocks(
    name: str,
    model: bytes,
    run: Run,
    data: Groups,
    blocks: Sequence[tuple[Block, Groups]],
    seeds: Sequence[tuple[int, int]] = (),
) -> list[Computed]:
    """Compute a call for some of its draws.

    Parameters
    ----------
    name : str
        The function.
    model : bytes
        The model.
    run : Run
        The call, without its draws.
    data : mapping of str to xarray.Dataset
        Groups of the posterior that count for every block.
    blocks : sequence of tuple of Block and mapping
        The blocks, with their draws.
    seeds : sequence of tuple of int
        For so many draws, one after the other, each of these seeds, where one block stands for
        several; none for the seed of each block.
    """
    with _surrounded(name, model, run) as (kept, said):
        key = _key(name, kept, run, data, blocks[0])
        call = _call(name, kept.model, unpack_arguments(run.arguments, kept.model))
        computed = []
        for block, draws in blocks:
            began = time.perf_counter()
            with compiled_once(kept, key, seeds) as compiling:
                found = call.compute_block(block, {**draws, **data}, run.seed)
            elapsed, compiled = time.perf_counter() - began, sum(compiling)
            computed.append(Computed(block, found, elapsed - compiled, compiled, tuple(said)))
            said.clear()
        return computed


def compute_whole(name: str, model: bytes, run: Run, watch: Callable[..., None]) -> list[Computed]:
    """Compute all of a call.

    Parameters
    ----------
    name, model, run
        As for `compute_blocks`.
    watch : callable
        Told how far it is, in words, where the function says so.
    """
    began = time.perf_counter()
    said: list[Said] = []
    with settings_of(run.settings), said_kept(said):
        # its own: some functions leave their mark on a model
        own = unpack_model(model)
        call = _call(name, own, unpack_arguments(run.arguments, own))
        call.arguments.update(call.watched_by(watch))
        if call.is_random:
            call.arguments["random_seed"] = unpacked_seed(run.seed)
        with own:
            result = call.compute(**call.arguments)
        tree = call.tree_of(result)
    return [Computed(None, tree, time.perf_counter() - began, 0.0, tuple(said))]


def _call(name: str, model: Any, arguments: dict[str, Any]) -> FunctionCall:
    call = make_call(name, model, (), arguments, on_cluster=True)
    assert isinstance(call, FunctionCall)
    call.arguments.update(call.on_a_worker())
    return call


def _key(
    name: str, kept: KeptModel, run: Run, data: Groups, block: tuple[Block, Groups]
) -> tuple[Any, ...]:
    """Tell apart what is compiled for a call.

    It depends on which variables have draws, and on the data and coordinates that they were drawn
    with: what has changed since, and all that depends on it, is drawn anew.
    """
    draws = block[1].get("posterior")
    names = None if draws is None else sorted(map(str, draws.data_vars))
    coords = {} if draws is None else draws.coords
    known = {
        str(name): (v.dims, v.to_numpy())
        for name, v in coords.items()
        if block[0].where.keys().isdisjoint(v.dims)
    }
    groups = {group: content(dataset) for group, dataset in sorted(data.items())}
    return name, run.arguments, kept.token, Walk().value([names, known, groups])


@contextmanager
def _surrounded(name: str, model: bytes, run: Run) -> Iterator[tuple[KeptModel, list[Said]]]:
    """Give this process's model, with the settings of the client."""
    said: list[Said] = []
    # one for each function: after some, PyMC 5 cannot differentiate it any more
    kept = keep_model(replace(run, structure=f"{run.structure} {name}"), model)
    with kept.lock, kept.model, settings_of(run.settings), said_kept(said):
        kept.use_data(run, model)
        yield kept, said
