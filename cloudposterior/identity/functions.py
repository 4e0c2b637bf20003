"""How functions and modules are written.

What an installed release ships is a name and a version. A function of the user's is its code, its
defaults, its closure and the globals it really reads.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import pytensor

from cloudposterior.identity.blind import BLIND_ATTRIBUTES, BLIND_BUILTINS, refuse_blind
from cloudposterior.identity.code import Code, GlobalRead, ImportRead, read_code
from cloudposterior.identity.objects import write_items
from cloudposterior.identity.origin import module_release, named_origin, release
from cloudposterior.identity.walk import Stream, rule

__all__: list[str] = []

# Names a module or a class body carries about itself.
_SELF_NAMES = {"__name__", "__qualname__", "__spec__", "__loader__", "__package__", "__builtins__"}
_MODULE_NOTES = {*_SELF_NAMES, "__doc__", "__file__", "__cached__", "__path__", "__annotations__"}


@rule(types.FunctionType)
def _function(obj: types.FunctionType, stream: Stream) -> None:
    origin = named_origin(obj)
    if origin is not None and obj.__globals__.get("__name__") == origin[0]:
        stream.text(b"function", ":".join(origin))
        return
    if obj.__code__ is _DISPATCHING:
        # a singledispatch function: its cache fills as it is called, its registry is what it is
        stream.put(b"singledispatch")
        return write_items(dict(obj.registry), stream)  # type: ignore[attr-defined]
    stream.put(b"def")
    with stream.walk.at(f"function {obj.__name__!r}"):
        _code(obj.__code__, obj.__globals__, stream)
        stream.write(obj.__defaults__)
        stream.write(_sorted(obj.__kwdefaults__))
        _closure(obj, stream)
        stream.write(_sorted(obj.__dict__))


_DISPATCHING: Any = getattr(functools.singledispatch(lambda obj: None), "__code__", None)


def _sorted(mapping: dict[str, object] | None) -> dict[str, object] | None:
    return {key: mapping[key] for key in sorted(mapping)} if mapping else None


def _closure(obj: types.FunctionType, stream: Stream) -> None:
    for name, cell in zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True):
        with stream.walk.at(f"closure variable {name!r}"):
            # a copy may share the cells of two functions or not
            _cell(cell, stream)


@rule(types.CellType)
def _cell(obj: types.CellType, stream: Stream) -> None:
    try:
        content = obj.cell_contents
    except ValueError:
        stream.put(b"empty cell")
    else:
        stream.write(content)


def _code(code: types.CodeType, namespace: dict[str, object], stream: Stream) -> None:
    read = read_code(code)
    stream.write(read.signature)
    for row in read.instructions:
        stream.write(row)
    _names_read(read, namespace, stream)
    for nested in read.nested:
        _code(nested, namespace, stream)


def _shipped(name: str, namespace: dict[str, object]) -> bool:
    """Tell a global that is as a release ships it, whose version fixes it."""
    module_name = str(namespace.get("__name__"))
    if release(module_name) is None:
        return False
    shipped = vars(sys.modules[module_name])
    return shipped is namespace or shipped.get(name, _MISSING) is namespace.get(name, _MISSING)


def _names_read(read: Code, namespace: dict[str, object], stream: Stream) -> None:
    in_release = release(str(namespace.get("__name__"))) is not None
    blind = sorted(read.attributes & BLIND_ATTRIBUTES)
    if blind and not in_release:
        raise stream.walk.refuse(
            f"it uses {blind[0]!r}, which reads what is outside of the program: "
            "read it first and hand over the value"
        )
    for name in read.globals_read:
        if _shipped(name.name, namespace):
            continue
        with stream.walk.at(f"global {name.name!r}"):
            _global(name, namespace, stream)
    for imported in () if in_release else read.imports:
        with stream.walk.at(f"import of {imported.name!r}"):
            _import(imported, read.attributes, namespace, stream)


def _global(read: GlobalRead, namespace: dict[str, object], stream: Stream) -> None:
    if read.name in _SELF_NAMES:
        return
    if read.name in namespace:
        return _attributes(namespace[read.name], read.attributes, stream)
    found = getattr(builtins, read.name, _MISSING)
    if found is _MISSING:
        stream.text(b"unbound", read.name)
    elif read.name in BLIND_BUILTINS:
        raise stream.walk.refuse(
            f"it uses {read.name}(), and what that gives cannot be told beforehand: "
            "read it first and hand over the value"
        )
    elif named_origin(found) is not None:
        stream.text(b"builtin", read.name)
    else:
        # put there by the user
        _attributes(found, read.attributes, stream)


def _attributes(found: object, attributes: tuple[str, ...], stream: Stream) -> None:
    """Follow names to the thing that is really read, and write that.

    What a module or a class of a release holds is followed as well: users put things there.
    """
    for position, attribute in enumerate(attributes):
        if isinstance(found, types.ModuleType):
            refuse_blind(found.__name__, attribute, stream)
        elif found is pytensor.config:
            stream.text(b"setting", f"{attribute}={getattr(found, attribute, None)}")
            return
        elif isinstance(found, type) and named_origin(found) is not None:
            stream.write(found)
        else:
            break
        found = getattr(found, attribute, _MISSING)
        if found is _MISSING:
            stream.text(b"unbound", ".".join(attributes[: position + 1]))
            return
    stream.write(found)


def _import(
    read: ImportRead, attributes: frozenset[str], namespace: dict[str, object], stream: Stream
) -> None:
    module = _imported(read, namespace, stream)
    if module is None:
        stream.text(b"missing", read.name)
    elif read.names is None:
        # `import a.b` binds a; which attributes are taken from it is not followed
        top = sys.modules[module.__name__.partition(".")[0]]
        for found in dict.fromkeys((module, top)):
            for attribute in sorted(attributes):
                refuse_blind(found.__name__, attribute, stream)
            stream.write(found)
    else:
        for attribute in read.names:
            if attribute == "*" or not hasattr(module, attribute):
                stream.write(module)
            else:
                _attributes(module, (attribute,), stream)


def _imported(
    read: ImportRead, namespace: dict[str, object], stream: Stream
) -> types.ModuleType | None:
    package = namespace.get("__package__") or str(namespace.get("__name__", "")).rpartition(".")[0]
    name = "." * read.level + read.name
    try:
        return importlib.import_module(name, str(package) if read.level else None)
    except ImportError:
        return None  # the function goes on without it, or fails
    except Exception as error:  # a module may raise anything
        raise stream.walk.refuse(f"importing {name!r} failed: {error!r}") from error


_MISSING = object()


@rule(types.ModuleType)
def _module(obj: types.ModuleType, stream: Stream) -> None:
    version = module_release(obj)
    if version is not None:
        stream.text(b"module", f"{obj.__name__}:{version}")
        return
    stream.put(b"module body")
    with stream.walk.at(f"module {obj.__name__!r}"):
        names = sorted(n for n in vars(obj) if n not in _MODULE_NOTES)
        write_items({name: vars(obj)[name] for name in names}, stream)


@rule(
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.MethodWrapperType,
)
def _builtin(obj: Callable[..., object], stream: Stream) -> None:
    owner = getattr(obj, "__self__", None)
    if owner is not None and not isinstance(owner, types.ModuleType):
        _refuse_unshipped(owner, obj.__name__, stream)
        stream.text(b"builtin method", obj.__name__)
        return stream.write(owner)
    described = getattr(obj, "__objclass__", None)
    if described is not None and release(described.__module__) is None:
        raise stream.walk.refuse(f"{described.__qualname__!r} is compiled, and no release has it")
    if described is not None:
        stream.text(b"descriptor", obj.__name__)
        return stream.write(described)
    origin = named_origin(obj)
    if origin is None and release(str(obj.__module__)) is None:
        raise stream.walk.refuse(
            f"the compiled function {obj.__name__!r} belongs to no installed release, "
            "and has no code that could be read"
        )
    version = release(str(obj.__module__)) or ""
    stream.text(b"compiled", f"{obj.__module__}:{obj.__qualname__}:{version}")


def _refuse_unshipped(owner: object, name: str, stream: Stream) -> None:
    """Refuse a compiled method of a class that no release ships."""
    kind = owner if isinstance(owner, type) else type(owner)
    for cls in kind.__mro__:
        if name in vars(cls):
            if release(cls.__module__) is None:
                raise stream.walk.refuse(f"{cls.__qualname__!r} is compiled, and no release has it")
            return


@rule(types.MethodType)
def _method(obj: types.MethodType, stream: Stream) -> None:
    stream.put(b"method")
    stream.write(obj.__func__)
    stream.write(obj.__self__)


@rule(type(functools.lru_cache(lambda: None)))
def _lru_cache(obj: Callable[..., object], stream: Stream) -> None:
    origin = named_origin(obj)
    if origin is not None:
        stream.text(b"function", ":".join(origin))
        return
    stream.put(b"lru_cache")
    stream.write(obj.__wrapped__)  # type: ignore[attr-defined]
