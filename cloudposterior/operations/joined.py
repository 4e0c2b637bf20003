"""Blocks of draws put together: each goes to its place in arrays that are there once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from xarray import Dataset, DataTree, Variable

from cloudposterior.operations.given import Block

__all__ = ["Joined"]


class Joined:
    """A result that comes in blocks.

    Parameters
    ----------
    coords : mapping of str to numpy.ndarray
        The values of each dimension of the draws.
    """

    def __init__(self, coords: Mapping[str, np.ndarray]) -> None:
        self._coords = coords
        self._groups: dict[str, Dataset] = {}

    def add(self, part: Any, block: Block) -> None:
        """Take in the result of a block, whose dimensions may come in any order."""
        for name, child in part.children.items():
            dataset = child.to_dataset()
            if name not in self._groups:
                self._groups[name] = self._room_for(dataset)
            whole = self._groups[name]
            for variable, values in dataset.variables.items():
                where = tuple(block.where.get(str(dim), slice(None)) for dim in values.dims)
                if variable not in self._coords and self._is_cut(values):
                    whole.variables[variable].values[where] = values.to_numpy()

    def _is_cut(self, values: Variable) -> bool:
        return any(dim in self._coords for dim in values.dims)

    def _room_for(self, part: Dataset) -> Dataset:
        """Make arrays of the length of all blocks; what all blocks share is there at once."""
        room: dict[str, Variable] = {}
        for name, values in part.variables.items():
            if name in self._coords:
                room[str(name)] = Variable(values.dims, self._coords[str(name)], values.attrs)
            elif self._is_cut(values):
                sizes = [len(self._coords.get(str(d), range(values.sizes[d]))) for d in values.dims]
                empty = np.empty(sizes, dtype=values.dtype)
                room[str(name)] = Variable(values.dims, empty, values.attrs)
            else:
                room[str(name)] = values
        coords = {name: room.pop(name) for name in map(str, part.coords)}
        return Dataset(room, coords, part.attrs)

    def tree(self) -> DataTree:
        """Give the result."""
        tree: DataTree = DataTree.from_dict(self._groups)
        return tree
