"""File names that are safe on every file system, for any model name and any label.

Names that differ, by case only too, stay apart: whatever is not plain carries a digest of the
original. All results stay far below 143 bytes, the shortest limit in use (eCryptfs).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

__all__ = ["SUFFIX", "file_names", "safe_name"]

SUFFIX = ".nc"

_PLAIN = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,59}")
_LIKE_A_DIGEST = re.compile(r"-[0-9a-f]{8}")
_CLEANED_LENGTH = 40
# Windows takes these for devices, whatever follows a dot.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)]
)


def safe_name(name: str, *, unnamed: str = "model") -> str:
    """Return a name for a directory, or a part of a file name, that stands for `name`.

    Plain names are kept; of any other, what is readable is kept in ASCII lower case and followed
    by 8 hex digits of its SHA-256.

    Parameters
    ----------
    name : str
        Any text.
    unnamed : str, default "model"
        What to write where nothing readable is left.

    Returns
    -------
    str
        At most 60 characters out of ``a-z0-9_.-``.

    Examples
    --------
    >>> safe_name("radon_intercepts")
    'radon_intercepts'
    >>> safe_name("../../x")
    'x-9cdf6a50'
    """
    if _is_plain(name):
        return name
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    cleaned = re.sub(r"[^a-z0-9_-]+", "_", ascii_only)[:_CLEANED_LENGTH].strip("_-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{cleaned or unnamed}-{digest}"


def _is_plain(name: str) -> bool:
    return (
        _PLAIN.fullmatch(name) is not None
        and not name.endswith(".")
        and name.partition(".")[0] not in _DEVICES
        and _LIKE_A_DIGEST.fullmatch(name[-9:]) is None
    )


def file_names(label: str, token: str) -> list[str]:
    """Return the names under which an entry may lie, in the order in which they are tried.

    The first has 8 hex digits of the token; where another entry has taken that, 16, then all.
    """
    stem = safe_name(label, unnamed="result")
    lengths = dict.fromkeys((8, 16, len(token)))
    return [f"{stem}-{token[:length]}{SUFFIX}" for length in lengths]
