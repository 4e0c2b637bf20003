"""Files behind a URL, in any store that fsspec knows.

What is written is written here first, sealed, and sent whole; what is read is fetched whole and
then checked. An object store lets an object appear when all of it has arrived. Elsewhere a file is
sent under a temporary name, and then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.spec import AbstractFileSystem

from cloudposterior.cache.seal import FOOTER_BYTES, Seal, description_span, seal_from_end
from cloudposterior.cache.store import (
    PARTIAL_PREFIX,
    STRAY_AFTER_S,
    Item,
    ReplacedError,
    partial_name,
)
from cloudposterior.cache.urls import WHOLE_UPLOADS, check_url, explained, protocol_of, shown
from cloudposterior.errors import CacheFileError

__all__ = ["RemoteStore"]

# Most descriptions fit into this, and are read with one request.
_END_BYTES = 1 << 16
_ENDS_AT_ONCE = 128
# What tells one object from another that takes its name; a store has some of them.
_VERSION = (
    "type", "size", "ETag", "etag", "content_md5", "md5Hash", "generation", "version_id",
    "VersionId", "LastModified", "last_modified", "mtime", "modified", "created", "ino", "checksum",
)  # fmt: skip
# When an object was written; a store has one of them, and writes it in one way.
_MODIFIED = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


class RemoteStore:
    """The directories of models below a URL.

    Parameters
    ----------
    url : str
        The URL, e.g. ``"s3://bucket/prefix"``.
    options : mapping
        What fsspec needs beside it: credentials, endpoints.

    Raises
    ------
    ValueError, ImportError
        As `check_url`.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        check_url(url)
        self._url = url
        self._options = dict(options)
        self._is_whole = protocol_of(url) in WHOLE_UPLOADS
        self._is_there = False

    @property
    def _fs(self) -> Any:
        """The file system, of which fsspec keeps one for each process, and each thread if needed.

        What it remembers of listings is forgotten: another machine may have written since.
        """
        fs = fsspec.core.url_to_fs(self._url, **self._options)[0]
        fs.invalidate_cache()
        return fs

    def _path(self, *names: str) -> str:
        root = fsspec.core.url_to_fs(self._url, **self._options)[1]
        return "/".join([root.rstrip("/"), *names])

    def locate(self, directory: str, name: str = "") -> str:
        """Return the URL of a file, to show it."""
        return "/".join([shown(self._url).rstrip("/"), directory, name])

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn whatever a store raises into an OSError, without what is secret in its text."""
        try:
            yield
        except (CacheFileError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  (stores raise what their libraries do)
            told = explained(error, self._url, self._options)
            # what has a secret in it is not shown as the cause either
            raise told from (error if str(error) in str(told) else None)

    def find(self, directory: str, name: str) -> Item:
        """Look for a file."""
        try:
            with self._told():
                info = self._fs.info(self._path(directory, name))
        except FileNotFoundError:
            self._check_bucket()
            raise
        if info["type"] != "file":
            # of an object store: something whose name goes on
            code = errno.ENOENT if self._is_whole else errno.EISDIR
            raise OSError(code, os.strerror(code), self.locate(directory, name))
        return _item(directory, name, info)

    def _check_bucket(self) -> None:
        """Say once, before hours of sampling, that there is no bucket to keep the result in."""
        if self._is_whole and not self._is_there:
            bucket = self._path().split("/")[0]
            with self._told():
                self._is_there = self._fs.exists(bucket)
            if not self._is_there:
                text = f"there is no bucket {bucket!r}, or you may not see it; it is not made here"
                raise OSError(errno.ENXIO, text, shown(self._url))

    @contextlib.contextmanager
    def open(self, item: Item) -> Iterator[BinaryIO]:
        """Fetch a file, to be read here."""
        with _scratch() as path:
            free = shutil.disk_usage(path.parent).free
            if item.size_bytes > free:
                text = f"to be read it needs {item.size_bytes} bytes here, and {free} are free"
                raise OSError(errno.ENOSPC, text, str(path.parent))
            with self._told():
                self._fetch(self._path(item.directory, item.name), path)
            with path.open("rb") as file:
                yield file

    def _fetch(self, source: str, path: Path) -> None:
        if protocol_of(self._url) == "memory":
            # all who open a file of this file system share one position in it
            path.write_bytes(self._fs.cat_file(source))
        else:
            self._fs.get_file(source, str(path))

    def seals(self, items: Sequence[Item]) -> Iterator[Seal | OSError]:
        """Read the ends of files, many at once, of each the seal or what is wrong."""
        for start in range(0, len(items), _ENDS_AT_ONCE):
            batch = items[start : start + _ENDS_AT_ONCE]
            for item, seal in zip(batch, self._seals(batch), strict=True):
                if isinstance(seal, CacheFileError) and not self._is_still(item):
                    yield ReplacedError(errno.ENOENT, "another object has its name now", item.name)
                else:
                    yield seal

    def _seals(self, items: Sequence[Item]) -> list[Seal | OSError]:
        ends = self._parts(items, [max(0, item.size_bytes - _END_BYTES) for item in items])
        spans: dict[Item, int] = {}
        for item, end in zip(items, ends, strict=True):
            if isinstance(end, bytes):
                with contextlib.suppress(CacheFileError):
                    start, _ = description_span(end[-FOOTER_BYTES:], item.size_bytes)
                    if start < item.size_bytes - len(end):
                        spans[item] = start
        longer = dict(zip(spans, self._parts(list(spans), list(spans.values())), strict=True))
        return [
            _seal(longer.get(item, end), item.size_bytes)
            for item, end in zip(items, ends, strict=True)
        ]

    def _parts(self, items: Sequence[Item], starts: list[int]) -> list[bytes | OSError]:
        """Read files from some place to their ends; what went wrong takes the place of bytes."""
        if not items:
            return []
        paths = [self._path(item.directory, item.name) for item in items]
        with self._told():
            parts = self._fs.cat_ranges(
                paths, starts, [item.size_bytes for item in items], on_error="return"
            )
        return [
            part if isinstance(part, bytes) else explained(part, self._url, self._options)
            for part in (bytes(p) if isinstance(p, bytearray | memoryview) else p for p in parts)
        ]

    @contextlib.contextmanager
    def write(self, directory: str) -> Iterator[_Upload]:
        """Begin a new file here, which is sent when it is published."""
        with _scratch() as path, path.open("w+b", buffering=0) as file:
            yield _Upload(self, directory, path, file)

    def send(self, path: Path, directory: str, name: str) -> None:
        """Let a file of this machine appear in the store, in the place of what was there."""
        target = self._path(directory, name)
        with self._told():
            fs = self._fs
            if self._is_whole:
                fs.put_file(str(path), target)
                return
            fs.makedirs(self._path(directory), exist_ok=True)
            partial = self._path(directory, partial_name())
            try:
                fs.put_file(str(path), partial)
                _rename(fs, partial, target)
            except BaseException:
                with contextlib.suppress(Exception):
                    fs.rm_file(partial)
                raise

    def set_aside(self, item: Item, name: str) -> bool:
        """Give another name to a file, unless another file has taken its place; say which.

        Stores without a renaming copy and delete: a file that comes between the last look and the
        deletion is lost, and its result sampled anew.
        """
        old, new = (self._path(item.directory, each) for each in (item.name, name))
        if not self._is_still(item):
            return False
        with self._told():
            fs = self._fs
            if _renames(fs):
                fs.mv(old, new)
                return True
            fs.cp_file(old, new)
            is_still = self._is_still(item)
            fs.rm_file(old if is_still else new)
            return is_still

    def _is_still(self, item: Item) -> bool:
        try:
            return self.find(item.directory, item.name).version == item.version
        except FileNotFoundError:
            return False

    def remove(self, item: Item) -> None:
        """Remove a file."""
        with self._told():
            self._fs.rm_file(self._path(item.directory, item.name))

    def items(self, *, suffix: str, directory: str | None = None) -> list[Item]:
        """List the files whose names end so, in order; of one directory, or of all."""
        return [item for item in self._items(directory) if item.name.endswith(suffix)]

    def directories(self) -> list[str]:
        """List the names that may be those of directories, without looking into any."""
        try:
            with self._told():
                listed = self._fs.ls(self._path(), detail=True)
        except FileNotFoundError:
            return []
        paths = (info["name"].rstrip("/") for info in listed if info["type"] == "directory")
        return sorted(path.rpartition("/")[2] for path in paths)

    def _items(self, directory: str | None = None) -> list[Item]:
        root = self._path("")
        within = self._path("" if directory is None else directory).rstrip("/")
        # an object store lists a thousand at once, whatever lies between; others walk
        depth = {} if self._is_whole else {"maxdepth": 2 if directory is None else 1}
        try:
            with self._told():
                listed = self._fs.find(within, detail=True, **depth)
        except FileNotFoundError:
            self._check_bucket()
            return []
        found = []
        for path, info in listed.items():
            names = path.lstrip("/").removeprefix(root.lstrip("/")).split("/")
            # whatever a store lists, nothing but a file of a directory below the URL is ours
            is_inside = path.lstrip("/").startswith(root.lstrip("/")) and len(names) == 2
            if is_inside and not {"", ".", ".."} & set(names) and info["type"] == "file":
                found.append(_item(names[0], names[1], info))
        return sorted(found, key=lambda item: (item.directory, item.name))

    def scratch_directory(self) -> Path:
        """Return where what is sent is written first."""
        return Path(tempfile.gettempdir())

    def strays(self) -> list[Item]:
        """List what writers have left that died a day ago, by the store's own clock."""
        if self._is_whole:  # an object that did not arrive is none
            return []
        partial = [item for item in self._items() if item.name.startswith(PARTIAL_PREFIX)]
        ages = {item: self._age_s(item) for item in partial}
        return [item for item, age in ages.items() if age > STRAY_AFTER_S]

    def _age_s(self, item: Item) -> float:
        """Return how long ago a file was written, beside one that is written now; 0 if unknown."""
        now = self._path(item.directory, partial_name())
        with self._told():
            fs = self._fs
            try:
                fs.pipe_file(now, b".")
                age = fs.modified(now) - fs.modified(self._path(item.directory, item.name))
            except (NotImplementedError, FileNotFoundError):
                return 0.0
            finally:
                with contextlib.suppress(FileNotFoundError):
                    fs.rm_file(now)
        return float(age.total_seconds())


class _Upload:
    """A file on its way into a store."""

    def __init__(self, store: RemoteStore, directory: str, path: Path, file: BinaryIO) -> None:
        self.file = file
        self._store = store
        self._directory = directory
        self._path = path

    def publish(self, name: str) -> None:
        """Send the file."""
        self.file.close()
        self._store.send(self._path, self._directory, name)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Give a path for a file, which is gone on leaving."""
    with tempfile.TemporaryDirectory(prefix="cloudposterior-") as directory:
        yield Path(directory) / "entry.nc"


def _item(directory: str, name: str, info: Mapping[str, Any]) -> Item:
    version = tuple(str(info[key]) for key in _VERSION if key in info)
    modified = next((str(info[key]) for key in _MODIFIED if key in info), "")
    return Item(directory, name, int(info["size"]), version, modified)


def _seal(end: bytes | OSError, size: int) -> Seal | OSError:
    if isinstance(end, OSError):
        return end
    try:
        footer = end[-FOOTER_BYTES:]
        start, stop = description_span(footer, size)
        first = size - len(end)
        return seal_from_end(end[start - first : stop - first], footer, size)
    except CacheFileError as error:
        return error


def _renames(fs: Any) -> bool:
    """Whether a file system has a renaming of its own; else it copies and deletes."""
    return type(fs).mv is not AbstractFileSystem.mv


def _rename(fs: Any, old: str, new: str) -> None:
    if not _renames(fs):
        fs.cp_file(old, new)
        fs.rm_file(old)
        return
    try:
        fs.mv(old, new)
    except FileExistsError:  # a server that renames over nothing
        fs.rm_file(new)
        fs.mv(old, new)
