"""Where results are kept: in memory, or in a directory of netCDF files.

A cache is three calls (`Cache`): ``get``, ``put``, ``entries``. From a tree to a file, the path is
`layout` (what to write, and the exact way back), `netcdf` (datasets), `seal` (checksums), `disk`.
"""

from cloudposterior.cache.disk import DiskCache
from cloudposterior.cache.memory import MemoryCache
from cloudposterior.cache.protocol import Cache, Entry, Record
from cloudposterior.cache.upkeep import read_entry

__all__ = ["Cache", "DiskCache", "Entry", "MemoryCache", "Record", "read_entry"]
