"""Where a chain of PyMC's own samplers stands, as what a cache can hold, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from pymc.step_methods.state import DataClassState
from xarray import DataTree

from cloudposterior.samplers.plain_values import read_plain, write_plain
from cloudposterior.samplers.protocol import State, Tally
from cloudposterior.samplers.pymc_chains import Held

__all__ = ["plain_of", "state_of", "states_of_tree", "tree_of_states"]

_SMALL_BYTES = 1024
"""Arrays below this size stay with the other values, larger ones are variables."""

_NUMBERS = frozenset("?bBhHiIlLqQefdFD")
"""Types of arrays that netCDF holds; the longer floats stay with the other values, too."""

_UNREADABLE = (TypeError, LookupError, AttributeError, OverflowError, RecursionError)


def plain_of(state: State) -> dict[str, Any]:
    """Write down where a chain stands.

    Parameters
    ----------
    state : State
        Of a chain that `PyMCChains` can go on with.

    Returns
    -------
    dict
        Of plain values, as `plain_values` says; shares its arrays with the state.

    Raises
    ------
    TypeError
        If something cannot be written down; the message names it.
    """
    if not isinstance(state.held, Held):
        raise TypeError("a chain that is drawn whole has no state to go on from")
    sampling_state, counters = state.held.step
    return {
        "chains": state.chains,
        "drawn": state.drawn,
        "total": state.total,
        "tally": dict(vars(state.tally)),
        "point": write_plain(dict(state.held.point), "point"),
        "step": write_plain(sampling_state, type(sampling_state).__name__),
        "counters": write_plain(counters, "counters"),
    }


def state_of(plain: Any) -> State:
    """Make the state again that `plain_of` wrote down.

    Parameters
    ----------
    plain : dict
        What it gave; anything else does no harm.

    Raises
    ------
    ValueError
        If this is no such state, or one of another version of PyMC.
    """
    try:
        return _state(**plain)
    except _UNREADABLE as error:
        raise ValueError(f"this is no state of a chain: {error}") from error


def _state(
    *, chains: Any, drawn: Any, total: Any, tally: Any, point: Any, step: Any, counters: Any
) -> State:
    _check(type(chains) is tuple and chains and all(type(c) is int for c in chains), "chains")
    _check(type(drawn) is int and type(total) is int and 0 <= drawn <= total, "draws")
    _check(set(tally) == set(vars(Tally())), "tally")
    _check(all(type(value) in (type(None), int, float) for value in tally.values()), "tally")
    held = Held(read_plain(point), (read_plain(step), read_plain(counters)))
    _check(_is_point(held.point), "point")
    _check(isinstance(held.sampling_state, DataClassState), "step")
    _check(_are_counters(held.step[1]), "counters")
    return State(chains, drawn, total, held, Tally(**tally))


def _check(holds: Any, part: str) -> None:
    if not holds:
        raise ValueError(f"this is no state of a chain: {part} of another form")


def _is_point(point: Any) -> bool:
    return type(point) is dict and all(
        isinstance(v, np.ndarray | np.generic) for v in point.values()
    )


def _are_counters(counters: Any) -> bool:
    return type(counters) is list and all(
        type(one) is dict and all(type(v) in (bool, int, float) for v in one.values())
        for one in counters
    )


def tree_of_states(states: Mapping[int, State]) -> DataTree:
    """Write down where chains stand, as a tree that a cache can hold.

    Parameters
    ----------
    states : mapping of int to State
        By the number of the chain.

    Returns
    -------
    xarray.DataTree
        A group for each chain: large arrays are its variables, all else is its attribute ``state``.

    Raises
    ------
    TypeError
        If something cannot be written down; the message names it.
    """
    groups = {}
    for chain, state in states.items():
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        plain = _without_arrays(plain_of(state), arrays)
        variables = {
            name: (tuple(f"{name}_dim_{i}" for i in range(array.ndim)), array)
            for name, array in arrays.items()
        }
        groups[f"chain_{chain}"] = xr.Dataset(variables, attrs={"state": plain})
    return DataTree.from_dict(groups)


def states_of_tree(tree: DataTree) -> dict[int, State]:
    """Make the states again that `tree_of_states` wrote down.

    Parameters
    ----------
    tree : xarray.DataTree
        What it gave; anything else does no harm.

    Raises
    ------
    ValueError
        If this is no such tree, or one of another version of PyMC.
    """
    states = {}
    for name, group in tree.children.items():
        arrays = {str(k): v.to_numpy() for k, v in group.to_dataset().data_vars.items()}
        try:
            plain = _with_arrays(group.attrs["state"], arrays)
        except _UNREADABLE as error:
            raise ValueError(f"this is no state of a chain: {error}") from error
        states[int(name.removeprefix("chain_"))] = state_of(plain)
    return states


def _without_arrays(plain: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Put the large arrays apart, and leave the name of each in its place."""
    kind = type(plain)
    if kind is dict:
        return {key: _without_arrays(value, arrays) for key, value in plain.items()}
    if kind in (list, tuple):
        return kind(_without_arrays(value, arrays) for value in plain)
    if kind is np.ndarray and plain.nbytes >= _SMALL_BYTES and plain.dtype.char in _NUMBERS:
        name = f"array_{len(arrays)}"
        arrays[name] = plain
        return {"variable": name}
    return plain


def _with_arrays(plain: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    kind = type(plain)
    if kind is dict and set(plain) == {"variable"}:
        return arrays[plain["variable"]]
    if kind is dict:
        return {key: _with_arrays(value, arrays) for key, value in plain.items()}
    if kind in (list, tuple):
        return kind(_with_arrays(value, arrays) for value in plain)
    return plain
