"""Blocks of draws put together: each goes to its place in arrays that are there once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
from xarray import Dataset, DataTree, Variable

from cloudposterior.config import stays_on_disk
from cloudposterior.errors import CacheWarning, tell
from cloudposterior.operations.given import Block

__all__ = ["Joined", "Scratch"]

Scratch = Callable[[int], BinaryIO]
"""Opens a file of so many bytes that is gone when nobody has it open any more."""


class Joined:
    """A result that comes in blocks.

    Parameters
    ----------
    coords : mapping of str to numpy.ndarray
        The values of each dimension of the draws.
    scratch : callable, optional
        Opens files for the arrays of a result that is to stay on disk; None has all in memory.
    """

    def __init__(self, coords: Mapping[str, np.ndarray], scratch: Scratch | None = None) -> None:
        self._coords = coords
        self._scratch = scratch
        self._groups: dict[str, Dataset] = {}
        self.is_large = False
        """Whether the result is to stay on disk, as far as one block tells."""

    def add(self, part: Any, block: Block) -> None:
        """Take in the result of a block, whose dimensions may come in any order."""
        datasets = {name: child.to_dataset() for name, child in part.children.items()}
        if not self._groups:
            self.is_large = stays_on_disk(sum(map(self._size, datasets.values())))
        for name, dataset in datasets.items():
            if name not in self._groups:
                self._groups[name] = self._room_for(dataset)
            whole = self._groups[name]
            for variable, values in dataset.variables.items():
                if variable not in self._coords and self._is_cut(values):
                    there = whole.variables[variable]
                    where = tuple(block.where.get(str(dim), slice(None)) for dim in there.dims)
                    there.values[where] = values.transpose(*there.dims).to_numpy()

    def _is_cut(self, values: Variable) -> bool:
        return any(dim in self._coords for dim in values.dims)

    def _room_for(self, part: Dataset) -> Dataset:
        """Make arrays of the length of all blocks; what all blocks share is there at once."""
        room: dict[str, Variable] = {}
        empty = self._on_disk if self._scratch and self.is_large else np.empty
        for name, values in part.variables.items():
            if name in self._coords:
                room[str(name)] = Variable(values.dims, self._coords[str(name)], values.attrs)
            elif self._is_cut(values):
                array = empty(self._shape(values), values.dtype)
                room[str(name)] = Variable(values.dims, array, values.attrs)
            else:
                room[str(name)] = values
        coords = {name: room.pop(name) for name in map(str, part.coords)}
        return Dataset(room, coords, part.attrs)

    def _size(self, part: Dataset) -> int:
        """Give the bytes of the whole that something is a part of."""
        variables = part.variables.values()
        return sum(math.prod(self._shape(of)) * of.dtype.itemsize for of in variables)

    def _shape(self, part: Variable) -> tuple[int, ...]:
        """Give the shape of the whole that something is a part of."""
        return tuple(len(self._coords.get(str(d), range(n))) for d, n in part.sizes.items())

    def _on_disk(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Make an array in a file, whose pages leave the memory when that is needed."""
        size = math.prod(shape) * dtype.itemsize
        if self._scratch is None or not size or dtype.hasobject:
            return np.empty(shape, dtype)
        try:
            with self._scratch(size) as file:
                return np.asarray(np.memmap(file, dtype, "r+", shape=shape))
        except OSError as error:
            tell(CacheWarning, f"a result of {size} bytes is held in memory: {error}")
            return np.empty(shape, dtype)

    def tree(self) -> DataTree:
        """Give the result."""
        tree: DataTree = DataTree.from_dict(self._groups)
        return tree
