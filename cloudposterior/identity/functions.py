"""How functions, classes and modules are written.

What an installed release ships is a name and a version. A function of the user's is its code, its
defaults, its closure and the globals it really reads; a class is its body and its bases.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytensor

from cloudposterior.identity.code import Code, GlobalRead, ImportRead, read_code
from cloudposterior.identity.objects import write_items
from cloudposterior.identity.origin import module_release, named_origin, release
from cloudposterior.identity.walk import REFUSED, Stream, rule

__all__ = ["write_class_body"]

# Read by a name made at run time, or from outside the program: what they will give when the model
# runs cannot be told from the code, so a function that uses them has no complete key.
_BLIND_BUILTINS = {"eval", "exec", "globals", "__import__", "open", "input"}
_BLIND_ATTRIBUTES = {
    "open",
    "read_text",
    "read_bytes",
    "__globals__",
    "f_globals",
    "f_locals",
    "f_back",
}
_BLIND_NAMES = {
    ("io", "open"),
    ("os", "environ"),
    ("os", "getenv"),
    ("sys", "modules"),
    ("sys", "_getframe"),
    ("sys", "argv"),
    ("importlib", "import_module"),
    ("inspect", "currentframe"),
    ("inspect", "stack"),
    ("numpy", "load"),
    ("numpy", "loadtxt"),
    ("numpy", "genfromtxt"),
    ("numpy", "fromfile"),
    ("numpy", "memmap"),
}
_BLIND_PREFIXES = (("pandas", "read_"),)


def _register_blind() -> None:
    """Let the walk refuse these objects under whatever name they are met."""
    for module_name, name in (*(("builtins", n) for n in _BLIND_BUILTINS), *_BLIND_NAMES):
        found = getattr(sys.modules.get(module_name), name, None)
        if found is not None:
            REFUSED[id(found)] = f"{module_name}.{name}"
    for module_name, prefix in _BLIND_PREFIXES:
        module = sys.modules[module_name]
        for name in dir(module):
            if name.startswith(prefix):
                REFUSED[id(getattr(module, name))] = f"{module_name}.{name}"


_register_blind()

# Names a module or a class body carries about itself.
_SELF_NAMES = {"__name__", "__qualname__", "__spec__", "__loader__", "__package__", "__builtins__"}
_MODULE_NOTES = {*_SELF_NAMES, "__doc__", "__file__", "__cached__", "__path__", "__annotations__"}
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
    blind = sorted(read.attributes & _BLIND_ATTRIBUTES)
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
    elif read.name in _BLIND_BUILTINS:
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
            _refuse_blind(found.__name__, attribute, stream)
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


def _refuse_blind(module_name: str, attribute: str, stream: Stream) -> None:
    blind = (
        (module_name, attribute) in _BLIND_NAMES
        or (module_name == "builtins" and attribute in _BLIND_BUILTINS)
        or any(module_name == m and attribute.startswith(p) for m, p in _BLIND_PREFIXES)
    )
    if blind:
        raise stream.walk.refuse(
            f"it uses {module_name}.{attribute}, which reads what is outside of the program: "
            "read it first and hand over the value"
        )


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
                _refuse_blind(found.__name__, attribute, stream)
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
_HEAP_TYPE = 1 << 9  # made while Python runs, as classes in Python are


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


@rule(type(functools.lru_cache(lambda: None)))
def _lru_cache(obj: Callable[..., object], stream: Stream) -> None:
    origin = named_origin(obj)
    if origin is not None:
        stream.text(b"function", ":".join(origin))
        return
    stream.put(b"lru_cache")
    stream.write(obj.__wrapped__)  # type: ignore[attr-defined]


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
        write_class_body(obj, stream)


def _patched(cls: type) -> Iterator[tuple[str, object]]:
    """List the methods that a user put on a class of a release."""
    for name, value in vars(cls).items():
        namespace = getattr(value, "__globals__", None)
        if namespace is not None and release(str(namespace.get("__name__"))) is None:
            yield name, value


def write_class_body(cls: type, stream: Stream) -> None:
    """Write a class of the user's: its name, bases, metaclass and what its body defines."""
    stream.text(b"class body", cls.__name__)
    with stream.walk.at(f"class {cls.__name__!r}"):
        for base in (type(cls), *cls.__bases__):
            stream.write(base)
        body = {
            name: value for name, value in sorted(vars(cls).items()) if name not in _CLASS_NOTES
        }
        write_items(body, stream)  # type: ignore[arg-type]
