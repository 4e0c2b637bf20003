"""Sample PyMC models on any Dask cluster, once: the same draws, kept under a key never wrong.

    with cp.cloud(model, cluster=client, cache="disk"):
        idata = pm.sample()

Importing the package also makes `dask.base.tokenize` read PyMC models: see `identity`. PyMC itself
is imported by the first use of something that needs it, so that a scheduler, or a command that
lists a cache, does without.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from dask.base import normalize_token

from cloudposterior import config  # noqa: F401  (sets the defaults of the settings)

if TYPE_CHECKING:
    from cloudposterior.api import Run, cloud, explain, runs, sample
    from cloudposterior.cache import DiskCache, Entry, MemoryCache, Record, RemoteCache
    from cloudposterior.callbacks import Callback, RunInfo
    from cloudposterior.cluster.on_coiled import coiled_cluster
    from cloudposterior.cluster.sizing import ClusterOptions, cluster_options
    from cloudposterior.cluster.submitted import SubmittedRun
    from cloudposterior.errors import (
        BlockError,
        BlockWarning,
        CacheFileError,
        CacheWarning,
        CallbackWarning,
        ChainError,
        CloudPosteriorError,
        ClusterError,
        ClusterWarning,
        DisplayWarning,
        ShippingError,
        TokenError,
        TokenWarning,
    )
    from cloudposterior.explanation import Explanation
    from cloudposterior.many import map  # noqa: A004  (what it does to models)
    from cloudposterior.notify import Notifier
    from cloudposterior.submission import attach, submit
    from cloudposterior.summary import RunSummary
    from cloudposterior.validation.kfold import kfold
    from cloudposterior.validation.reloo import reloo
    from cloudposterior.validation.sbc import SBC, sbc
    from cloudposterior.validation.sensitivity import Sensitivity, sensitivity

__all__ = [
    "SBC",
    "BlockError",
    "BlockWarning",
    "CacheFileError",
    "CacheWarning",
    "Callback",
    "CallbackWarning",
    "ChainError",
    "CloudPosteriorError",
    "ClusterError",
    "ClusterOptions",
    "ClusterWarning",
    "DiskCache",
    "DisplayWarning",
    "Entry",
    "Explanation",
    "MemoryCache",
    "Notifier",
    "Record",
    "RemoteCache",
    "Run",
    "RunInfo",
    "RunSummary",
    "Sensitivity",
    "ShippingError",
    "SubmittedRun",
    "TokenError",
    "TokenWarning",
    "attach",
    "cloud",
    "cluster_options",
    "coiled_cluster",
    "explain",
    "kfold",
    "map",
    "reloo",
    "runs",
    "sample",
    "sbc",
    "sensitivity",
    "submit",
]

_HOMES = {
    "Run": "api",
    "cloud": "api",
    "explain": "api",
    "runs": "api",
    "sample": "api",
    "DiskCache": "cache",
    "Entry": "cache",
    "MemoryCache": "cache",
    "Record": "cache",
    "RemoteCache": "cache",
    "Callback": "callbacks",
    "RunInfo": "callbacks",
    "coiled_cluster": "cluster.on_coiled",
    "ClusterOptions": "cluster.sizing",
    "cluster_options": "cluster.sizing",
    "SubmittedRun": "cluster.submitted",
    "map": "many",
    "Notifier": "notify",
    "attach": "submission",
    "submit": "submission",
    "RunSummary": "summary",
    "Explanation": "explanation",
    "kfold": "validation.kfold",
    "reloo": "validation.reloo",
    "SBC": "validation.sbc",
    "sbc": "validation.sbc",
    "Sensitivity": "validation.sensitivity",
    "sensitivity": "validation.sensitivity",
}
"""The module of each public name; all others are errors and warnings."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return list(__all__)


def _register_tokens() -> None:
    importlib.import_module(f"{__name__}.identity")


if "pymc" in sys.modules:
    # Dask keeps what it found for a class, so what it has met by now is registered at once
    _register_tokens()
else:
    normalize_token.register_lazy("pymc", _register_tokens)
    normalize_token.register_lazy("pytensor", _register_tokens)
