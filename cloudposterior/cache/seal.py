"""The end of a cache file: what is known of the entry, and checksums, after the HDF5 data.

HDF5 readers ignore what follows their data. With the seal, a listing reads a few kB of each file
and never opens HDF5, and no byte reaches libhdf5, which may crash on a damaged file, before the
SHA-256 of the whole file has been found right::

    HDF5 data | description (JSON) | footer, 104 bytes:
        magic 16 | format 4 | zero 4 | length of HDF5 data 8 | length of description 8
        | SHA-256 of the description 32 | SHA-256 of everything before this field 32

SHA-256 ran at 1.6 to 1.9 GB/s on a processor with SHA instructions, BLAKE2b at 0.9 to 1.3.

A checksum tells of accidents. There is no secret in it: who can write a file can seal it, so that
what a whole file says is not trusted either (`hdf5`, `layout`, `values`).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from cloudposterior.errors import CacheFileError

__all__ = [
    "FOOTER_BYTES",
    "FORMAT",
    "Seal",
    "append_seal",
    "check_all",
    "check_description",
    "description_span",
    "read_seal",
    "seal_from_end",
]

FORMAT = 1
"""The format of the files that this version writes, and the only one that it reads."""

_MAGIC = b"\ncloudposterior\0"
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_FOOTER = struct.Struct("<16sIIQQ32s32s")
_DIGEST_BYTES = 32
_STEP_BYTES = 1 << 20

FOOTER_BYTES = _FOOTER.size
"""The size of the footer."""

# A description is held in memory, in listings too. An index of 10 million times takes 107 MB in it.
_MOST_DESCRIPTION_BYTES = 1 << 27
# JSON's smallest values take some 30 times the memory of their text: `[[],[],...`.
_MOST_DESCRIPTION_VALUES = 1 << 22


@dataclass(frozen=True)
class Seal:
    """What the end of a file says.

    Attributes
    ----------
    description : dict
        The entry's record and layout.
    size_bytes : int
        The size of the whole file.
    data_bytes : int
        The size of the HDF5 data before the description.
    digest : bytes
        The SHA-256 of everything before it.
    """

    description: dict[str, Any]
    size_bytes: int
    data_bytes: int
    digest: bytes


def check_description(description: dict[str, Any]) -> bytes:
    """Return a description as text, if `read_seal` would take it.

    Raises
    ------
    ValueError
        If it is too large.
    """
    text = json.dumps(description).encode("ascii")
    too_much = _excess(text)
    if too_much:
        raise ValueError(
            f"its description has {too_much}; indexes and values of pandas types are held in it: "
            "keep those in numpy arrays"
        )
    return text


def _excess(text: bytes) -> str | None:
    """Say what a description has too much of, before JSON is made of it."""
    if len(text) > _MOST_DESCRIPTION_BYTES:
        return f"{len(text)} bytes, more than {_MOST_DESCRIPTION_BYTES}"
    values = sum(map(text.count, (b",", b"[", b"{")))
    if values > _MOST_DESCRIPTION_VALUES:
        return f"{values} values, more than {_MOST_DESCRIPTION_VALUES}"
    return None


def append_seal(file: BinaryIO, text: bytes) -> int:
    """Complete an HDF5 file, and return its size.

    Parameters
    ----------
    file : file object
        Open for reading and writing.
    text : bytes
        Its description, from `check_description`.
    """
    length = file.seek(0, os.SEEK_END)
    running = _digest(file, length)
    footer = _FOOTER.pack(_MAGIC, FORMAT, 0, length, len(text), hashlib.sha256(text).digest(), b"")
    tail = text + footer[:-_DIGEST_BYTES]
    running.update(tail)
    file.seek(length)
    view = memoryview(tail + running.digest())
    size = length + len(view)
    while view:  # an unbuffered file may take less than all
        view = view[file.write(view) :]
    file.flush()
    return size


def read_seal(file: BinaryIO) -> Seal:
    """Read the end of a file, and check that this end is whole.

    Raises
    ------
    CacheFileError
        If the file is torn, foreign, or of another format; the message says which.
    """
    size = file.seek(0, os.SEEK_END)

    def read(start: int, stop: int) -> bytes:
        file.seek(start)
        return file.read(stop - start)

    footer = read(max(0, size - FOOTER_BYTES), size)
    start, stop = description_span(footer, size, head=lambda: read(0, len(_HDF5_MAGIC)))
    return seal_from_end(read(start, stop), footer, size)


def description_span(
    footer: bytes, size: int, head: Callable[[], bytes] = lambda: b""
) -> tuple[int, int]:
    """Return where the description of a file begins and ends.

    Parameters
    ----------
    footer : bytes
        The last `FOOTER_BYTES` of the file.
    size : int
        The size of the file.
    head : callable, optional
        Reads the beginning of the file, to tell a torn file from a foreign one.

    Raises
    ------
    CacheFileError
        If the footer is not one of this format, or contradicts the size.
    """
    if size < FOOTER_BYTES or len(footer) < FOOTER_BYTES:
        raise CacheFileError("it is empty" if size == 0 else f"it is too short ({size} bytes)")
    magic, version, _, data_length, length, _, _ = _FOOTER.unpack(footer)
    if magic != _MAGIC:
        is_hdf5 = head() == _HDF5_MAGIC
        kind = "it is torn, or was not written by cloudposterior" if is_hdf5 else "it is foreign"
        raise CacheFileError(f"{kind} (the seal at its end is missing)")
    if version != FORMAT:
        raise CacheFileError(f"it has format {version}, this version reads format {FORMAT}")
    if data_length + length + FOOTER_BYTES != size:
        raise CacheFileError("its size is not what its seal says")
    if length > _MOST_DESCRIPTION_BYTES:
        raise CacheFileError(f"its description has {length} bytes, and no result needs so many")
    return data_length, data_length + length


def seal_from_end(text: bytes, footer: bytes, size: int) -> Seal:
    """Return the seal of a file from its description and its footer.

    Raises
    ------
    CacheFileError
        If the description is damaged, or no description.
    """
    *_, data_length, _, text_digest, digest = _FOOTER.unpack(footer)
    if hashlib.sha256(text).digest() != text_digest:
        raise CacheFileError("its description is damaged (wrong checksum)")
    too_much = _excess(text)
    if too_much:
        raise CacheFileError(f"its description has {too_much}")
    try:
        description = json.loads(text)
        if not (isinstance(description, dict) and description.keys() >= {"record", "layout"}):
            raise ValueError("it lacks the record or the layout")
    except (ValueError, RecursionError) as error:  # nested deeply, or a number of 5000 digits
        raise CacheFileError(f"its description is not understood ({error})") from error
    return Seal(description, size, data_length, digest)


def check_all(file: BinaryIO, seal: Seal) -> None:
    """Check every byte of a file.

    Raises
    ------
    CacheFileError
        If the checksum is wrong.
    """
    if _digest(file, seal.size_bytes - _DIGEST_BYTES).digest() != seal.digest:
        raise CacheFileError("it is damaged (wrong checksum)")


def _digest(file: BinaryIO, length: int) -> Any:
    """Return the running SHA-256 of the first `length` bytes."""
    running = hashlib.sha256()
    buffer = memoryview(bytearray(min(_STEP_BYTES, length) or 1))
    file.seek(0)
    while length > 0:
        count = file.readinto(buffer[: min(len(buffer), length)])  # type: ignore[attr-defined]
        if not count:
            break
        running.update(buffer[:count])
        length -= count
    return running
