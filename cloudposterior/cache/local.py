"""Files in a directory, which any number of processes and machines may share, without locks.

Nothing outside of the directory is touched, whatever links lie in it (`folder`). Only the root
itself may be a link, which is its owner's choice.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from cloudposterior.cache.folder import Folder, is_regular, open_folder
from cloudposterior.cache.seal import Seal, read_seal
from cloudposterior.cache.store import (
    PARTIAL_PREFIX,
    STRAY_AFTER_S,
    Item,
    ReplacedError,
    partial_name,
)

__all__ = ["LocalStore"]

_NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class LocalStore:
    """The directories of models in one directory.

    Parameters
    ----------
    root : pathlib.Path
        That directory; made when the first file is written.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def _folder(self, directory: str, *, make: bool = False) -> Iterator[Folder]:
        if make:
            os.makedirs(self._root, exist_ok=True)
        with open_folder(self._root) as root, root.folder(directory, make=make) as folder:
            yield folder

    def locate(self, directory: str, name: str = "") -> Path:
        """Return where a file lies, to show it."""
        return self._root / directory / name

    def find(self, directory: str, name: str) -> Item:
        """Look for a file, or for something else that has its name."""
        with self._folder(directory) as folder:
            return _item(folder, name, folder.stat(name))

    @contextlib.contextmanager
    def open(self, item: Item) -> Iterator[BinaryIO]:
        """Open a file to be read, if it is the one that was found."""
        with self._folder(item.directory) as folder, folder.open(item.name) as file:
            opened = _item(folder, item.name, os.fstat(file.fileno()))
            if opened.version != item.version:
                raise ReplacedError(errno.ENOENT, "another file has its name now", item.name)
            yield file

    def seals(self, items: Sequence[Item]) -> Iterator[Seal | OSError]:
        """Read the ends of files, of each the seal or what is wrong."""
        return map(self._seal, items)

    def _seal(self, item: Item) -> Seal | OSError:
        try:
            with self.open(item) as file:
                return read_seal(file)
        except OSError as error:
            return error

    @contextlib.contextmanager
    def write(self, directory: str) -> Iterator[_NewFile]:
        """Begin a new file, which is gone on leaving unless it was published."""
        with self._folder(directory, make=True) as folder:
            name = partial_name()
            file = folder.create(name)
            new = _NewFile(folder, name, file)
            try:
                yield new
            finally:
                # what is under way, or was there before, outranks a failure to tidy
                with contextlib.suppress(OSError):
                    file.close()
                if not new.is_published:
                    with contextlib.suppress(OSError):
                        folder.remove(name)

    def set_aside(self, item: Item, name: str) -> bool:
        """Give another name to a file, unless another file has taken its place; say which.

        A writer may put a file there between a look and a renaming: so the file is looked at once
        more after the renaming, and put back where it is not the one that was meant.
        """
        with self._folder(item.directory) as folder:
            try:
                if _item(folder, item.name, folder.stat(item.name)).version != item.version:
                    return False
                folder.rename(item.name, name)
            except FileNotFoundError:
                return False
            if _item(folder, name, folder.stat(name)).version == item.version:
                return True
            folder.rename_back(name, item.name)
            return False

    def remove(self, item: Item) -> None:
        """Remove a file."""
        with self._folder(item.directory) as folder:
            folder.remove(item.name)

    def items(self, *, suffix: str, directory: str | None = None) -> list[Item]:
        """List the files whose names end so, in order; of one directory, or of all."""
        found = []
        for folder in self._folders(directory):
            for name in folder.names():
                if not name.endswith(suffix):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = folder.stat(name)
                    if is_regular(status):
                        found.append(_item(folder, name, status))
        return found

    def directories(self) -> list[str]:
        """List the names that may be those of directories, without looking into any."""
        try:
            with open_folder(self._root) as root:
                return root.names()
        except FileNotFoundError:
            return []

    def _folders(self, only: str | None = None) -> Iterator[Folder]:
        """Open one model's directory after the other; links to elsewhere are none."""
        with contextlib.ExitStack() as stack:
            try:
                root = stack.enter_context(open_folder(self._root))
            except FileNotFoundError:
                return
            for name in root.names() if only is None else [only]:
                try:
                    with root.folder(name) as folder:
                        yield folder
                except OSError as error:
                    if error.errno not in _NO_FOLDER:
                        raise

    def scratch_directory(self) -> Path:
        """Return the directory itself: there the result will go."""
        os.makedirs(self._root, exist_ok=True)
        return self._root

    def strays(self) -> list[Item]:
        """List what writers have left that died a day ago, by the file system's own clock.

        This machine's clock, and that of the writer, may be wrong by hours: a file's time is
        compared with that of a file made now, which on a network comes from the same server.
        """
        found = []
        for folder in self._folders():
            names = [name for name in folder.names() if name.startswith(PARTIAL_PREFIX)]
            now = _clock(folder) if names else 0.0
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    status = folder.stat(name)
                    if is_regular(status) and now - status.st_mtime > STRAY_AFTER_S:
                        found.append(_item(folder, name, status))
        return found


def _item(folder: Folder, name: str, status: os.stat_result) -> Item:
    version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return Item(folder.path.name, name, status.st_size, version, status.st_mtime_ns)


def _clock(folder: Folder) -> float:
    """Return the time that the file system gives to a file that is made now."""
    name = partial_name()
    try:
        with folder.create(name) as file:
            try:
                file.write(b".")  # some take the time of the first byte
                os.fsync(file.fileno())
                return folder.stat(name).st_mtime
            finally:
                folder.remove(name)
    except OSError:  # a full disk must not keep what fills it
        return time.time()


class _NewFile:
    """A file under a temporary name."""

    def __init__(self, folder: Folder, name: str, file: BinaryIO) -> None:
        self.file = file
        self.is_published = False
        self._folder = folder
        self._name = name

    def publish(self, name: str) -> None:
        """See the file on the disk, and rename it: a reader meets it whole or not at all."""
        os.fsync(self.file.fileno())
        written = os.fstat(self.file.fileno())
        self.file.close()  # on a network, a failure to write may show only now
        if not os.path.samestat(written, self._folder.stat(self._name)):
            raise OSError(errno.EBUSY, "it was replaced while it was written", self._name)
        self._folder.rename(self._name, name)
        self.is_published = True
        self._folder.flush()
