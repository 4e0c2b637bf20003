"""Where the files of a cache lie: one call for each thing that a cache does with them.

A file has two names: that of its directory, one for each model, and its own. `local.LocalStore`
keeps them in a directory, `remote.RemoteStore` behind a URL.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cloudposterior.cache.seal import Seal

__all__ = [
    "PARTIAL_PREFIX",
    "STRAY_AFTER_S",
    "Item",
    "NewFile",
    "ReplacedError",
    "Store",
    "partial_name",
]

PARTIAL_PREFIX = ".cloudposterior-writing-"
"""How the name of a file begins that is being written."""

STRAY_AFTER_S = 86_400.0
"""After how long a file that is being written is taken for one whose writer has died."""


def partial_name() -> str:
    """Return a name for a file that is being written, which no other writer has.

    Processes of two machines may have the same id: the random part keeps them apart.
    """
    unique = f"{os.getpid()}-{threading.get_ident()}-{uuid.uuid4().hex}"
    return f"{PARTIAL_PREFIX}{unique}"


@dataclass(frozen=True)
class Item:
    """A file of a store, as it was found.

    Attributes
    ----------
    directory, name : str
        Its names.
    size_bytes : int
        Its size.
    version : Hashable
        What tells it from another file that takes its name.
    modified : Any
        When it was written, to be compared with that of other files of the store only.
    """

    directory: str
    name: str
    size_bytes: int = field(compare=False)
    version: Hashable
    modified: Any = field(compare=False)


class ReplacedError(FileNotFoundError):
    """A file that was found is no longer there: another has taken its name meanwhile."""


class NewFile(Protocol):
    """A file that is being written, and that no reader sees."""

    @property
    def file(self) -> BinaryIO:
        """The file, open for writing and reading, without a buffer."""
        ...

    def publish(self, name: str) -> None:
        """Close the file, and let it appear under `name`, in the place of what was there.

        Raises
        ------
        FileNotFoundError
            If the file, or its directory, was removed meanwhile.
        """
        ...


class Store(Protocol):
    """A place for files.

    All methods raise OSError where the place fails them: FileNotFoundError for a file that is not
    there, CacheFileError for what is there and no file, or a broken one.
    """

    def locate(self, directory: str, name: str = "") -> Path | str:
        """Return where a file lies, to show it."""
        ...

    def find(self, directory: str, name: str) -> Item:
        """Look for a file, or for something else that has its name."""
        ...

    def open(self, item: Item) -> AbstractContextManager[BinaryIO]:
        """Open a file to be read, as often and in any order.

        A store that can tell raises ReplacedError where it is another one than the item.
        """
        ...

    def seals(self, items: Sequence[Item]) -> Iterator[Seal | OSError]:
        """Read the ends of files, of each the seal or what is wrong."""
        ...

    def write(self, directory: str) -> AbstractContextManager[NewFile]:
        """Begin a new file, which is gone on leaving unless it was published."""
        ...

    def set_aside(self, item: Item, name: str) -> bool:
        """Give another name to a file, unless another file has taken its place; say which."""
        ...

    def remove(self, item: Item) -> None:
        """Remove a file."""
        ...

    def items(self, *, suffix: str, directory: str | None = None) -> list[Item]:
        """List the files whose names end so, in order; of one directory, or of all."""
        ...

    def directories(self) -> list[str]:
        """List the names that may be those of directories, without looking into any."""
        ...

    def scratch_directory(self) -> Path:
        """Return a directory of this machine with room for a large result."""
        ...

    def strays(self) -> list[Item]:
        """List what writers have left that died `STRAY_AFTER_S` ago, by the store's own clock."""
        ...
