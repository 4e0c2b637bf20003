"""Sample PyMC models on any Dask cluster, once: the same draws, kept under a key never wrong.

>>> import cloudposterior as cp
>>> with cp.cloud(model, cluster=client, cache="disk"):  # doctest: +SKIP
...     idata = pm.sample()

Importing the package also makes `dask.base.tokenize` read PyMC models: see `identity`.
"""

from __future__ import annotations

from cloudposterior import config  # noqa: F401  (sets the defaults of the settings)
from cloudposterior.api import cloud, explain, sample
from cloudposterior.cache import DiskCache, Entry, MemoryCache, Record
from cloudposterior.cluster.on_coiled import coiled_cluster
from cloudposterior.cluster.sizing import ClusterOptions, cluster_options
from cloudposterior.errors import (
    BlockError,
    CacheFileError,
    CacheWarning,
    ChainError,
    CloudPosteriorError,
    ClusterError,
    ClusterWarning,
    ShippingError,
    TokenError,
    TokenWarning,
)
from cloudposterior.explain import Explanation

__all__ = [
    "BlockError",
    "CacheFileError",
    "CacheWarning",
    "ChainError",
    "CloudPosteriorError",
    "ClusterError",
    "ClusterOptions",
    "ClusterWarning",
    "DiskCache",
    "Entry",
    "Explanation",
    "MemoryCache",
    "Record",
    "ShippingError",
    "TokenError",
    "TokenWarning",
    "cloud",
    "cluster_options",
    "coiled_cluster",
    "explain",
    "sample",
]
