"""How PyTensor ops and types are written: their class, and all the state they hold.

``__props__`` is not enough (some ops compare equal and compute differently), so the whole
``__dict__`` is taken, less what PyTensor itself fills in while it differentiates and compiles.
These attributes are left out by the class that fills them, never by a name that a user may use.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pymc.distributions.distribution
import pymc.logprob.abstract
from pytensor.compile import Function
from pytensor.compile.mode import Mode
from pytensor.graph.op import Op
from pytensor.graph.rewriting.db import RewriteDatabaseQuery
from pytensor.graph.type import Type
from pytensor.link.basic import Linker
from pytensor.misc.frozendict import frozendict
from pytensor.tensor.type import TensorType

from cloudposterior.identity.origin import module_release, named_origin, release
from cloudposterior.identity.walk import Stream, Walk, rule

__all__ = ["op_digest", "replaced_rules", "type_digest"]

# Filled in by PyTensor and PyMC after an op was made, by the class that does it. Both generations
# are listed; what a generation lacks does no harm.
_FILLED: dict[str, set[str]] = {
    "pytensor.compile.builders.OpFromGraph": {
        "_fn",
        "_lop_op_cache",
        "_rop_op_cache",
        "_frozen_lop",
        "_frozen_rop",
        "_connection_pattern",
        "_inner_shape_template",
        "_inner_shape_frozen",
        "_inner_shape_fgraph",
    },
    "pytensor.scan.op.Scan": {
        "_fn",
        "fn",
        "t_call",
        "t_fn",
        "_cmodule_key",
        "_hash_inner_graph",
        "thunk_mit_mot_out_slots",
        "inner_inputs",
        "vector_seqs",
        "vector_outs",
        "profile",
        "_connection_pattern",
        "output_types_cache",
    },
    # `scalar_elemwise` hangs the documentation of a function on the op made from it
    "pytensor.tensor.elemwise.Elemwise": {
        "nfunc",
        "ufunc",
        "__doc__",
        "__module__",
        "__epydoc_asRoutine",
    },
    "pytensor.tensor.elemwise.CAReduce": {"_ufunc", "ufunc", "nfunc"},
    "pytensor.tensor.blockwise.Blockwise": {"_gufunc", "_blockwise_thunk", "gufunc"},
    "pytensor.scalar.basic.ScalarInnerGraphOp": {
        "prepare_node_called",
        "_py_perform_fn",
        "_cached_py_perform",
    },
    "pytensor.scalar.basic.Composite": {
        "_c_code",
        "_name",
        "nodenames",
        "_nodenames",
        "_c_code_cache",
    },
    "pytensor.scalar.loop.ScalarLoop": {"_c_code", "nodenames", "_nodenames"},
    "pymc.ode.ode.DifferentialEquation": {
        "_augmented_func",
        "_apply_nodes",
        "_output_sensitivities",
    },
}

_PLAIN = (bool, int, float, str, type(None))

# PyMC keeps what a distribution computes not on its op but registered for the op's class.
_TABLES = ("_logprob", "_logcdf", "_logccdf", "_icdf")
_REGISTERED: tuple[Any, ...] = (
    *(getattr(pymc.logprob.abstract, n) for n in _TABLES if hasattr(pymc.logprob.abstract, n)),
    pymc.distributions.distribution._support_point,
)

# Compiled forms of an op can be registered too; only what a user registers is of interest, since
# these modules are imported as they are needed.
_COMPILED = (
    ("pytensor.link.numba.dispatch.basic", "numba_funcify"),
    ("pytensor.link.numba.dispatch.basic", "numba_funcify_and_cache_key"),
    ("pytensor.link.jax.dispatch.basic", "jax_funcify"),
)


def op_digest(walk: Walk, op: Op) -> bytes:
    """Digest an op: class, registered functions of that class, and state.

    Parameters
    ----------
    walk : Walk
        The walk that meets it.
    op : pytensor.graph.op.Op
        Any op, PyTensor's or the user's.

    Returns
    -------
    bytes
        16 bytes.
    """
    return walk.digest(op, functools.partial(_put_op, op), kind="op")


def _put_op(op: Op, stream: Stream) -> None:
    walk = stream.walk
    cls: Any = type(op)
    with walk.at(cls.__name__):
        stream.put(b"op", walk.digest(cls, functools.partial(_put_class, cls), kind="op class"))
        left_out = _filled(cls)
        for name, value in sorted(_state(op)):
            if name not in left_out:
                stream.text(b"attribute", name)
                with walk.at(f"attribute {name!r}"):
                    stream.write(value)


def _state(op: object) -> Iterator[tuple[str, object]]:
    yield from getattr(op, "__dict__", {}).items()
    for cls in type(op).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for written in (slots,) if isinstance(slots, str) else slots:
            private = written.startswith("__") and not written.endswith("__")
            slot = f"_{cls.__name__.lstrip('_')}{written}" if private else written
            if slot not in ("__dict__", "__weakref__") and hasattr(op, slot):
                yield slot, getattr(op, slot)


@functools.lru_cache(maxsize=4096)
def _filled(cls: Any) -> frozenset[str]:
    names: set[str] = set()
    for base in cls.__mro__:
        names |= _FILLED.get(f"{base.__module__}.{base.__qualname__}", set())
        if named_origin(base) is not None:
            # made from the rest on first use
            names |= {n for n, v in vars(base).items() if isinstance(v, functools.cached_property)}
    return frozenset(names)


def _put_class(cls: type, stream: Stream) -> None:
    stream.write(cls)
    for function in _registered(cls):
        stream.write(function)


def _registered(cls: type) -> Iterator[object]:
    for table in _REGISTERED:
        function = table.dispatch(cls)
        # what a release registers under a name comes with importing it, and is no news
        if function is not table.dispatch(object) and named_origin(function) is None:
            yield function
    for module_name, name in _COMPILED:
        compiled: Any = getattr(sys.modules.get(module_name), name, None)
        if compiled is None:
            continue
        function = compiled.dispatch(cls)
        if not _shipped(function):
            yield function


def _shipped(function: Callable[..., object]) -> bool:
    """Tell a function that an installed release defines, closures in it included."""
    namespace = getattr(function, "__globals__", {})
    module = sys.modules.get(str(namespace.get("__name__")))
    return module is not None and vars(module) is namespace and module_release(module) is not None


def replaced_rules() -> list[tuple[str, object]]:
    """List what a user registered for classes of a release, in place of what they compute.

    Rewriting makes ops that no model shows, so these count for every model.
    """
    found = []
    for table in _REGISTERED:
        for cls, function in table.registry.items():
            namespace = getattr(function, "__globals__", {})
            if release(str(namespace.get("__name__"))) is None and named_origin(cls) is not None:
                found.append((f"{table.__name__} {cls.__module__}.{cls.__qualname__}", function))
    return sorted(found, key=lambda pair: pair[0])


def type_digest(walk: Walk, type_: Type) -> bytes:
    """Digest a PyTensor type: its class and what it is made of.

    Parameters
    ----------
    walk : Walk
        The walk that meets it.
    type_ : pytensor.graph.type.Type
        Any type.

    Returns
    -------
    bytes
        16 bytes.
    """
    if type(type_) is TensorType:
        key = type_.dtype, type_.shape
        # most variables of a model share a handful of these
        return _tensor_type(key, walk)
    return walk.digest(type_, functools.partial(_put_type, type_), kind="type")


def _tensor_type(key: tuple[str, tuple[int | None, ...]], walk: Walk) -> bytes:
    known = walk.tensor_types.get(key)
    if known is None:
        stream = Stream(walk)
        stream.put(b"tensor type")
        stream.write(TensorType)
        stream.write(key)
        known = walk.tensor_types[key] = stream.digest()
    return known


def _put_type(type_: Type, stream: Stream) -> None:
    kind: Any = type(type_)
    stream.put(b"type")
    stream.write(kind)
    props = getattr(type_, "__props__", None)
    if props is not None and named_origin(type(type_)) is not None:
        stream.write({name: getattr(type_, name) for name in props if name != "name"})
    else:
        left_out = _filled(kind) | {"name"}
        stream.write({k: v for k, v in sorted(_state(type_)) if k not in left_out})


@rule(Op)
def _op(obj: Op, stream: Stream) -> None:
    stream.put(b"op", op_digest(stream.walk, obj))


@rule(Type)
def _type(obj: Type, stream: Stream) -> None:
    stream.put(b"type", type_digest(stream.walk, obj))


@rule(frozendict)
def _frozendict(obj: frozendict, stream: Stream) -> None:
    # it keeps its hash once asked for it, and that differs from process to process
    stream.put(b"frozendict")
    stream.write(dict(obj))


@rule(Mode)
def _mode(obj: Mode, stream: Stream) -> None:
    # how it was asked for; beside that a mode keeps the rewriters it was built with
    stream.put(b"mode")
    stream.write(type(obj))
    stream.write(obj.linker)
    stream.write(obj.provided_optimizer)


@rule(Linker)
def _linker(obj: Linker, stream: Stream) -> None:
    stream.put(b"linker")
    stream.write(type(obj))
    plain = {k: v for k, v in sorted(vars(obj).items()) if isinstance(v, _PLAIN)}
    stream.write(plain)


@rule(RewriteDatabaseQuery)
def _query(obj: RewriteDatabaseQuery, stream: Stream) -> None:
    stream.put(b"query")
    for name in ("include", "require", "exclude"):
        stream.write(sorted(map(str, getattr(obj, name) or ())))
    stream.write(dict(obj.subquery or {}))
    stream.write(float(obj.position_cutoff))
    stream.write(list(obj.extra_rewrites or ()))


@rule(Function)
def _compiled(obj: Function, stream: Stream) -> None:
    raise stream.walk.refuse(
        "a compiled PyTensor function keeps what it was called with: hand over its graph instead"
    )
