"""URLs of stores: what may be shown of them, and which one a text names."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec

__all__ = [
    "LOCAL",
    "WHOLE_UPLOADS",
    "check_url",
    "explained",
    "is_url",
    "local_path",
    "protocol_of",
    "redact",
    "shown",
]

LOCAL = frozenset({"file", "local"})
"""Protocols whose URLs are paths of this machine."""

WHOLE_UPLOADS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"})
"""Protocols of object stores: an object is there when all of it has arrived, and not before."""

_HIDDEN = "***"
# a password may have a slash or an at sign in it, though it should be written as %2F or %40
_USER = re.compile(r"^(?:[^/]*|[^@/:]*:.*)@")
_SECRET = re.compile("secret|passw|token|key|credential|sas|connection|cert|auth|user", re.I)
_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
}


def is_url(text: object) -> bool:
    """Whether a text is a URL, and no path."""
    return isinstance(text, str) and "://" in text


def protocol_of(url: str) -> str:
    """Return the protocol of a URL, e.g. ``"s3"``."""
    return url.partition("://")[0].lower()


def local_path(url: str) -> Path:
    """Return the path that a ``file://`` URL means to fsspec, which takes a ``%`` for itself."""
    check_url(url)
    return Path(fsspec.get_filesystem_class("file")._strip_protocol(url))


def shown(url: str) -> str:
    """Return a URL as it may be shown: without user and password, and without its query.

    Examples
    --------
    >>> shown("ftp://me:secret@host/cache")
    'ftp://***@host/cache'
    """
    protocol, _, rest = url.partition("://")
    rest, *query = re.split(r"[?#]", rest, maxsplit=1)
    rest = _USER.sub(f"{_HIDDEN}@", rest)
    return f"{protocol}://{rest}" + (f"?{_HIDDEN}" if query else "")


def redact(text: str, url: str, options: Mapping[str, Any]) -> str:
    """Return a text without what is secret in a URL, and in the options of its store."""
    for secret in sorted(_secrets(url, options), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def explained(error: Exception, url: str, options: Mapping[str, Any]) -> OSError:
    """Return what a store raised as an OSError, with nothing secret in its text."""
    text = f"{type(error).__name__}: {redact(str(error), url, options)}"
    if "Credential" in type(error).__name__:
        text += (
            "; give credentials as the store's library takes them (environment, profile), or as "
            "options: cloudposterior.cache.RemoteCache(url, ...)"
        )
    code = getattr(error, "errno", None)
    code = code if isinstance(code, int) else errno.EIO
    for kind, number in ((FileNotFoundError, errno.ENOENT), (PermissionError, errno.EACCES)):
        if isinstance(error, kind):
            code = number
    return OSError(code, text, shown(url))


def _secrets(url: str, options: Mapping[str, Any]) -> set[str]:
    rest, *query = re.split(r"[?#]", url.partition("://")[2], maxsplit=1)
    user = _USER.match(rest)
    found = {*query, *(user[0][:-1].split(":", 1) if user else ())}
    found |= {unquote(secret) for secret in found} | set(_texts(options, secret=False))
    return {secret for secret in found if len(secret) > 2}


def _texts(value: Any, *, secret: bool) -> Iterator[str]:
    """Give the texts that lie under a name of something secret."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, secret=secret or bool(_SECRET.search(str(name))))
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _texts(item, secret=secret)
    elif secret and isinstance(value, str):
        yield value


def check_url(url: str) -> None:
    """Refuse a URL that is no place for a cache.

    Raises
    ------
    ValueError
        If fsspec does not know its protocol, or it names no place, or leads out of one.
    ImportError
        If the package of its protocol is missing.
    """
    protocol, _, rest = url.partition("://")
    if "::" in url:
        raise ValueError(
            f"cache={shown(url)!r} is a chain of file systems, which may hide what others write; "
            "pass the URL of the last one"
        )
    if not rest.strip("/") and protocol != "memory":
        raise ValueError(f"cache={shown(url)!r} names no place; say {protocol}://bucket/prefix")
    if ".." in rest.split("/") or "\0" in rest:
        raise ValueError(f"cache={shown(url)!r} has a '..' or a NUL in it, and must have neither")
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        package = _EXTRAS.get(protocol, f"what fsspec needs for {protocol}://")
        raise ImportError(
            f"cache={shown(url)!r} needs a package that is not installed ({error}): "
            f"pip install {package}"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"cache={shown(url)!r}: fsspec knows no protocol {protocol!r}; "
            "fsspec.available_protocols() lists those it knows"
        ) from error
