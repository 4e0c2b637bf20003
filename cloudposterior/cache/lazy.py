"""Arrays that stay in their file: what is asked for is read when it is asked for."""

from __future__ import annotations

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
_MOST_READ_IN_VAIN = 4
"""How many times what is asked for is read at most, for being read at once."""


class KeptFile:
    """A cache file that stays open, so that it can be read whatever becomes of its name.

    In another process it is opened by its path when it is first read, if it is the same file still.

    Parameters
    ----------
    path : pathlib.Path or str
        Where it lies; text where that is no place on this machine.
    digest : bytes
        Its checksum, which another process knows it by.
    file : file object, optional
        The file, which may be closed afterwards. None opens it when it is first read.
    """

    def __init__(self, path: Path | str, digest: bytes, file: BinaryIO | None = None) -> None:
        self._path = Path(os.path.abspath(path)) if isinstance(path, Path) else path
        self.digest = digest
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        if file is not None:
            self._keep(file)

    def _keep(self, file: BinaryIO) -> int:
        descriptor = os.dup(file.fileno())
        # as long as any array is left
        weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor
        return descriptor

    def read(self, at: int, count: int) -> Array:
        """Give bytes from one place of the file.

        Raises
        ------
        OSError
            If they cannot be read, or are not there any more.
        CacheFileError
            If this process has not the file.
        """
        with self._lock:
            descriptor = self._descriptor
            if descriptor is None:
                descriptor = self._open()
        target = np.empty(count, np.uint8)
        read = 0
        while read < count:
            # without a position, which a process that was forked would share
            piece = os.pread(descriptor, count - read, at + read)
            if not piece:
                raise OSError(f"{self._path} is shorter than it was when it was opened")
            target[read : read + len(piece)] = np.frombuffer(piece, np.uint8)
            read += len(piece)
        return target

    def _open(self) -> int:
        if not isinstance(self._path, Path):
            raise CacheFileError(
                f"{self._path} was fetched by the process that asked for it, and is read there "
                "only: load(scheduler='threads') what you need of it first"
            )
        try:
            with open_path(self._path) as file:
                if read_seal(file).digest == self.digest:
                    return self._keep(file)
        except FileNotFoundError:
            pass
        raise CacheFileError(
            f"{self._path} is not on this machine, or not the file that it was: "
            "load(scheduler='threads') where it lies, or call the function again"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process as a path; the file itself stays where it is."""
        return KeptFile, (self._path, self.digest)


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
        """Read a part.

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
        if all(ranges):
            part = self._between(self._at, ranges, self._strides())
        else:
            part = np.empty(tuple(map(len, ranges)), self.dtype)
        return part[tuple(slice(None) if isinstance(k, slice) else 0 for k in key)]

    def _strides(self) -> list[int]:
        width = self.dtype.itemsize
        return [math.prod(self.shape[axis + 1 :]) * width for axis in range(self.ndim)]

    def _between(self, at: int, ranges: list[range], strides: list[int]) -> Array:
        """Read what lies between the first element and the last, or row by row if that is much."""
        pairs = list(zip(ranges, strides, strict=True))
        counts = tuple(map(len, ranges))
        low = sum(min(of[0], of[-1]) * stride for of, stride in pairs)
        high = sum(max(of[0], of[-1]) * stride for of, stride in pairs) + self.dtype.itemsize
        asked = math.prod(counts) * self.dtype.itemsize
        if len(ranges) > 1 and high - low > _MOST_READ_IN_VAIN * asked:
            rows = (at + index * strides[0] for index in ranges[0])
            return np.stack([self._between(row, ranges[1:], strides[1:]) for row in rows])
        first = sum(of[0] * stride for of, stride in pairs) - low
        read = self._file.read(at + low, high - low)
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
