"""Files made up to do harm: anything in them is changed, and then they are sealed as if whole."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from cloudposterior.cache.seal import append_seal, read_seal


def described(path: Path) -> dict[str, Any]:
    """What a file says of itself."""
    with path.open("rb") as file:
        return copy.deepcopy(read_seal(file).description)


def seal_anew(path: Path, description: dict[str, Any] | bytes) -> None:
    """Seal the HDF5 data of a file with another description, of which all checksums are right."""
    with path.open("r+b") as file:
        os.truncate(path, read_seal(file).data_bytes)
        text = description if isinstance(description, bytes) else json.dumps(description).encode()
        append_seal(file, text)


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change what a file says of itself."""
    description = described(path)
    edit(description)
    seal_anew(path, description)


def change_data(path: Path, edit: Callable[[h5py.File], Any]) -> None:
    """Change the HDF5 data of a file, and nothing else."""
    description = described(path)
    with path.open("rb") as file:
        length = read_seal(file).data_bytes
    os.truncate(path, length)
    with h5py.File(path, "r+") as file:
        edit(file)
    seal_plain(path, description)


def seal_plain(path: Path, description: dict[str, Any]) -> None:
    """Seal a plain HDF5 file."""
    with path.open("r+b") as file:
        append_seal(file, json.dumps(description).encode())


def variable(description: dict[str, Any], name: str, group: str = "/posterior") -> dict[str, Any]:
    """The layout of one variable."""
    (found,) = [g for g in description["layout"]["groups"] if g["path"] == group]
    return next(v for v in found["variables"] if v["name"] == name)
