"""Sample a PyMC model once: posteriors cached under a key that is never wrong.

>>> import cloudposterior as cp
>>> with cp.cloud(model, cache="disk"):  # doctest: +SKIP
...     idata = pm.sample()

Importing the package also makes `dask.base.tokenize` read PyMC models: see `identity`.
"""

from __future__ import annotations

from cloudposterior import config  # noqa: F401  (sets the defaults of the settings)
from cloudposterior.api import cloud, explain, sample
from cloudposterior.cache import DiskCache, Entry, MemoryCache, Record
from cloudposterior.errors import (
    BlockError,
    CacheFileError,
    CacheWarning,
    CloudPosteriorError,
    TokenError,
    TokenWarning,
)
from cloudposterior.explain import Explanation

__all__ = [
    "BlockError",
    "CacheFileError",
    "CacheWarning",
    "CloudPosteriorError",
    "DiskCache",
    "Entry",
    "Explanation",
    "MemoryCache",
    "Record",
    "TokenError",
    "TokenWarning",
    "cloud",
    "explain",
    "sample",
]
