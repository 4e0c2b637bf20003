"""What is registered for a class elsewhere than in the class, and has to travel with it.

PyMC keeps what a distribution computes in dispatch tables, under the class of its op. A class that
a worker can import registers itself there; one that is sent by value has to bring what is
registered for it. It is made part of the class's pickled state, so that it is in place as soon as
the class is.
"""

from __future__ import annotations

import abc
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["Registrations", "finish_class", "with_registrations"]

# The packages whose dispatch tables and abstract classes are looked through.
_PACKAGES = ("pymc", "pymc_extras", "pytensor")

# Whether a class is this process's own or was sent to it. Unpickling writes a class again, and one
# that is at home here must not be replaced by a copy of what it was when it was sent.
_origins: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


class Registrations:
    """The dispatch tables and abstract classes of PyMC and PyTensor, as loaded now."""

    def __init__(self) -> None:
        tables: dict[int, Any] = {}
        kinds: dict[int, abc.ABCMeta] = {}
        for name, module in list(sys.modules.items()):
            if not _of_packages(name):
                continue
            for value in list(getattr(module, "__dict__", {}).values()):
                if _is_table(value):
                    tables[id(value)] = value
                elif _is_kind(value):
                    kinds[id(value)] = value
        self.tables = list(tables.values())
        self.kinds = list(kinds.values())

    def rules(self, cls: type) -> list[tuple[Any, Callable[..., Any]]]:
        """List what is registered for the class itself: tables and functions."""
        return [(table, table.registry[cls]) for table in self.tables if cls in table.registry]

    def virtual_bases(self, cls: type) -> list[abc.ABCMeta]:
        """List the abstract classes that the class is registered with."""
        return [
            kind
            for kind in self.kinds
            if kind not in cls.__mro__ and cls not in kind.__mro__ and issubclass(cls, kind)
        ]


def _of_packages(module: str) -> bool:
    return module.partition(".")[0] in _PACKAGES


def _is_kind(value: object) -> bool:
    # a protocol has no classes registered, and may not be asked
    return (
        isinstance(value, abc.ABCMeta)
        and _of_packages(value.__module__)
        and not getattr(value, "_is_protocol", False)
    )


def _is_table(value: object) -> bool:
    return (
        isinstance(value, types.FunctionType)
        and isinstance(getattr(value, "registry", None), types.MappingProxyType)
        and hasattr(value, "dispatch")
    )


def with_registrations(cls: type, reduced: tuple[Any, ...], known: Registrations) -> Any:
    """Give the reduction of a class that is sent by value, with what is registered for it.

    Parameters
    ----------
    cls : type
        The class.
    reduced : tuple
        How cloudpickle sends it, with a function that sets its state.
    known : Registrations
        Where to look.

    Returns
    -------
    tuple
        As pickle takes it.
    """
    _origins.setdefault(cls, "own")
    make, arguments, state, *_, set_state = reduced
    whole = set_state, state, known.rules(cls), known.virtual_bases(cls)
    return make, arguments, whole, None, None, finish_class


def finish_class(cls: type, whole: tuple[Any, ...]) -> None:
    """Set the state of a class that was sent, and register what came with it.

    Parameters
    ----------
    cls : type
        The class, empty or as an earlier call has sent it.
    whole : tuple
        What `with_registrations` put there.
    """
    if _origins.setdefault(cls, "sent") == "own":
        return
    set_state, state, rules, virtual_bases = whole
    set_state(cls, state)
    for table, function in rules:
        table.register(cls, function)
    for kind in virtual_bases:
        kind.register(cls)
