"""The command line: ``cloudposterior demo`` and ``cloudposterior cache ...``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dask.config
from dask.utils import format_bytes, parse_bytes
from rich.console import Console
from rich.table import Table

from cloudposterior import config
from cloudposterior.cache import DiskCache, Entry, Record, RemoteCache, read_entry
from cloudposterior.cache.choice import open_files
from cloudposterior.cache.urls import is_url, shown
from cloudposterior.errors import CloudPosteriorError

__all__ = ["main"]

assert config is not None  # imported for the defaults it sets


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words of the command; None takes those of the process.

    Returns
    -------
    int
        0, or 1 when something is wrong with the cache or with what was asked for.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (CloudPosteriorError, OSError, ValueError, LookupError, ImportError) as error:
        print(f"cloudposterior: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cloudposterior", description="Sample a PyMC model once: posteriors cached for good."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    demo = commands.add_parser("demo", help="fit the radon model twice, the second time cached")
    demo.set_defaults(run=_demo)
    cache = commands.add_parser("cache", help="look at a cache of files and tidy it")
    actions = cache.add_subparsers(required=True, metavar="action")
    default = _default_place()

    def action(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text)
        sub.add_argument(
            "--dir",
            default=default,
            help=f"cache directory, or URL as s3://bucket/prefix (default: {_shown(default)})",
        )
        sub.set_defaults(run=run)
        return sub

    action("list", _list, "list the entries, oldest first")
    show = action("show", _show, "show all that is known of one entry")
    show.add_argument("entry", help="file, or the end of its name (the hex digits will do)")
    action("verify", _verify, "read every file whole and name those that are broken")
    prune = action("prune", _prune, "remove entries by age, size or count")
    prune.add_argument("--older-than", metavar="AGE", type=_age, help="e.g. 30d, 12h")
    prune.add_argument(
        "--max-size", metavar="SIZE", type=_size, help="remove the oldest beyond this, e.g. 5GB"
    )
    prune.add_argument("--keep", metavar="N", type=int, help="keep the newest N")
    clear = action("clear", _clear, "remove all entries")
    for sub in (prune, clear):
        sub.add_argument("--dry-run", action="store_true", help="only say what would go")
    diff = action("diff", _diff, "say what changed from one entry to another")
    diff.add_argument("a", help="a cache file, or the end of its name")
    diff.add_argument("b", help="another")
    return parser


def _default_place() -> str:
    """Return where a team that has a cache behind a URL keeps it, or else the directory."""
    place = dask.config.get("cloudposterior.cache")
    return str(place if is_url(place) else dask.config.get("cloudposterior.directory"))


def _shown(place: str) -> str:
    return shown(place) if is_url(place) else place


def _demo(options: argparse.Namespace) -> None:
    # it brings PyMC, which nothing else here needs
    importlib.import_module("cloudposterior.demo").run_demo()


def _cache(options: argparse.Namespace) -> DiskCache | RemoteCache:
    return open_files(options.dir)


def _list(options: argparse.Namespace) -> None:
    entries = _cache(options).entries()
    if not entries:
        print(f"no entries in {_shown(options.dir)}")
        return
    _print_entries(entries)


def _print_entries(entries: Iterable[Entry]) -> None:
    table = Table("model", "parameters", "token", "sampled", "took", "size", box=None)
    total = 0
    for entry in entries:
        record = entry.record
        total += entry.size_bytes
        table.add_row(
            _printable(record.model),
            _printable(record.label) + (" (part of a run)" if record.part_of else ""),
            record.token[:8],
            datetime.fromisoformat(record.created).strftime("%Y-%m-%d %H:%M"),
            f"{record.elapsed_s:.1f} s",
            format_bytes(entry.size_bytes),
        )
    _console().print(table)
    print(f"{_counted(table.row_count)}, {format_bytes(total)}")


def _console() -> Console:
    """Make what a table is printed with; a pipe and NO_COLOR get text alone."""
    # rich takes FORCE_COLOR for a terminal, and Jupyter sets it for all that its cells start
    is_terminal = sys.stdout.isatty()
    is_styled = is_terminal and not os.environ.get("NO_COLOR")
    return Console(
        width=None if is_terminal else 200,
        color_system="auto" if is_styled else None,
        markup=False,
        emoji=False,
        highlight=False,
    )


def _printable(text: str) -> str:
    """Show control characters by their codes: a name must not move the cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _show(options: argparse.Namespace) -> None:
    entry = _cache(options).show(options.entry)
    record = entry.record
    rows = {
        "file": entry.path,
        "size": format_bytes(entry.size_bytes),
        "model": record.model,
        "parameters": record.label,
        "token": record.token,
        "sampled": record.created,
        "took": f"{record.elapsed_s:.2f} s",
        **({"part of": record.part_of} if record.part_of else {}),
        "random seed": json.dumps(record.random_seed),
        "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
    }
    rows.update(_request_rows(record.manifest))
    for name, value in rows.items():
        print(f"{name:12} {_printable(str(value))}")


def _request_rows(manifest: dict[str, Any]) -> dict[str, str]:
    """Return what a manifest says of a request; a file may say anything."""
    try:
        kept = manifest.get("options", {}).values()
        components = [
            f"{row['kind']} {row['name']}"
            for row in manifest.get("components", ())
            if row["kind"] not in ("order", "model")
        ]
        arguments = [f"{option['name']}={option['text']}" for option in kept]
    except (AttributeError, LookupError, TypeError):
        return {"arguments": "not understood"}
    return {"arguments": ", ".join(arguments), "components": ", ".join(components)}


def _verify(options: argparse.Namespace) -> int:
    cache = _cache(options)
    broken = cache.verify()
    for path, reason in broken:
        print(_printable(f"{path}: {reason}"))
    print(f"{_counted(len(cache.entries()))}, {len(broken)} broken files")
    return 1 if broken else 0


_UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _age(text: str) -> timedelta:
    """Read an age, whose unit must be there: a bare 30 may mean days to one, seconds to another."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?) *(s|min|h|d|w)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: say 30d, 12h, 45min, 2w or 90s")
    return timedelta(seconds=float(found[1]) * _UNITS_S[found[2]])


def _size(text: str) -> int:
    if not re.fullmatch(r"\d{1,15}(\.\d+)? *[kKMGTP]?i?B", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: say 5GB, 500MB or 1000000B")
    return int(parse_bytes(text))


def _prune(options: argparse.Namespace) -> None:
    if options.older_than is None and options.max_size is None and options.keep is None:
        raise ValueError("say what to prune by: --older-than, --max-size or --keep")
    removed = _cache(options).prune(
        older_than=options.older_than,
        max_size_bytes=options.max_size,
        keep=options.keep,
        dry_run=options.dry_run,
    )
    _say_removed(removed, options.dry_run)


def _clear(options: argparse.Namespace) -> None:
    _say_removed(_cache(options).clear(dry_run=options.dry_run), options.dry_run)


def _say_removed(entries: list[Entry], dry_run: bool) -> None:
    for entry in entries:
        print(_printable(str(entry.path)))
    print(f"{_counted(len(entries))} {'would be removed' if dry_run else 'removed'}")


def _counted(entries: int) -> str:
    return f"{entries} {'entry' if entries == 1 else 'entries'}"


def _diff(options: argparse.Namespace) -> None:
    # it brings PyTensor
    difference = importlib.import_module("cloudposterior.identity.difference").difference
    old, new = (_record(options, name) for name in (options.a, options.b))
    try:
        lines = difference(old.manifest, new.manifest)
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"one of the manifests is not understood ({error!r:.300})") from error
    print("\n".join(lines) if lines else "no difference")


def _record(options: argparse.Namespace, name: str) -> Record:
    path = Path(name)
    return (read_entry(path) if path.exists() else _cache(options).show(name)).record


if __name__ == "__main__":
    sys.exit(main())
