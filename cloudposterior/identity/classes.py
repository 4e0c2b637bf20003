"""How classes and what stands in their bodies are written.

A class of an installed release is a name and a version, with the methods that a user has put on it
since; a class of the user's is its body and its bases.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

from cloudposterior.identity.objects import write_items
from cloudposterior.identity.origin import named_origin, release
from cloudposterior.identity.walk import Stream, rule

__all__: list[str] = []

_HEAP_TYPE = 1 << 9  # made while Python runs, as classes in Python are
# What a class keeps about itself, not what it does.
_CLASS_NOTES = {
    "__module__",
    "__qualname__",
    "__doc__",
    "__dict__",
    "__weakref__",
    "__firstlineno__",
    "__static_attributes__",
    "__annotations__",
    "__annotate__",
    "__annotate_func__",
    "__annotations_cache__",
    "__abstractmethods__",
    "_abc_impl",
    "__parameters__",
    "__orig_bases__",
    "__dataclass_fields__",
    "__dataclass_params__",
    "__classcell__",
    # kept by pickle on each class that it meets
    "__slotnames__",
    # grows as flags are combined
    "_value2member_map_",
}


@rule(staticmethod, classmethod)
def _wrapped_method(obj: staticmethod[..., object], stream: Stream) -> None:
    stream.text(b"wrapped", type(obj).__name__)
    stream.write(obj.__func__)


@rule(property)
def _property(obj: property, stream: Stream) -> None:
    stream.put(b"property")
    for part in (obj.fget, obj.fset, obj.fdel):
        stream.write(part)


@rule(functools.cached_property)
def _cached_property(obj: functools.cached_property[object], stream: Stream) -> None:
    stream.put(b"cached property")
    stream.write(obj.func)


@rule(types.GetSetDescriptorType, types.MemberDescriptorType)
def _slot(obj: types.MemberDescriptorType, stream: Stream) -> None:
    stream.text(b"slot", obj.__name__)


@rule(types.GenericAlias, types.UnionType)
def _annotation(obj: Any, stream: Stream) -> None:
    stream.text(b"annotation", type(obj).__name__)
    stream.write(getattr(obj, "__origin__", None))
    stream.write(tuple(obj.__args__))


@rule(type)
def _class(obj: type, stream: Stream) -> None:
    origin = named_origin(obj)
    if origin is not None:
        stream.text(b"class", ":".join(origin))
        for name, function in _patched(obj):
            stream.text(b"patched", name)
            stream.write(function)
    elif not obj.__flags__ & _HEAP_TYPE and release(obj.__module__) is not None:
        # types without a name of their own, such as that of None or of a function
        stream.text(b"builtin class", obj.__name__)
    else:
        _class_body(obj, stream)


def _patched(cls: type) -> Iterator[tuple[str, object]]:
    """List the methods that a user put on a class of a release."""
    for name, value in vars(cls).items():
        namespace = getattr(value, "__globals__", None)
        if namespace is not None and release(str(namespace.get("__name__"))) is None:
            yield name, value


def _class_body(cls: type, stream: Stream) -> None:
    """Write a class of the user's: its name, bases, metaclass and what its body defines."""
    stream.text(b"class body", cls.__name__)
    with stream.walk.at(f"class {cls.__name__!r}"):
        for base in (type(cls), *cls.__bases__):
            stream.write(base)
        body = {
            name: value for name, value in sorted(vars(cls).items()) if name not in _CLASS_NOTES
        }
        write_items(body, stream)  # type: ignore[arg-type]
