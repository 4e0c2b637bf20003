"""File systems for the tests of caches behind URLs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

SERVER = Path(__file__).with_name("s3_server.py")
SECRET = "s3cr3t-w0rd"


class SharedFileSystem(LocalFileSystem):
    """fsspec's local file system under another name, as any store that renames."""

    protocol = "shared"
    cachable = False
    failing: dict[str, Exception] = {}  # noqa: RUF012  (of all instances, on purpose)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        text = str(path)
        return super()._strip_protocol(text.removeprefix("shared://").rpartition("@")[2])

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        if "put_file" in self.failing:
            Path(rpath).write_bytes(Path(lpath).read_bytes()[:1000])
        self._fail("put_file")
        super().put_file(lpath, rpath, **options)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        self._fail("mv")
        super().mv(path1, path2, **options)

    def info(self, path: str, **options: Any) -> Any:
        self._fail("info")
        return super().info(path, **options)

    def get_file(self, rpath: str, lpath: str, **options: Any) -> None:
        self._fail("get_file")
        super().get_file(rpath, lpath, **options)

    def _fail(self, name: str) -> None:
        if name in self.failing:
            raise self.failing[name]


fsspec.register_implementation("shared", SharedFileSystem, clobber=True)


@contextlib.contextmanager
def s3_server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start a server; give its URL, and its process."""
    with subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process
        finally:
            process.stdin.close()
            process.wait()


def s3_options(url: str) -> dict[str, Any]:
    """What a cache needs to be told of a server of `s3_server`."""
    return {
        "key": "testing-key",
        "secret": SECRET,
        "client_kwargs": {"endpoint_url": url},
    }
