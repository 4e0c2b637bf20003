"""Everything the package raises or warns with, in one tree each."""

from __future__ import annotations

import sys
import warnings

__all__ = [
    "BlockError",
    "CacheFileError",
    "CacheWarning",
    "CallbackWarning",
    "ChainError",
    "CloudPosteriorError",
    "ClusterError",
    "ClusterWarning",
    "DisplayWarning",
    "ShippingError",
    "TokenError",
    "TokenWarning",
    "tell",
    "warn",
]


class CloudPosteriorError(Exception):
    """Base class of the errors that this package raises."""


class BlockError(CloudPosteriorError, RuntimeError):
    """A ``with cp.cloud(model)`` block was entered or left in a way that has no meaning."""


class CacheFileError(CloudPosteriorError, OSError):
    """A cache file is torn, foreign, or of another format, and was not read."""


class ShippingError(CloudPosteriorError, TypeError):
    """A model or an argument cannot be sent to a worker, or did not arrive there."""


class ClusterError(CloudPosteriorError, RuntimeError):
    """A cluster cannot be reached, has no workers, or has workers that cannot do the work."""


class ChainError(CloudPosteriorError, RuntimeError):
    """A chain failed on its worker.

    Attributes
    ----------
    chains : tuple of int
        The chain; more than one where chains talk to each other.
    worker : str
        The address of the worker.
    reason : str
        What the sampler said.
    """

    def __init__(self, chains: tuple[int, ...], worker: str, reason: str) -> None:
        named = (
            f"chain {chains[0]}" if len(chains) == 1 else f"chains {', '.join(map(str, chains))}"
        )
        super().__init__(f"{named} failed on {worker}: {reason}")
        self.chains = chains
        self.worker = worker
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        # notes travel in the state
        return type(self), (self.chains, self.worker, self.reason), self.__dict__


class TokenError(CloudPosteriorError, TypeError):
    """No token can be made for a model or a call, since a part of it has no readable value."""


class CacheWarning(UserWarning):
    """A posterior could not be read from, or written to, the cache."""


class CallbackWarning(UserWarning):
    """A callback failed, or a notification was not sent; the run itself goes on."""


class ClusterWarning(UserWarning):
    """Something of a cluster went wrong that costs no result."""


class DisplayWarning(UserWarning):
    """How a run stands cannot be shown; the run itself goes on."""


class TokenWarning(UserWarning):
    """A call is not cached, since no complete key can be made for it."""


def warn(kind: type[Warning], message: str) -> None:
    """Warn the caller of this package, whichever of its functions was called."""
    depth, frame = 1, sys._getframe()
    inside = ("cloudposterior", "contextlib")
    while frame.f_back is not None and _module(frame.f_globals).startswith(inside):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, kind, stacklevel=depth)


def tell(kind: type[Warning], message: str) -> None:
    """Warn of what came after sampling; no filter of warnings may cost the posterior."""
    try:
        warn(kind, message)
    except kind:
        print(f"cloudposterior: {message}", file=sys.stderr)


def _module(namespace: dict[str, object]) -> str:
    return str(namespace.get("__name__", ""))
