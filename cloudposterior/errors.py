"""Everything the package raises or warns with, in one tree each."""

from __future__ import annotations

import sys
import warnings

__all__ = [
    "BlockError",
    "CacheFileError",
    "CacheWarning",
    "CloudPosteriorError",
    "TokenError",
    "TokenWarning",
    "warn",
]


class CloudPosteriorError(Exception):
    """Base class of the errors that this package raises."""


class BlockError(CloudPosteriorError, RuntimeError):
    """A ``with cp.cloud(model)`` block was entered or left in a way that has no meaning."""


class CacheFileError(CloudPosteriorError, OSError):
    """A cache file is torn, foreign, or of another format, and was not read."""


class TokenError(CloudPosteriorError, TypeError):
    """No token can be made for a model or a call, since a part of it has no readable value."""


class CacheWarning(UserWarning):
    """A posterior could not be read from, or written to, the cache."""


class TokenWarning(UserWarning):
    """A call is not cached, since no complete key can be made for it."""


def warn(kind: type[Warning], message: str) -> None:
    """Warn the caller of this package, whichever of its functions was called."""
    depth, frame = 1, sys._getframe()
    inside = ("cloudposterior", "contextlib")
    while frame.f_back is not None and _module(frame.f_globals).startswith(inside):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, kind, stacklevel=depth)


def _module(namespace: dict[str, object]) -> str:
    return str(namespace.get("__name__", ""))
