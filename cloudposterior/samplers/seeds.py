"""Seeds on their way to a worker, and the seeds of single chains."""

from __future__ import annotations

from typing import Any

import numpy as np
from pymc.util import (
    RandomGeneratorState,
    _get_seeds_per_chain,
    get_random_generator,
    get_state_from_generator,
    random_generator_from_state,
)

__all__ = ["chain_seed", "packed_seed", "seeds_of", "unpacked_seed"]


def packed_seed(seed: Any) -> Any:
    """Write a seed down as it is now; pickle forgets what a generator has spawned.

    Parameters
    ----------
    seed : int, sequence of int, numpy.random.Generator or numpy.random.BitGenerator
        What `pymc.sample` takes as ``random_seed``, but None.
    """
    if isinstance(seed, np.random.Generator | np.random.BitGenerator):
        return get_state_from_generator(seed)
    return seed


def unpacked_seed(packed: Any) -> Any:
    """Give a seed that `packed_seed` wrote down, once more as it was."""
    if isinstance(packed, RandomGeneratorState):
        return random_generator_from_state(packed)
    return packed


def chain_seed(packed: Any, chain: int, chains: int) -> int:
    """Give the seed of one chain, drawn as PyMC draws those of its own samplers.

    Parameters
    ----------
    packed : Any
        The seed of the run.
    chain, chains : int
        The number of the chain, and of how many.
    """
    generator = get_random_generator(unpacked_seed(packed)).spawn(chains)[chain]
    return int(generator.integers(2**30))


def seeds_of(seed: Any, count: int) -> list[int]:
    """Give the seeds that PyMC draws with where it takes no generator; one moves on.

    Parameters
    ----------
    seed : int, sequence of int, numpy.random.Generator or numpy.random.RandomState
        What `pymc.sample_posterior_predictive` takes as ``random_seed``, but None.
    count : int
        How many of them.
    """
    return [int(one) for one in _get_seeds_per_chain(seed, count)]
