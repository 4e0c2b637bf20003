"""What PyMC's step methods know, as plain values that a file can hold, and back.

Plain are `None`, booleans, numbers, text, lists, tuples, and numpy's arrays and scalars, each with
its exact type. Everything else is a dictionary with one key, which says what it is. Nothing is
looked up by a name that a file gives but the classes of states that are there already, and those
are filled and not called: no file can make code run, or make any other object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
from pymc.step_methods.state import DataClassState
from pymc.util import RandomGeneratorState, random_generator_from_state

__all__ = ["read_plain", "write_plain"]

_FEW = 4
"""Lists of at least so many values of one kind are written as an array."""

_BARE = (type(None), bool, int, float, str)
_KINDS = frozenset("biufcmMSU")
"""Kinds of arrays whose bytes are their value."""

_GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})
_SEED = frozenset({"entropy", "spawn_key", "pool_size", "n_children_spawned"})
_LARGEST_POOL = 1024
_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (ValueError, np.linalg.LinAlgError)
}
"""What a mass matrix keeps of a matrix that was not positive definite."""


def write_plain(value: Any, where: str) -> Any:
    """Write a value down.

    Parameters
    ----------
    value : Any
        The value; plain ones share its arrays.
    where : str
        What it is called in messages.

    Raises
    ------
    TypeError
        If it, or something in it, cannot be written down; the message names it.
    """
    kind = type(value)
    if kind in _BARE or (isinstance(value, np.generic) and value.dtype.kind in _KINDS):
        return value
    if isinstance(value, DataClassState):
        return _write_state(value, where)
    if isinstance(value, np.dtype):
        return _write_dtype(value, where)
    if kind in _WRITERS:
        return _WRITERS[kind](value, where)
    raise TypeError(f"{where} is of type {_name_of(kind)}, which no file holds")


def read_plain(plain: Any) -> Any:
    """Make the value again that `write_plain` wrote down.

    Raises
    ------
    ValueError, TypeError, LookupError, AttributeError, RecursionError
        If this is nothing that it gives.
    """
    kind = type(plain)
    if kind in _BARE or isinstance(plain, np.generic):
        return plain
    if kind is np.ndarray:
        return _expected(plain, plain.dtype.kind in _KINDS)
    if kind in (list, tuple):
        return kind(map(read_plain, plain))
    ((tag, body),) = plain.items()
    return _READERS[tag](body)


def _expected(value: Any, holds: bool) -> Any:
    if not holds:
        raise ValueError(f"{str(value)[:80]!r} is not of the form that it is said to have")
    return value


# states of step methods


def _write_state(state: DataClassState, where: str) -> dict[str, Any]:
    name = _name_of(type(state))
    if _classes().get(name) is not type(state):
        raise TypeError(f"{where} is of type {name}, and there are two of that name")
    if set(vars(state)) != {f.name for f in fields(state)}:
        raise TypeError(f"{where} is of type {name}, and holds more or less than its fields")
    held = [[k, write_plain(v, f"{where}.{k}")] for k, v in vars(state).items()]
    return {"state": [name, held]}


def _read_state(body: Any) -> DataClassState:
    name, held = body
    kind = _classes()[name]
    values = {key: read_plain(value) for key, value in held}
    if kind is None or {f.name for f in fields(kind)} != set(values):
        raise ValueError(f"the state {name} has other fields here")
    # as pickle does it: nobody's code runs
    state: DataClassState = object.__new__(kind)
    vars(state).update(values)
    return state


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _classes() -> dict[str, Any]:
    """Give the classes of states that are there, by name; None for a name that two have."""
    found: dict[str, Any] = {}
    for kind in _below(DataClassState):
        name = _name_of(kind)
        found[name] = kind if found.get(name, kind) is kind else None
    return found


def _below(kind: type) -> Iterator[type]:
    child: type
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


# arrays, and lists of many


def _write_array(array: np.ndarray[Any, Any], where: str) -> Any:
    if array.dtype.kind not in _KINDS:
        raise TypeError(f"{where} is an array of {array.dtype}, which no file holds")
    # BLAS gives other last bits for a matrix that lies the other way
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        return {"columns": array.T}
    return array


def _write_list(values: list[Any], where: str) -> Any:
    kinds = {_kind_of_many(value) for value in values}
    if len(values) < _FEW or len(kinds) > 1 or None in kinds:
        return [write_plain(value, f"{where}[{i}]") for i, value in enumerate(values)]
    # such as the history of a chain
    return {"floats" if kinds == {float} else "arrays": np.array(values)}


def _kind_of_many(value: Any) -> Any:
    """Say what values must have in common to lie in one array; None where they cannot."""
    if type(value) is float:
        return float
    is_array = type(value) is np.ndarray and value.ndim > 0 and value.flags.c_contiguous
    if is_array or isinstance(value, np.generic):
        plain = value.dtype.kind in "biufc" and value.dtype.isnative
        return (type(value), value.dtype, value.shape) if plain else None
    return None


def _read_columns(body: Any) -> Any:
    return _expected(read_plain(body), type(body) is np.ndarray).T


def _read_arrays(body: Any) -> list[Any]:
    # each on its own, as they were
    return [value.copy() for value in _expected(read_plain(body), type(body) is np.ndarray)]


def _read_floats(body: Any) -> list[float]:
    return [float(value) for value in read_plain(body)]


# all else


def _write_tuple(values: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    return tuple(write_plain(value, f"{where}[{i}]") for i, value in enumerate(values))


def _write_dict(values: dict[Any, Any], where: str) -> dict[str, Any]:
    if not all(type(key) is str for key in values):
        raise TypeError(f"{where} is a dictionary with keys that are no text")
    return {"dict": [[k, write_plain(v, f"{where}[{k!r}]")] for k, v in values.items()]}


def _write_dtype(dtype: np.dtype[Any], where: str) -> dict[str, Any]:
    if dtype.kind not in _KINDS or dtype.metadata is not None:
        raise TypeError(f"{where} is the dtype {dtype}, which no file holds")
    return {"dtype": dtype.str}


def _read_dtype(body: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(str(body))
    return dtype


def _write_generator(state: RandomGeneratorState, where: str) -> dict[str, Any]:
    return {"generator": [write_plain(part, where) for part in state]}


def _read_generator(body: Any) -> RandomGeneratorState:
    bits, seed = map(read_plain, body)
    # PyMC looks the first up in numpy by its name, and calls it
    _expected(bits["bit_generator"], bits["bit_generator"] in _GENERATORS)
    _expected(seed, set(seed) == _SEED and seed["pool_size"] <= _LARGEST_POOL)
    state = RandomGeneratorState(bits, seed)
    random_generator_from_state(state)
    return state


def _write_error(error: Exception, where: str) -> dict[str, Any]:
    return {"error": [type(error).__name__, *_write_tuple(error.args, where)]}


def _read_error(body: Any) -> Exception:
    name, *args = body
    return _ERRORS[name](*map(read_plain, args))


_WRITERS: dict[type, Callable[[Any, str], Any]] = {
    np.ndarray: _write_array,
    list: _write_list,
    tuple: _write_tuple,
    dict: _write_dict,
    RandomGeneratorState: _write_generator,
    **dict.fromkeys(_ERRORS.values(), _write_error),
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "state": _read_state,
    "columns": _read_columns,
    "arrays": _read_arrays,
    "floats": _read_floats,
    "dict": lambda body: {_expected(k, type(k) is str): read_plain(v) for k, v in body},
    "dtype": _read_dtype,
    "generator": _read_generator,
    "error": _read_error,
}
