"""Everything the package raises or warns with, in one tree each."""

from __future__ import annotations

import sys
import warnings

__all__ = [
    "BlockError",
    "BlockWarning",
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
    """Base class of the errors that this package raises.

    Examples
    --------
    >>> try:
    ...     cp.attach("radon-3f1c", cluster=client)
    ... except cp.CloudPosteriorError as error:
    ...     print(type(error).__name__)
    ClusterError
    """


class BlockError(CloudPosteriorError, RuntimeError):
    """A ``with cp.cloud(model)`` block was entered or left in a way that has no meaning.

    Examples
    --------
    >>> block = cp.cloud(model)
    >>> with block:
    ...     with block:
    ...         pass
    Traceback (most recent call last):
    cloudposterior.errors.BlockError: this block is open already; use a new cp.cloud(model) ...
    """


class CacheFileError(CloudPosteriorError, OSError):
    """A cache file is torn, foreign, or of another format, and was not read.

    Examples
    --------
    >>> from pathlib import Path
    >>> size = Path("torn.nc").write_bytes(b"no netCDF")
    >>> cp.DiskCache(".").show("torn.nc")
    Traceback (most recent call last):
    cloudposterior.errors.CacheFileError: torn.nc: it is too short (9 bytes)
    """


class ShippingError(CloudPosteriorError, TypeError):
    """A model or an argument cannot be sent to a worker, or did not arrive there.

    Examples
    --------
    >>> import threading
    >>> lock = threading.Lock()
    >>> def logp(value):
    ...     with lock:
    ...         return -(value**2)
    >>> with pm.Model() as locked:
    ...     x = pm.CustomDist("x", logp=logp)
    >>> cp.sample(locked, cluster=client, cache=False)
    Traceback (most recent call last):
    cloudposterior.errors.ShippingError: Variable 'x' of the model cannot be sent to a worker: ...
    """


class ClusterError(CloudPosteriorError, RuntimeError):
    """A cluster cannot be reached, has no workers, or has workers that cannot do the work.

    Examples
    --------
    >>> import dask
    >>> with dask.config.set({"cloudposterior.cluster.connect-timeout": "200ms"}):
    ...     cp.sample(model, cluster="tcp://127.0.0.1:1")
    Traceback (most recent call last):
    cloudposterior.errors.ClusterError: ...
    """


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

    Examples
    --------
    >>> error = cp.ChainError((2,), "tcp://10.0.0.7:41235", "SamplingError: bad initial energy")
    >>> print(error)
    chain 2 failed on tcp://10.0.0.7:41235: SamplingError: bad initial energy
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
    """No token can be made for a model or a call, since a part of it has no readable value.

    Examples
    --------
    >>> import threading
    >>> from dask.base import tokenize
    >>> lock = threading.Lock()
    >>> def logp(value):
    ...     with lock:
    ...         return -(value**2)
    >>> with pm.Model() as locked:
    ...     x = pm.CustomDist("x", logp=logp)
    >>> tokenize(locked)
    Traceback (most recent call last):
    cloudposterior.errors.TokenError: 'x' > ... has no value that could be read ...
    """


class BlockWarning(UserWarning):
    """A ``with cp.cloud(model)`` block answered nothing, while other models were sampled in it.

    Examples
    --------
    >>> with pm.Model(name="other") as other:
    ...     x = pm.Normal("x")
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     with cp.cloud(model), other:
    ...         prior = pm.sample_prior_predictive(draws=2, random_seed=1)
    >>> print(said[-1].message)
    this cp.cloud block answered no call: `pymc.sample_prior_predictive` was called on the model ...
    """


class CacheWarning(UserWarning):
    """A posterior could not be read from, or written to, the cache.

    Examples
    --------
    >>> from pathlib import Path
    >>> size = Path("no_directory").write_text("")
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     idata = cp.sample(model, draws=100, tune=100, chains=2, cache="no_directory")
    >>> [warning.category.__name__ for warning in said if issubclass(warning.category, UserWarning)]
    ['CacheWarning']
    >>> idata["posterior"]["mu"].shape
    (2, 100)
    """


class CallbackWarning(UserWarning):
    """A callback failed, or a notification was not sent; the run itself goes on.

    Examples
    --------
    >>> class Broken:
    ...     def on_start(self, run):
    ...         raise OSError("the disk of the log is full")
    >>> call = {"draws": 100, "tune": 100, "chains": 2, "callbacks": [Broken()]}
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     idata = cp.sample(model, **call)
    >>> [warning.category.__name__ for warning in said if issubclass(warning.category, UserWarning)]
    ['CallbackWarning']
    """


class ClusterWarning(UserWarning):
    """Something of a cluster went wrong that costs no result.

    Examples
    --------
    In a test or a script of one's own it may be an error:

    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", cp.ClusterWarning)
    ...     idata = cp.sample(model, draws=100, tune=100, chains=2, cluster=client)
    """


class DisplayWarning(UserWarning):
    """How a run stands cannot be shown; the run itself goes on.

    Examples
    --------
    >>> warnings.filterwarnings("ignore", category=cp.DisplayWarning)
    """


class TokenWarning(UserWarning):
    """A call is not cached, since no complete key can be made for it.

    Examples
    --------
    >>> call = {"draws": 100, "tune": 100, "chains": 2, "return_inferencedata": False}
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     trace = cp.sample(model, **call)
    >>> [warning.category.__name__ for warning in said if issubclass(warning.category, UserWarning)]
    ['TokenWarning']
    """


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
