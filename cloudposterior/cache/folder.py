"""An open directory, in which names are looked up without being led elsewhere.

A name is used in a directory that is open, and is not followed where it is a symbolic link:
whatever is done to the tree meanwhile, nothing outside of it is read, written, moved or removed.
(Windows has no such lookups. There a link is refused as far as it is seen before.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from cloudposterior.errors import CacheFileError

__all__ = ["Folder", "is_regular", "open_folder", "open_path"]

_HAS_LOOKUPS = os.open in os.supports_dir_fd
_PLAIN = getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
# a pipe is opened without waiting for its other end
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _PLAIN
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | _PLAIN
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _PLAIN
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}
_CANNOT_LINK = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


class Folder:
    """An open directory, and what can be done with the names in it.

    Parameters
    ----------
    path : pathlib.Path
        The directory.
    descriptor : int or None
        It, open; None where the system looks up names by whole paths only.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else str(self.path / name)

    def folder(self, name: str, *, make: bool = False) -> AbstractContextManager[Folder]:
        """Open a directory in this one; make it first where asked to."""
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._at(name), dir_fd=self._descriptor)
        if _is_link(self.stat(name)):
            what = "it is a symbolic link, which is not followed"
            raise OSError(errno.ELOOP, what, str(self.path / name))
        return open_folder(self.path / name, self._descriptor, follow=False)

    def open(self, name: str) -> BinaryIO:
        """Open a file to be read."""
        _check_regular(self.stat(name))
        try:
            descriptor = os.open(self._at(name), _READ | _NO_FOLLOW, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno == errno.ELOOP:  # it was made one since
                raise CacheFileError("it is not a regular file but a symbolic link") from None
            raise
        file = os.fdopen(descriptor, "rb")
        try:
            _check_regular(os.fstat(descriptor))
        except CacheFileError:
            file.close()
            raise
        return file

    def create(self, name: str) -> BinaryIO:
        """Make a file, of a name that nothing has, and open it to be written and read."""
        descriptor = os.open(self._at(name), _NEW | _NO_FOLLOW, 0o666, dir_fd=self._descriptor)
        return os.fdopen(descriptor, "w+b", buffering=0)

    def stat(self, name: str) -> os.stat_result:
        """Return what the system knows of a name, of a link what it knows of the link."""
        return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in the place of what has that."""
        here = self._descriptor
        os.replace(self._at(old), self._at(new), src_dir_fd=here, dst_dir_fd=here)

    def rename_back(self, old: str, new: str) -> None:
        """Give a file another name, unless that is taken: then it is removed."""
        here = self._descriptor
        follow = {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}
        try:
            os.link(self._at(old), self._at(new), src_dir_fd=here, dst_dir_fd=here, **follow)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
            return self.rename(old, new)
        self.remove(old)

    def remove(self, name: str) -> None:
        """Remove a file, of a link the link."""
        os.unlink(self._at(name), dir_fd=self._descriptor)

    def names(self) -> list[str]:
        """List what is in the directory, in order."""
        with os.scandir(self.path if self._descriptor is None else self._descriptor) as items:
            return sorted(item.name for item in items)

    def flush(self) -> None:
        """See names on the disk, where the system and the file system have a way to."""
        if self._descriptor is not None:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                if error.errno not in _CANNOT_FLUSH:
                    raise


@contextlib.contextmanager
def open_folder(path: Path, within: int | None = None, *, follow: bool = True) -> Iterator[Folder]:
    """Open a directory by its path, or by its name in one that is open."""
    if not _HAS_LOOKUPS:
        if not path.is_dir():
            code = errno.ENOTDIR if path.exists() else errno.ENOENT
            raise OSError(code, os.strerror(code), str(path))
        yield Folder(path, None)
        return
    flags = _FOLDER if follow else _FOLDER | _NO_FOLLOW
    try:
        descriptor = os.open(path if within is None else path.name, flags, dir_fd=within)
    except OSError as error:  # with the whole path
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _is_link(status: os.stat_result) -> bool:
    """Whether a name leads elsewhere; a junction is Windows's link to a directory."""
    junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) == junction


def is_regular(status: os.stat_result) -> bool:
    """Whether something is a file."""
    return stat.S_ISREG(status.st_mode)


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise CacheFileError("it is not a regular file but a symbolic link")
    if not is_regular(status):
        raise CacheFileError("it is not a regular file")


def open_path(path: Path) -> BinaryIO:
    """Open a cache file that a user names, through links too.

    Raises
    ------
    CacheFileError
        If it is no regular file: opening a pipe would wait for ever.
    OSError
        If it cannot be opened.
    """
    _check_regular(path.stat())
    return os.fdopen(os.open(path, _READ), "rb")
