"""Arrays that stay in their file: what is asked for is read when it is asked for."""

from __future__ import annotations

import io
import math
import os
import threading
import weakref
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from dask.base import normalize_token

from cloudposterior.cache.arrays import Array
from cloudposterior.cache.folder import open_path
from cloudposterior.cache.seal import read_seal
from cloudposterior.errors import CacheFileError

__all__ = ["ArrayInFile", "KeptFile", "dask_array"]

_CHUNK_BYTES = 64 * 2**20


class KeptFile:
    """A cache file that stays open, so that it can be read whatever becomes of its name.

    Parameters
    ----------
    file : file object
        The file; it may be closed afterwards.
    path : pathlib.Path or str
        Where it lies; text where that is no place on this machine.
    digest : bytes
        Its checksum, which another process knows it by.
    """

    def __init__(self, file: BinaryIO, path: Path | str, digest: bytes) -> None:
        self._file = io.FileIO(os.dup(file.fileno()))
        # as long as any array is left
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._path = path
        self.digest = digest

    def read(self, at: int, count: int) -> Array:
        """Give bytes from one place of the file.

        Raises
        ------
        OSError
            If they cannot be read, or are not there any more.
        """
        target = np.empty(count, np.uint8)
        view = memoryview(target)
        with self._lock:
            self._file.seek(at)
            while view:
                read = self._file.readinto(view)
                if not read:
                    raise OSError(f"{self._path} is shorter than it was when it was opened")
                view = view[read:]
        return target

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process as a path; the file itself stays where it is."""
        return _open_again, (self._path, self.digest)


def _open_again(path: Path | str, digest: bytes) -> KeptFile:
    if not isinstance(path, Path):
        raise CacheFileError(
            f"{path} was fetched by the process that asked for it, and is read there only: compute "
            "with dask.config.set(scheduler='threads'), or load() it"
        )
    try:
        with open_path(path) as file:
            if read_seal(file).digest == digest:
                return KeptFile(file, path, digest)
    except FileNotFoundError:
        pass
    raise CacheFileError(
        f"{path} is not on this machine, or not the file that it was: compute where it lies, with "
        "dask.config.set(scheduler='threads'), or call the function again"
    )


class ArrayInFile:
    """An array that lies in a file in one piece.

    Parameters
    ----------
    file : KeptFile
        The file.
    at : int
        Where in it the array begins, in bytes.
    shape : tuple of int
        Its shape.
    dtype : numpy.dtype
        Of its elements.
    """

    def __init__(self, file: KeptFile, at: int, shape: tuple[int, ...], dtype: Any) -> None:
        self._file = file
        self._at = at
        self.shape = shape
        self.dtype = dtype
        self.ndim = len(shape)

    def __getitem__(self, key: Any) -> Array:
        """Read a part: what lies between its first element and its last, and no more.

        Parameters
        ----------
        key : tuple of slice and int
            Of each dimension what is asked for.
        """
        key = key if isinstance(key, tuple) else (key,)
        key += (slice(None),) * (self.ndim - len(key))
        # an int is a slice of one, whose dimension is dropped in the end
        parts = [part if isinstance(part, slice) else slice(part, part + 1 or None) for part in key]
        ranges = [range(size)[part] for part, size in zip(parts, self.shape, strict=True)]
        counts = tuple(map(len, ranges))
        part = np.empty(counts, self.dtype) if 0 in counts else self._between(ranges, counts)
        return part[tuple(slice(None) if isinstance(k, slice) else 0 for k in key)]

    def _between(self, ranges: list[range], counts: tuple[int, ...]) -> Array:
        width = self.dtype.itemsize
        strides = [math.prod(self.shape[axis + 1 :]) * width for axis in range(self.ndim)]
        pairs = list(zip(ranges, strides, strict=True))
        low = sum(min(of[0], of[-1]) * stride for of, stride in pairs)
        high = sum(max(of[0], of[-1]) * stride for of, stride in pairs) + width
        first = sum(of[0] * stride for of, stride in pairs) - low
        read = self._file.read(self._at + low, high - low)
        steps = [of.step * stride for of, stride in pairs]
        return np.ndarray(counts, self.dtype, read.data, first, steps).copy()

    def __dask_tokenize__(self) -> Any:
        """Tell it from other arrays without reading it."""
        return normalize_token((self._file.digest, self._at, self.shape, str(self.dtype)))


def dask_array(array: ArrayInFile) -> Any:
    """Give an array in a file as a `dask.array.Array`, whose chunks lie in one piece each.

    Parameters
    ----------
    array : ArrayInFile
        The array.
    """
    import dask.array as da

    return da.from_array(array, chunks=_chunks(array.shape, array.dtype.itemsize), asarray=False)


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Cut the first dimensions: draws of a chain stay together, and all of a draw."""
    chunks = list(shape)
    for axis in range(len(shape)):
        row = math.prod(chunks[axis + 1 :]) * itemsize
        chunks[axis] = max(1, min(chunks[axis], _CHUNK_BYTES // max(row, 1)))
        if row < _CHUNK_BYTES:
            break
    return tuple(chunks)
