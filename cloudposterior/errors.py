"""Everything the package raises or warns with, in one tree each."""

from __future__ import annotations

__all__ = [
    "BlockError",
    "CacheFileError",
    "CacheWarning",
    "CloudPosteriorError",
    "TokenError",
    "TokenWarning",
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
