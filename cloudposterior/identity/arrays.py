"""Digests of arrays, by every byte.

Dask's own token of an array is not used: it gives a square array and its transpose one token, and
joins the elements of object arrays without marking where one ends.
"""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["DIGEST_SIZE", "array_digest", "digest_bytes", "dtype_name"]

DIGEST_SIZE = 16


def digest_bytes(*parts: bytes) -> bytes:
    """Digest length-prefixed parts, so that no two lists of parts run into each other."""
    pieces = []
    for part in parts:
        pieces.append(len(part).to_bytes(8, "little"))
        pieces.append(part)
    return hashlib.blake2b(b"".join(pieces), digest_size=DIGEST_SIZE).digest()


def dtype_name(dtype: np.dtype) -> str:
    """Spell a dtype out in full: byte order, size, and the fields of a structured one."""
    if dtype.names is not None:
        fields = [(name, dtype.fields[name]) for name in dtype.names]  # type: ignore[index]
        inner = ",".join(f"{name}:{dtype_name(f[0])}@{f[1]}" for name, f in fields)
        return f"{{{inner}}}{dtype.itemsize}"
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return f"{dtype_name(base)}{shape}"
    # newer string dtypes say only "|T16" by their code
    return dtype.str if dtype.kind != "T" else repr(dtype)


def _without_padding(array: np.ndarray) -> np.ndarray:
    """Split long doubles into doubles: some of the bytes they take are never written."""
    parts = [array.real, array.imag] if array.dtype.char == "G" else [array]
    columns = []
    for part in parts:
        mantissa, exponent = np.frexp(part)
        high = mantissa.astype("f8")
        low = np.where(np.isfinite(part), mantissa - high, 0).astype("f8")
        columns += [high, low, exponent.astype("f8"), np.signbit(part).astype("f8")]
    return np.stack(columns)


def array_digest(array: np.ndarray) -> bytes:
    """Digest an array without Python objects: dtype, shape and the bytes in C order.

    Parameters
    ----------
    array : numpy.ndarray
        Any shape and memory layout; ``array.dtype.hasobject`` must be False.

    Returns
    -------
    bytes
        16 bytes. Equal for equal dtype, shape and bits, whatever the strides.
    """
    state = hashlib.blake2b(digest_size=DIGEST_SIZE)
    # the shape as it is: ascontiguousarray turns 0-d into 1-d
    state.update(f"{dtype_name(array.dtype)}|{array.shape}|".encode())
    if array.dtype.names is not None:
        # padding between fields is whatever memory held
        clean = np.zeros(array.shape, array.dtype)
        clean[...] = array
        array = clean
    if array.dtype.char in "gG":
        array = _without_padding(array)
    if array.size:
        state.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return state.digest()
