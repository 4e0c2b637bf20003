"""What PyMC compiles for predictions and densities, once for all blocks that a worker computes.

The one file that knows how PyMC comes to these functions; `tests/operations/test_compiled.py` fails
when it comes to them in another way.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pymc.pytensorf
import pymc.sampling.forward
import pymc.stats.log_density

from cloudposterior.samplers.doors import doors
from cloudposterior.samplers.kept import KeptModel
from cloudposterior.samplers.seeds import seeds_of

__all__ = ["compiled_once"]


@contextmanager
def compiled_once(
    kept: KeptModel, key: Hashable, seeds: Sequence[tuple[int, int]] = ()
) -> Iterator[list[float]]:
    """Have PyMC find what it compiled for a call before, in this thread.

    Parameters
    ----------
    kept : KeptModel
        The model; its lock is held.
    key : hashable
        Tells apart calls for which other functions are compiled.
    seeds : sequence of tuple of int
        For so many draws, one after the other, each of these seeds; none for the one that PyMC is
        given, for all of them.

    Yields
    ------
    list of float
        For how long something was compiled, each time, in seconds.
    """
    keeping = _Keeping(kept, key)
    forward = _forward(keeping, seeds)
    with (
        doors(pymc.sampling.forward, compile_forward_sampling_function=forward),
        doors(pymc.stats.log_density, remove_value_transforms=_untransformed(keeping)),
        _deterministics(keeping),
    ):
        yield keeping.seconds


@dataclass
class _Keeping:
    """Keeps what is compiled with the model that it is compiled for."""

    kept: KeptModel
    key: Hashable
    seconds: list[float] = field(default_factory=list)

    def once(self, kind: Hashable, compile_it: Callable[[], Any]) -> Any:
        """Give what was compiled, or compile it."""

        def timed() -> Any:
            began = time.perf_counter()
            try:
                return compile_it()
            finally:
                self.seconds.append(time.perf_counter() - began)

        return self.kept.once((kind, self.key), timed)


def _forward(keeping: _Keeping, seeds: Sequence[tuple[int, int]]) -> Callable[..., Any]:
    """Compile what draws predictions once, and give it the seed of each block."""

    def answer(own: Callable[..., Any], *args: Any, random_seed: Any, **kwargs: Any) -> Any:
        def compile_it() -> tuple[Any, list[Any]]:
            generators: list[Any] = []

            def note(own: Callable[..., Any], rngs: Any, seed: Any) -> None:
                generators.extend(rngs)
                own(rngs, seed)

            with doors(pymc.pytensorf, reseed_rngs=note):
                return own(*args, random_seed=random_seed, **kwargs), generators

        (draw, volatile), generators = keeping.once("forward", compile_it)
        pymc.pytensorf.reseed_rngs(generators, random_seed)
        return _seeded(draw, generators, seeds) if seeds else draw, volatile

    return answer


def _seeded(
    draw: Callable[..., Any], generators: list[Any], seeds: Sequence[tuple[int, int]]
) -> Callable[..., Any]:
    """Draw with each of the seeds for as many draws as it counts for."""
    starts = itertools.accumulate((draws for draws, _ in seeds), initial=0)
    anew = dict(zip(starts, (seed for _, seed in seeds), strict=False))
    numbers = itertools.count()

    def seeded(*args: Any, **kwargs: Any) -> Any:
        seed = anew.get(next(numbers))
        if seed is not None:
            pymc.pytensorf.reseed_rngs(generators, *seeds_of(seed, 1))
        return draw(*args, **kwargs)

    # PyMC asks it for its inputs
    seeded.maker = draw.maker  # type: ignore[attr-defined]
    return seeded


def _untransformed(keeping: _Keeping) -> Callable[..., Any]:
    """Keep the model that densities are computed with, and what is compiled for it."""

    def answer(own: Callable[..., Any], model: Any) -> Any:
        def make() -> Any:
            other = own(model)
            logp, compile_fn = other.logp, other.compile_fn
            # the graph itself is made when there is something to compile
            other.logp = lambda **asked: asked

            def once(*, outs: Any, **kwargs: Any) -> Any:
                names = tuple(str(v.name) for v in outs["vars"])
                return keeping.once(
                    ("density", names), lambda: compile_fn(outs=logp(**outs), **kwargs)
                )

            other.compile_fn = once
            return other

        return keeping.once("untransformed", make)

    return answer


@contextmanager
def _deterministics(keeping: _Keeping) -> Iterator[None]:
    """Compile deterministics once; predictions are compiled by the same method, and kept above."""
    model = keeping.kept.model
    compile_fn = model.compile_fn

    def answer(*args: Any, **kwargs: Any) -> Any:
        if "outs" not in kwargs:
            return compile_fn(*args, **kwargs)
        names = tuple(str(v.name) for v in kwargs["outs"])
        return keeping.once(("deterministics", names), lambda: compile_fn(*args, **kwargs))

    model.compile_fn = answer
    try:
        yield
    finally:
        del model.compile_fn
