"""Where results are kept: in memory, in a directory of netCDF files, or behind a URL.

A cache is three calls (`Cache`): ``get``, ``put``, ``entries``. From a tree to a file, the path is
`layout` (what to write, and the exact way back), `netcdf` (datasets), `seal` (checksums), `files`;
back, `hdf5` reads, and believes nothing. `files` works over a `store`: `local` or `remote`.
"""

from cloudposterior.cache.disk import DiskCache
from cloudposterior.cache.memory import MemoryCache
from cloudposterior.cache.protocol import Cache, Entry, Record
from cloudposterior.cache.shared import RemoteCache
from cloudposterior.cache.upkeep import read_entry

__all__ = ["Cache", "DiskCache", "Entry", "MemoryCache", "Record", "RemoteCache", "read_entry"]
