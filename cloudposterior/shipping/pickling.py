"""Pickle with what models need beyond cloudpickle, and what it takes apart in another way."""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
import numpy as np
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.ops import FromFunctionOp
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import Op
from pytensor.scan.op import Scan

from cloudposterior.identity.model import AnyModel
from cloudposterior.shipping.graphs import nodes
from cloudposterior.shipping.registrations import Registrations, with_registrations

__all__ = ["PROTOCOL", "Packer", "Unpacker"]

PROTOCOL = 5

# Compiled on first use, or made while differentiating, with what an op has before that.
_MADE_AGAIN: dict[type, dict[str, Any]] = {
    OpFromGraph: {"_fn": None, "_lop_op_cache": {}, "_rop_op_cache": None},
    Scan: {"_fn": None},
}


class Packer(cloudpickle.Pickler):  # type: ignore[misc]
    """Write objects, and refer by number to those that the reader has already.

    Parameters
    ----------
    file : io.BytesIO
        Where to.
    number : callable, optional
        Gives the number of an object that the reader has; None for one that is to be written.

    Attributes
    ----------
    met : object
        What was last taken apart. After a failure this is the object at fault.
    """

    def __init__(
        self, file: io.BytesIO, number: Callable[[object], int | None] = lambda obj: None
    ) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._number = number
        self.met: object = None

    @functools.cached_property
    def _registrations(self) -> Registrations:
        return Registrations()

    def persistent_id(self, obj: object) -> int | None:
        """Say by which number the reader has the object."""
        return self._number(obj)

    def reducer_override(self, obj: Any) -> Any:
        """Take an object apart."""
        self.met = obj
        if isinstance(obj, type):
            reduced = super().reducer_override(obj)
            if isinstance(reduced, tuple) and len(reduced) == 6:
                return with_registrations(obj, reduced, self._registrations)
            return reduced
        if isinstance(obj, Op):
            return _reduce_op(obj)
        if isinstance(obj, FunctionGraph):
            return _reduce_inner_graph(obj)
        if isinstance(obj, AnyModel):
            return _reduce_model(obj)
        if isinstance(obj, np.ndarray) and _loses_attributes(obj):
            return _reduce_array(obj)
        return super().reducer_override(obj)


class Unpacker(pickle.Unpickler):
    """Read what `Packer` wrote.

    Parameters
    ----------
    file : io.BytesIO
        Where from.
    held : sequence of object
        What is here already, at the numbers that the writer knows.
    """

    def __init__(self, file: io.BytesIO, held: Sequence[object] = ()) -> None:
        super().__init__(file)
        self._held = held

    def persistent_load(self, pid: int) -> object:
        """Give the object of a number."""
        return self._held[pid]


def _reduce_op(op: Op) -> Any:
    if hasattr(type(op).__reduce__, "__code__") and not _reducible(op):
        # its own way fails, and the usual one does not
        return copyreg.__newobj__, (type(op),), op.__getstate__()  # type: ignore[attr-defined]
    for cls, fresh in _MADE_AGAIN.items():
        if isinstance(op, cls):
            changed = {name: value for name, value in fresh.items() if hasattr(op, name)}
            return _with_state(op, changed)
    return NotImplemented


def _reducible(op: Op) -> bool:
    """Tell whether an op's own way of pickling works, in another process too."""
    try:
        reduced = op.__reduce_ex__(PROTOCOL)
    except pickle.PicklingError:
        return False
    if not isinstance(op, FromFunctionOp):
        return True
    module, _name = reduced[1]
    return module != "__main__" and module not in cloudpickle.list_registry_pickle_by_value()


def _reduce_inner_graph(graph: FunctionGraph) -> Any:
    make, arguments, *rest = graph.__reduce_ex__(PROTOCOL)
    return _make_after, (nodes(graph.outputs), make, arguments), *rest


def _make_after(_nodes: object, make: Any, arguments: tuple[Any, ...]) -> Any:
    return make(*arguments)


def _reduce_model(model: Any) -> Any:
    coords = {dim: _as_array(values) for dim, values in model._coords.items()}
    # compiled functions of a frozen model, which makes them again where there are none
    return _with_state(model, {"_coords": coords}, dropped="_cache")


def _with_state(obj: Any, changed: dict[str, Any], dropped: str = "") -> Any:
    """Reduce an object as it says itself, with some attributes changed."""
    reduced = obj.__reduce_ex__(PROTOCOL)
    if not (isinstance(reduced, tuple) and len(reduced) > 2 and isinstance(reduced[2], dict)):
        return reduced
    state = {k: v for k, v in {**reduced[2], **changed}.items() if k != dropped}
    return reduced[0], reduced[1], state, *reduced[3:]


def _loses_attributes(array: np.ndarray[Any, Any]) -> bool:
    """Tell an array of a subclass that has attributes and leaves pickling to numpy."""
    ways = "__reduce__", "__reduce_ex__", "__setstate__"
    inherited = all(getattr(type(array), way) is getattr(np.ndarray, way) for way in ways)
    return inherited and bool(getattr(array, "__dict__", None))


def _reduce_array(array: np.ndarray[Any, Any]) -> Any:
    reduced: Any = array.__reduce__()
    make, arguments, state = reduced
    return make, arguments, (state, vars(array)), None, None, _set_array


def _set_array(array: np.ndarray[Any, Any], whole: tuple[Any, dict[str, Any]]) -> None:
    state, attributes = whole
    array.__setstate__(state)
    vars(array).update(attributes)


class _Scalars:
    """A tuple of numpy's scalars, sent as one array."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values = values

    def __reduce__(self) -> Any:
        return tuple, (self.values,)


def _as_array(values: Any) -> Any:
    """Replace a long tuple of numpy's scalars of one type, as coordinates are kept."""
    if not isinstance(values, tuple) or len({type(value) for value in values}) != 1:
        return values
    if not isinstance(values[0], np.number | np.bool_ | np.datetime64 | np.timedelta64):
        return values
    if len({value.dtype for value in values}) != 1:  # dates, each with a unit of its own
        return values
    return _Scalars(np.fromiter(values, values[0].dtype, len(values)))
