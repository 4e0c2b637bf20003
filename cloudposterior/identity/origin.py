"""Where a class or function comes from: an installed release, or the user's own code.

What an installed distribution ships is fixed by its version, so a name and the version stand for
it. All else (a notebook, a script, a module beside it, an editable install) may change under the
same name, and is read by its body.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
import sysconfig
from pathlib import Path, PurePath
from types import ModuleType

from cloudposterior.identity.arrays import digest_bytes

__all__ = ["find_global", "named_origin", "release"]

_SITE = {"site-packages", "dist-packages"}
_STDLIB = tuple(
    str(Path(path).resolve())
    for path in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    if path
)


def release(module_name: str) -> str | None:
    """Name the release that a module belongs to.

    Parameters
    ----------
    module_name : str
        Dotted name of a module.

    Returns
    -------
    str or None
        ``"pymc 6.4.0"`` or ``"python 3.13"``; None for code that no version pins.
    """
    module = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        # not by the name alone: anybody can put a module under a taken one
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        return _python() if origin in ("built-in", "frozen") else None
    return _release(module_name.partition(".")[0], file)


@functools.lru_cache(maxsize=65536)
def _release(top: str, file: str) -> str | None:
    if top == "__main__":
        return None
    if _SITE.isdisjoint(PurePath(file).parts):
        in_stdlib = top in sys.stdlib_module_names and (
            str(Path(file).resolve()).startswith(_STDLIB) or file.startswith("<frozen")
        )
        return _python() if in_stdlib else None
    return _distribution(top)


def _python() -> str:
    return f"python {sys.version_info.major}.{sys.version_info.minor}"


@functools.lru_cache(maxsize=4096)
def _distribution(top: str) -> str | None:
    try:
        return _described(top)
    except importlib.metadata.PackageNotFoundError:
        owners = _owners().get(top, [])
    try:
        return "+".join(_described(owner) for owner in owners) or None
    except importlib.metadata.PackageNotFoundError:
        return None


def _described(name: str) -> str:
    """Name a distribution by its version, and one from no registry by its files as well."""
    distribution = importlib.metadata.distribution(name)
    text = f"{name} {distribution.version}"
    if distribution.read_text("direct_url.json") is not None:
        # a directory or a repository may have given other files under the same version
        record = distribution.read_text("RECORD")
        if record is None:
            raise importlib.metadata.PackageNotFoundError(name)
        text += " " + digest_bytes(record.encode()).hex()
    return text


@functools.cache
def _owners() -> dict[str, list[str]]:
    """Map import names to distributions (scans all metadata, so asked for late)."""
    return {
        top: sorted(names) for top, names in importlib.metadata.packages_distributions().items()
    }


def find_global(module_name: str, qualname: str) -> object:
    """Look a dotted name up in an imported module; None when it is not there."""
    found: object = sys.modules.get(module_name)
    for part in qualname.split("."):
        found = getattr(found, part, None)
        if found is None:
            return None
    return found


def named_origin(obj: object) -> tuple[str, str, str] | None:
    """Name a class or function that an installed release ships.

    Parameters
    ----------
    obj : object
        Class, function or other object with a module and a qualified name.

    Returns
    -------
    tuple of str or None
        Module, qualified name and release, when looking that name up gives this very object (a
        name alone proves nothing: `functools.wraps` copies it); else None.
    """
    module_name = getattr(obj, "__module__", None)
    qualname = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None)
    if not isinstance(module_name, str) or not isinstance(qualname, str):
        return None
    version = release(module_name)
    if version is None or find_global(module_name, qualname) is not obj:
        return None
    return module_name, qualname, version


def module_release(module: ModuleType) -> str | None:
    """Name the release that an imported module belongs to, None for the user's own."""
    return release(module.__name__) if sys.modules.get(module.__name__) is module else None
