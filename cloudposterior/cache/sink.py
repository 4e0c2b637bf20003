"""A file for libhdf5 to write to that never lets it see a failure.

Where a write fails while libhdf5 closes a file (a full disk does that), it leaves itself in a
state in which it crashes the process later on, and the posterior with it. So the failure is kept
here, libhdf5 finishes as if all were well, and then the failure is raised.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

__all__ = ["Sink"]

# What libhdf5 may want back after a failure is metadata, which it writes in pieces up to this size.
_PIECE_BYTES = 1 << 20
_KEPT_BYTES = 1 << 26


class Sink:
    """A new file with the methods that h5py calls.

    Parameters
    ----------
    file : file object
        Open for writing and reading, without a buffer, and empty.

    Attributes
    ----------
    failure : BaseException or None
        The first failure; from then on nothing is written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0
        self._end = 0
        self._kept: list[tuple[int, bytes]] = []
        self.failure: BaseException | None = None

    def check(self) -> None:
        """Raise the failure, if there was one."""
        if self.failure is not None:
            raise self.failure

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, without any limit."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return where the next byte is written or read."""
        return self._position

    def write(self, data: Any) -> int:
        """Write all of `data`, or keep the failure."""
        view = memoryview(data).cast("B")
        start, self._position = self._position, self._position + len(view)
        self._end = max(self._end, self._position)
        if self.failure is None:
            try:
                self._write_all(start, view)
            except BaseException as failure:  # noqa: BLE001  (an interrupt must not pass libhdf5)
                self.failure = failure
        if self.failure is not None:
            self._keep(start, view)
        return len(view)

    def _write_all(self, start: int, view: memoryview) -> None:
        self._file.seek(start)
        while view:
            view = view[self._file.write(view) :]

    def _keep(self, start: int, view: memoryview) -> None:
        room = _KEPT_BYTES - sum(len(piece) for _, piece in self._kept)
        if len(view) <= min(room, _PIECE_BYTES):
            self._kept.append((start, bytes(view)))

    def readinto(self, buffer: Any) -> int:
        """Read what was written before; zeros where a failure has lost it."""
        view = memoryview(buffer).cast("B")
        start, stop = self._position, self._position + len(view)
        view[:] = bytes(len(view))
        try:
            self._file.seek(start)
            self._file.readinto(view)  # type: ignore[attr-defined]
        except BaseException as failure:  # noqa: BLE001  (as in `write`)
            self.failure = self.failure or failure
        for at, piece in self._kept:
            low, high = max(at, start), min(at + len(piece), stop)
            if low < high:
                view[low - start : high - start] = piece[low - at : high - at]
        self._position = stop
        return len(view)

    def read(self, size: int) -> bytes:
        """Read `size` bytes; h5py knows a file object by this method."""
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length, or keep the failure."""
        self._end = self._position if size is None else size
        if self.failure is None:
            try:
                self._file.truncate(self._end)
            except BaseException as failure:  # noqa: BLE001  (as in `write`)
                self.failure = failure
        return self._end

    def flush(self) -> None:
        """Do nothing: no byte waits here."""
