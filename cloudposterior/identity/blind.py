"""What a function may not read if it is to have a key.

What these give when the model runs cannot be told from the code that uses them: names made at run
time, files, the environment. They are refused by name where a function takes them from a module,
and by identity wherever they are met.
"""

from __future__ import annotations

import importlib

from cloudposterior.identity.walk import REFUSED, Stream

__all__ = ["BLIND_ATTRIBUTES", "BLIND_BUILTINS", "refuse_blind"]

BLIND_BUILTINS = {"eval", "exec", "globals", "__import__", "open", "input"}
BLIND_ATTRIBUTES = {
    "open",
    "read_text",
    "read_bytes",
    "__globals__",
    "f_globals",
    "f_locals",
    "f_back",
}
_NAMES = {
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
_PREFIXES = (("pandas", "read_"),)


# An id means something only as long as its object lives.
_alive: list[object] = []


def _refuse(found: object, name: str) -> None:
    _alive.append(found)
    REFUSED[id(found)] = name


def _register() -> None:
    """Let the walk refuse these objects under whatever name they are met."""
    for module_name, name in (*(("builtins", n) for n in BLIND_BUILTINS), *_NAMES):
        found = getattr(importlib.import_module(module_name), name, None)
        if found is not None:
            _refuse(found, f"{module_name}.{name}")
    for module_name, prefix in _PREFIXES:
        module = importlib.import_module(module_name)
        for name in dir(module):
            if name.startswith(prefix):
                _refuse(getattr(module, name), f"{module_name}.{name}")


def refuse_blind(module_name: str, attribute: str, stream: Stream) -> None:
    """Refuse an attribute of a module that reads what is outside of the program."""
    blind = (
        (module_name, attribute) in _NAMES
        or (module_name == "builtins" and attribute in BLIND_BUILTINS)
        or any(module_name == m and attribute.startswith(p) for m, p in _PREFIXES)
    )
    if blind:
        raise stream.walk.refuse(
            f"it uses {module_name}.{attribute}, which reads what is outside of the program: "
            "read it first and hand over the value"
        )


_register()
