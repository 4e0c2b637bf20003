"""What a Python function is, apart from where its source stands.

A function is its instructions with the constants and names they use; not its file, its lines or
its qualified name, which change when a cell is edited above it. `globals_read` says which globals
the instructions reach, with the attributes that they take from them at once (``np.linalg.norm``).
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

__all__ = ["Code", "GlobalRead", "ImportRead", "read_code"]

_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
_GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
# What a class body stores about itself, not about what it does.
_CLASS_NOTES = {
    "__module__",
    "__qualname__",
    "__firstlineno__",
    "__static_attributes__",
    "__classdictcell__",
    "__doc__",
}


@dataclass(frozen=True)
class GlobalRead:
    """A global name and the attributes taken from it at once."""

    name: str
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class ImportRead:
    """An import inside the code."""

    name: str
    level: int
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class Code:
    """What is fixed of a code object, with nested code listed apart."""

    signature: tuple[object, ...]
    instructions: tuple[tuple[object, ...], ...]
    nested: tuple[CodeType, ...]
    globals_read: tuple[GlobalRead, ...]
    imports: tuple[ImportRead, ...]
    attributes: frozenset[str]


@functools.lru_cache(maxsize=4096)
def read_code(code: CodeType) -> Code:
    """Read a code object into plain values.

    Parameters
    ----------
    code : types.CodeType
        Code of a function, lambda, comprehension or class body.

    Returns
    -------
    Code
        Constants keep their Python types: who hashes them must tell ``1`` from ``1.0``.
    """
    listing = [i for i in dis.get_instructions(code) if i.opname not in ("EXTENDED_ARG", "CACHE")]
    in_class = not code.co_flags & inspect.CO_OPTIMIZED
    nested: list[CodeType] = []
    rows = tuple(_rows(listing, in_class, nested))
    signature = (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_exceptiontable,
    )
    return Code(
        signature,
        rows,
        tuple(nested),
        tuple(dict.fromkeys(_global_reads(listing))),
        tuple(dict.fromkeys(_imports(listing))),
        frozenset(
            i.argval for i in listing if i.opname in _ATTRIBUTES and isinstance(i.argval, str)
        ),
    )


def _rows(
    listing: list[dis.Instruction], in_class: bool, nested: list[CodeType]
) -> Iterator[tuple[object, ...]]:
    for position, step in enumerate(listing):
        after = listing[position + 1] if position + 1 < len(listing) else None
        if in_class and _is_class_note(step, after):
            continue
        if isinstance(step.argval, CodeType):
            nested.append(step.argval)
            yield step.opname, "code", len(nested) - 1
        elif step.opcode in dis.hasconst:
            yield step.opname, "const", step.argval
        elif step.opcode in dis.hasname:
            # the low bits of the argument carry flags beside the name
            yield step.opname, "name", step.argval, _flags(step)
        elif step.opcode in dis.haslocal or step.opcode in dis.hasfree:
            yield step.opname, "local", step.argval
        else:
            yield step.opname, "arg", step.arg


def _flags(step: dis.Instruction) -> int:
    return (step.arg or 0) & 1 if step.opname in ("LOAD_GLOBAL", "LOAD_ATTR") else 0


def _is_class_note(step: dis.Instruction, after: dis.Instruction | None) -> bool:
    if step.opname == "STORE_NAME":
        return step.argval in _CLASS_NOTES
    stored = after is not None and after.opname == "STORE_NAME" and after.argval in _CLASS_NOTES
    return stored and step.opname.startswith(("LOAD_CONST", "LOAD_NAME", "LOAD_SMALL_INT"))


def _global_reads(listing: list[dis.Instruction]) -> Iterator[GlobalRead]:
    for position, step in enumerate(listing):
        if step.opname not in _GLOBALS:
            continue
        chain = []
        for following in listing[position + 1 :]:
            if following.opname in _ATTRIBUTES:
                chain.append(following.argval)
            elif following.opname != "PUSH_NULL":
                break
        yield GlobalRead(step.argval, tuple(chain))


def _imports(listing: list[dis.Instruction]) -> Iterator[ImportRead]:
    for position, step in enumerate(listing):
        if step.opname == "IMPORT_NAME":
            # the two instructions before it load the level and the list of names
            level, names = (before.argval for before in listing[position - 2 : position])
            yield ImportRead(step.argval, int(level or 0), names)
