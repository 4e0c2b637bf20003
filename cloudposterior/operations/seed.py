"""Seeds: what a seed means for a key, and how it is written down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["recorded_seed", "seed_attribute", "seed_value"]


def seed_value(seed: Any) -> Any:
    """Give equal seeds one form, made of plain values.

    Parameters
    ----------
    seed : None, int, sequence of int, numpy.random.Generator or numpy.random.BitGenerator
        What `pymc.sample` takes as ``random_seed``.

    Returns
    -------
    None, int, list or dict
        None stays None: any posterior sample will do. A generator is its state, together with the
        seed sequence, from which PyMC spawns the streams of the chains. Anything else is given
        back as it is.
    """
    if isinstance(seed, np.random.Generator):
        seed = seed.bit_generator
    if isinstance(seed, np.random.BitGenerator):
        return {
            "bit_generator": type(seed).__name__,
            "state": _plain(seed.state),
            "seed_seq": _sequence(seed.seed_seq),
        }
    if isinstance(seed, np.random.SeedSequence):
        return _sequence(seed)
    if isinstance(seed, np.integer):
        return int(seed)
    if isinstance(seed, np.ndarray | list | tuple):
        return np.asarray(seed).tolist()
    return seed


def _sequence(sequence: Any) -> Any:
    if not isinstance(sequence, np.random.SeedSequence):
        return None
    return {
        "entropy": _plain(sequence.entropy),
        "spawn_key": [int(key) for key in sequence.spawn_key],
        "pool_size": int(sequence.pool_size),
        "n_children_spawned": int(sequence.n_children_spawned),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def recorded_seed(seed: Any) -> Any:
    """Write down a seed, before a run moves it on, so that the run can be repeated."""
    value = seed_value(seed)
    return value if value is None or isinstance(value, int | list | dict) else repr(value)


def seed_attribute(seed: Any) -> int | str:
    """Write a recorded seed as an attribute that every netCDF writer takes.

    Returns
    -------
    int or str
        A whole number of 64 bits as it is; anything else as JSON.
    """
    if isinstance(seed, int) and not isinstance(seed, bool) and abs(seed) < 2**63:
        return seed
    return json.dumps(seed)
