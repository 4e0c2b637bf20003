"""Datasets out of an HDF5 file of which nothing is believed.

libhdf5 is asked where a dataset lies, and no more. What is there is read here, by the form that the
layout gives, and in no way that takes more memory than the file's own size allows:

- links are hard ones, so that neither a path nor another file is opened;
- a dataset lies in the file, whole: in one piece, or in chunks that are all there. External files,
  virtual datasets and fill values make arrays of any size out of nothing;
- types are numbers and text, no references, no compound or nested types;
- filters are those that this package writes. A chunk is inflated up to its own size: a deflate
  stream of a kilobyte may give a megabyte, of a gigabyte a terabyte;
- no byte is read for two arrays: many references to one text, or chunks at one place, make much out
  of little.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py
import numpy as np

from cloudposterior.cache.arrays import Array, Form
from cloudposterior.cache.lazy import ArrayInFile, KeptFile, dask_array
from cloudposterior.config import has_no_room

__all__ = ["CHUNK_BYTES", "Datasets", "check_ratio", "open_datasets"]

CHUNK_BYTES = 1 << 20
"""The size that no chunk exceeds, before it is compressed."""

_MOST_RATIO = 1032
"""Deflate makes at most so many bytes out of one: two bits stand for 258."""

_LEAST_CHUNK_BYTES = 32
"""What a chunk takes at least, with its place in HDF5's index."""

_Chunk = tuple[tuple[int, ...], int, int]
_FILTERS = {(h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE), (h5py.h5z.FILTER_DEFLATE,)}
_REFERENCES = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])
_HEAP = struct.Struct("<4sB3xQ")
_HEAP_OBJECT = struct.Struct("<HH4xQ")


def check_ratio(decoded_bytes: int, stored_bytes: int) -> None:
    """Refuse to make more out of bytes than deflate can.

    Raises
    ------
    ValueError
        If so many bytes cannot come of so few.
    """
    if decoded_bytes > _MOST_RATIO * stored_bytes:
        raise ValueError(f"{decoded_bytes} bytes cannot come of {stored_bytes}")


@contextlib.contextmanager
def open_datasets(file: BinaryIO, size: int, kept: KeptFile | None = None) -> Iterator[Datasets]:
    """Read an HDF5 file through a file object that is open already.

    The path may have come to mean another file meanwhile; the file object has not.

    Parameters
    ----------
    file : file object
        The file.
    size : int
        The size of its HDF5 data.
    kept : KeptFile, optional
        The file again, where large arrays are left in it.
    """
    with h5py.File(file, "r", locking=False) as opened:
        yield Datasets(opened.id, file, size, kept)


class Datasets:
    """The datasets of an open HDF5 file, as bare numbers and text.

    Parameters
    ----------
    root : h5py.h5f.FileID
        The file, as libhdf5 sees it.
    file : file object
        The file itself.
    size : int
        The size of its HDF5 data.
    kept : KeptFile, optional
        The file again, where large arrays are left in it.
    """

    def __init__(self, root: Any, file: BinaryIO, size: int, kept: KeptFile | None = None) -> None:
        self._file = file
        self._size = size
        self._kept = kept
        self._in_memory = 0
        self._unread = size
        self._groups: dict[str, Any] = {"": h5py.h5g.open(root, b"/")}
        self._heaps: dict[int, dict[int, bytes]] = {}

    def read(self, group: str, name: str, form: Form) -> Any:
        """Return the content of a dataset; text as an object array of ``str``.

        Of a file that is kept open, large arrays that lie in one piece come as dask arrays.

        Parameters
        ----------
        group, name : str
            The path of its group, and its name there.
        form : Form
            What it must be.

        Raises
        ------
        ValueError
            If it is something else.
        OSError
            If this machine has not the memory.
        """
        place = self._group(group.rstrip("/"))
        _check_link(place, name)
        dataset = h5py.h5d.open(place, name.encode())
        plan = dataset.get_create_plist()
        dtype = _check_type(dataset, form)
        if tuple(dataset.shape) != form.shape:
            raise ValueError(f"{name!r} has not the shape {form.shape}")
        filters = tuple(plan.get_filter(number)[0] for number in range(plan.get_nfilters()))
        is_whole = plan.get_layout() == h5py.h5d.CONTIGUOUS and not plan.get_external_count()
        may_stay = is_whole and form.is_number_by_number and form.stored_bytes > CHUNK_BYTES
        kept = self._kept if may_stay else None
        if kept is None:
            self._check_memory(max(form.stored_bytes, form.decoded_bytes))
        if plan.get_layout() == h5py.h5d.CHUNKED and form.dtype is not None and filters in _FILTERS:
            array = self._read_chunks(dataset, dtype, plan.get_chunk(), filters)
            return array.astype(form.dtype, copy=False)
        if not is_whole or filters:
            raise ValueError(f"{name!r} is stored in a way that is never written")
        if dataset.get_storage_size() != form.stored_bytes:
            raise ValueError(f"{name!r} is not all there")
        at = dataset.get_offset()
        if form.dtype is None:
            return self._read_texts(at, form)
        if kept is not None:
            start = self._check_place(at, form.stored_bytes)
            left = dask_array(ArrayInFile(kept, start, form.shape, dtype))
            return left.astype(form.dtype, copy=False)
        array = np.empty(form.shape, dtype)
        self._take(at, array.reshape(-1).view(np.uint8))
        return array.astype(form.dtype, copy=False)

    def _check_memory(self, needed: int) -> None:
        """Refuse what no memory of this machine can hold, however large a file claims to be."""
        self._in_memory += needed
        if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
            there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            if self._in_memory > there > 0:
                text = f"it holds {self._in_memory} bytes, and this machine has a memory of {there}"
                raise OSError(errno.ENOMEM, text)
        if has_no_room(self._in_memory):
            text = f"it holds {self._in_memory} bytes, and this process may not have so many"
            raise OSError(errno.ENOMEM, text)

    def _group(self, path: str) -> Any:
        if path not in self._groups:
            parent, _, name = path.rpartition("/")
            place = self._group(parent)
            _check_link(place, name)
            self._groups[path] = h5py.h5g.open(place, name.encode())
        return self._groups[path]

    def _take(self, at: int | None, target: Array) -> Array:
        """Fill an array of bytes from one place of the file; no more than the file has in all."""
        self._file.seek(self._check_place(at, target.nbytes))
        if self._file.readinto(memoryview(target)) != target.nbytes:  # type: ignore[attr-defined]
            raise ValueError("data that is not there")
        return target

    def _check_place(self, at: int | None, count: int) -> int:
        if at is None or at < 0 or at + count > self._size:
            raise ValueError("data that lies outside of the file")
        self._unread -= count
        if self._unread < 0:
            raise ValueError("more data than the file has")
        return at

    def _bytes(self, at: int | None, count: int) -> bytes:
        if count > self._unread:
            raise ValueError("more data than the file has")
        return self._take(at, np.empty(count, np.uint8)).tobytes()

    def _read_chunks(
        self, dataset: Any, dtype: Any, chunk: tuple[int, ...], filters: tuple[int, ...]
    ) -> Array:
        shape, whole = dataset.shape, math.prod(chunk) * dtype.itemsize
        places = self._chunks(dataset, chunk, whole)
        array = np.empty(shape, dtype)
        for corner, at, size in places:
            block = _inflate(self._bytes(at, size), whole)
            if filters[0] == h5py.h5z.FILTER_SHUFFLE:
                block = np.ascontiguousarray(block.reshape(dtype.itemsize, -1).T)
            ends = zip(corner, chunk, strict=True)
            target = array[tuple(slice(start, start + step) for start, step in ends)]
            within = tuple(slice(0, size) for size in target.shape)  # the last may stick out
            target[...] = block.reshape(-1).view(dtype).reshape(chunk)[within]
        return array

    def _chunks(self, dataset: Any, chunk: tuple[int, ...], whole: int) -> list[_Chunk]:
        """Return corner, place and size of each chunk, once it is sure that all are there."""
        sides = list(zip(dataset.shape, chunk, strict=True))
        number = math.prod(-(-size // step) for size, step in sides)
        if not 0 < whole <= CHUNK_BYTES or number > self._unread // _LEAST_CHUNK_BYTES:
            raise ValueError(f"{number} chunks of {whole} bytes are never written")
        places = []
        for corner in itertools.product(*(range(0, size, step) for size, step in sides)):
            info = dataset.get_chunk_info_by_coord(corner)
            if info.byte_offset is None or info.filter_mask:
                raise ValueError("a chunk is missing, or was not filtered")
            check_ratio(whole, info.size)
            places.append((corner, info.byte_offset, info.size))
        if sum(size for *_, size in places) > self._unread:
            raise ValueError("more data than the file has")
        return places

    def _read_texts(self, at: int, form: Form) -> Array:
        references = np.frombuffer(self._bytes(at, form.stored_bytes), _REFERENCES)
        if int(references["length"].sum(dtype=np.uint64)) > self._size:
            raise ValueError("more text than the file has")
        texts = np.empty(form.count, dtype=object)
        for position, (length, heap, number) in enumerate(references.tolist()):
            texts[position] = self._text(heap, number, length) if length else ""
        return texts.reshape(form.shape)

    def _text(self, heap: int, number: int, length: int) -> str:
        if heap not in self._heaps:
            self._heaps[heap] = self._read_heap(heap)
        raw = self._heaps[heap][number]
        if len(raw) != length:
            raise ValueError("a text of another length than its reference says")
        return raw.decode("utf-8")

    def _read_heap(self, at: int) -> dict[int, bytes]:
        """Return the texts of a global heap collection, by their numbers.

        Read here and not by libhdf5, which trusts a heap to hold what a reference says.
        """
        magic, version, size = _HEAP.unpack(self._bytes(at, _HEAP.size))
        if (magic, version) != (b"GCOL", 1) or size < _HEAP.size:
            raise ValueError("a text that is not in a heap")
        raw = self._bytes(at + _HEAP.size, size - _HEAP.size)
        found: dict[int, bytes] = {}
        start = 0
        while start + _HEAP_OBJECT.size <= len(raw):
            number, _, length = _HEAP_OBJECT.unpack_from(raw, start)
            if number == 0:  # what is left is free
                break
            start += _HEAP_OBJECT.size
            found[number] = raw[start : start + length]
            start += -(-length // 8) * 8
        return found


def _check_link(place: Any, name: str) -> None:
    """Refuse a name that leads elsewhere: by a soft link, into another file, or by a path."""
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"{name!r:.100} is not the name of a dataset or group")
    links = place.links
    if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"{name!r:.100} is a link")


def _check_type(dataset: Any, form: Form) -> Any:
    """Return the dtype in the file, which is that of the form but for the order of bytes.

    Whatever else it is has been refused before h5py makes a dtype of it.
    """
    kind = dataset.get_type()
    is_text = isinstance(kind, h5py.h5t.TypeStringID)
    if form.dtype is None:
        if not (is_text and kind.is_variable_str()):
            raise ValueError("a dataset of text that holds none")
        return None
    is_number = isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID)
    if not (is_number or (is_text and not kind.is_variable_str())):
        raise ValueError("a dataset that holds neither numbers nor text")
    if kind.dtype.newbyteorder("=") != form.dtype.newbyteorder("="):
        raise ValueError(f"a dataset of dtype {kind.dtype}, not {form.dtype}")
    return kind.dtype


def _inflate(raw: bytes, whole: int) -> Array:
    """Return what a deflate stream holds, which must be so many bytes, and never more."""
    stream = zlib.decompressobj()
    block = stream.decompress(raw, whole)
    if len(block) != whole or stream.decompress(stream.unconsumed_tail, 1) or not stream.eof:
        raise ValueError("a chunk of another size than it should have")
    return np.frombuffer(block, np.uint8)
