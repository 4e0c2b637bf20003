"""How plain Python objects are written: containers, arrays, tables, and whatever pickle knows.

An instance is the callable, arguments and state that ``__reduce_ex__`` gives, each walked in turn.
"""

from __future__ import annotations

import collections
import copyreg
import enum
import functools
import io
import sys
import types
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from cloudposterior.errors import TokenError
from cloudposterior.identity.arrays import array_digest, digest_bytes, dtype_name
from cloudposterior.identity.origin import find_global, named_origin, release
from cloudposterior.identity.walk import Stream, rule

__all__ = ["write_array", "write_items"]

# Open on the outside world or on a moment of the program: no value can be read from them.
_OPAQUE = (
    io.IOBase,
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
    types.FrameType,
    types.TracebackType,
    memoryview,
    weakref.ref,
)


_ENUM_NOTES = {"_name_", "__objclass__", "_sort_order_", "_inverted_"}


@rule(tuple, list, collections.deque)
def _sequence(obj: Iterable[object], stream: Stream) -> None:
    if type(obj) not in (tuple, list):
        return _reduced(obj, stream)
    stream.text(b"seq", f"{type(obj).__name__} {len(obj)}")  # type: ignore[arg-type]
    for item in obj:
        stream.write(item)


@rule(dict)
def _dict(obj: dict[object, object], stream: Stream) -> None:
    if type(obj) is not dict:
        return _reduced(obj, stream)
    write_items(obj, stream)


@rule(types.MappingProxyType)
def _mapping_proxy(obj: types.MappingProxyType[object, object], stream: Stream) -> None:
    write_items(dict(obj), stream)


def write_items(mapping: dict[object, object], stream: Stream) -> None:
    """Write a mapping in its order, which is part of what a program can see of it."""
    stream.text(b"dict", str(len(mapping)))
    for key, value in mapping.items():
        stream.write(key)
        with stream.walk.at(f"[{key!r:.60}]" if type(key) in (str, int) else "a value"):
            stream.write(value)


@rule(set, frozenset)
def _set(obj: Iterable[object], stream: Stream) -> None:
    if type(obj) not in (set, frozenset):
        return _reduced(obj, stream)
    # the order of a set changes with the hash seed
    members = sorted(_member(item, stream) for item in obj)
    stream.text(b"set", f"{type(obj).__name__} {len(members)}")
    for member in members:
        stream.put(b"member", member)


def _member(item: object, stream: Stream) -> bytes:
    inner = stream.branch()
    inner.write(item)
    return inner.digest()


@rule(slice)
def _slice(obj: slice, stream: Stream) -> None:
    stream.put(b"slice")
    for part in (obj.start, obj.stop, obj.step):
        stream.write(part)


@rule(range)
def _range(obj: range, stream: Stream) -> None:
    stream.text(b"range", repr(obj))


@rule(bytearray)
def _bytearray(obj: bytearray, stream: Stream) -> None:
    stream.put(b"bytearray", bytes(obj))


@rule(np.dtype)
def _dtype(obj: np.dtype, stream: Stream) -> None:
    stream.text(b"dtype", dtype_name(obj))


@rule(np.generic)
def _numpy_scalar(obj: np.generic, stream: Stream) -> None:
    stream.put(b"numpy scalar")
    write_array(np.asarray(obj), stream)


@rule(np.ndarray)
def _array(obj: np.ndarray, stream: Stream) -> None:
    if type(obj) is np.ndarray:
        return write_array(obj, stream)
    if isinstance(obj, np.ma.MaskedArray):
        stream.put(b"masked")
        stream.write(type(obj))
        for part in (np.asarray(obj.data), np.ma.getmaskarray(obj), obj.fill_value):
            stream.write(part)
    else:
        stream.put(b"array subclass")
        stream.write(type(obj))
        write_array(np.asarray(obj), stream)
        stream.write(dict(getattr(obj, "__dict__", {})))


def write_array(array: np.ndarray, stream: Stream) -> None:
    """Write a plain array: every byte of it, or each object it holds."""
    if not array.dtype.hasobject:
        stream.put(b"array", stream.walk.digest(array, _array_content(array), kind="array"))
        return
    stream.text(b"object array", f"{dtype_name(array.dtype)} {array.shape}")
    if _all_text(array):
        # a million labels are one pass, not a million
        stream.put(b"text", _text_digest(array))
        return
    for item in array.ravel().tolist():
        stream.write(item)


def _array_content(array: np.ndarray) -> functools.partial[None]:
    return functools.partial(_put_array, array)


def _put_array(array: np.ndarray, stream: Stream) -> None:
    stream.put(b"data", array_digest(array))


def _all_text(array: np.ndarray) -> bool:
    return array.dtype == object and array.size > 0 and set(map(type, array.flat)) == {str}


def _text_digest(array: np.ndarray) -> bytes:
    items = array.ravel().tolist()
    lengths = np.fromiter(map(len, items), dtype="<u8", count=len(items))
    text = "".join(items).encode("utf-8", "surrogatepass")
    return digest_bytes(lengths.tobytes(), text)


@rule(np.ufunc)
def _ufunc(obj: np.ufunc, stream: Stream) -> None:
    for module_name in ("numpy", "scipy.special"):
        if find_global(module_name, obj.__name__) is obj:
            stream.text(b"ufunc", f"{module_name}.{obj.__name__} {release(module_name)}")
            return
    raise stream.walk.refuse(
        f"the ufunc {obj.__name__!r} was made from a function that cannot be read from it"
    )


@rule(np.vectorize)
def _vectorize(obj: np.vectorize, stream: Stream) -> None:
    # its dictionary also keeps compiled ufuncs once it was called
    stream.put(b"vectorize")
    for name in ("pyfunc", "otypes", "excluded", "signature", "cache"):
        stream.write(getattr(obj, name, None))


@rule(np.random.RandomState)
def _random_state(obj: np.random.RandomState, stream: Stream) -> None:
    if obj is np.random.mtrand._rand:
        # numpy's global one, seeded by the operating system: every frozen scipy distribution has it
        stream.put(b"global random state")
    else:
        _reduced(obj, stream)


@rule(enum.Enum)
def _enum_member(obj: enum.Enum, stream: Stream) -> None:
    stream.text(b"enum member", str(obj.name))
    stream.write(type(obj))
    stream.write({k: v for k, v in sorted(vars(obj).items()) if k not in _ENUM_NOTES})


@rule(functools.partial)
def _partial(obj: functools.partial[object], stream: Stream) -> None:
    if type(obj) is not functools.partial:
        return _reduced(obj, stream)
    stream.put(b"partial")
    for part in (obj.func, obj.args, obj.keywords, dict(obj.__dict__)):
        stream.write(part)


@rule(object)
def _reduced(obj: object, stream: Stream) -> None:
    """Write an instance by what pickle would rebuild it from."""
    walk = stream.walk
    if obj is sys.stdout or obj is sys.stderr:
        stream.put(b"standard output")  # where a function prints is no part of what it gives
        return
    if isinstance(obj, _OPAQUE):
        raise walk.refuse(f"a {type(obj).__name__} has no value that could be read: {obj!r:.80}")
    if type(obj).__module__.startswith("numba."):
        return _numba(obj, stream)
    reduced = _reduce(obj, stream)
    if isinstance(reduced, str):
        return _by_name(obj, reduced, stream)
    function, arguments, *rest = reduced
    stream.text(b"instance", str(len(reduced)))
    stream.write(function)
    stream.write(arguments)
    state, items, pairs, *others = _padded(rest)
    with walk.at(type(obj).__name__):
        stream.write(_plain_state(state))
        stream.write(None if items is None else list(items))
        stream.write(None if pairs is None else list(pairs))
        for other in others:
            stream.write(other)


def _numba(obj: Any, stream: Stream) -> None:
    """Write what numba compiles by its Python function: its pickle has an identifier of chance."""
    for holder in (obj, getattr(obj, "_dispatcher", None), getattr(obj, "gufunc_builder", None)):
        function = getattr(holder, "py_func", None)
        if function is not None:
            stream.text(b"numba", type(obj).__qualname__)
            stream.write(function)
            stream.write(str(getattr(obj, "signature", "")))
            stream.write(dict(getattr(holder, "targetoptions", None) or {}))
            stream.write(sorted(str(t) for t in getattr(obj, "types", None) or ()))
            return
    raise stream.walk.refuse(f"numba's {type(obj).__name__} has no Python function to be read")


def _padded(rest: list[object]) -> list[Any]:
    return [*rest, *[None] * (4 - len(rest))]


def _plain_state(state: object) -> object:
    # the order in which attributes were set is not part of an object
    if type(state) is dict and all(type(key) is str for key in state):
        return {key: state[key] for key in sorted(state)}
    if type(state) is tuple and len(state) == 2:
        return tuple(_plain_state(part) if type(part) is dict else part for part in state)
    return state


def _reduce(obj: object, stream: Stream) -> str | tuple[object, ...]:
    reducer = copyreg.dispatch_table.get(type(obj))
    try:
        reduced = reducer(obj) if reducer is not None else obj.__reduce_ex__(4)
    except TokenError:
        raise
    except Exception as error:  # whatever a class raises to say that it cannot be taken apart
        raise stream.walk.refuse(
            f"{type(obj).__module__}.{type(obj).__qualname__} has no value that could be read "
            f"({type(error).__name__}: {error})"
        ) from error
    if isinstance(reduced, str | tuple):
        return reduced
    raise stream.walk.refuse(f"{type(obj).__qualname__}.__reduce_ex__ gave {type(reduced)}")


def _has_hidden_code(obj: object) -> bool:
    """Tell a callable that is not written in Python, as Cython's functions are not."""
    written = any(
        isinstance(vars(c).get("__call__"), types.FunctionType) for c in type(obj).__mro__
    )
    return callable(obj) and not written


def _by_name(obj: object, name: str, stream: Stream) -> None:
    """Write an object that pickles as the name of a global."""
    module_name = getattr(obj, "__module__", None) or type(obj).__module__
    version = release(module_name)
    if version is not None and find_global(module_name, name) is obj:
        stream.text(b"global", f"{module_name}:{name}:{version}")
    elif named_origin(obj) is None and hasattr(obj, "__dict__") and not _has_hidden_code(obj):
        # the user's own: a name says nothing of what it holds
        stream.put(b"named instance")
        stream.write(type(obj))
        stream.write(_plain_state(dict(vars(obj))))
    else:
        raise stream.walk.refuse(f"{name!r} is only a name, with nothing to read behind it")
