"""Posteriors that calls are given: what of them counts, and how they are cut into blocks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
from xarray import Dataset

from cloudposterior.posterior import group, is_posterior

__all__ = [
    "BLOCK_DRAWS",
    "Block",
    "Blocks",
    "Groups",
    "blocks_of",
    "bytes_of",
    "content",
    "dataset_of",
]

BLOCK_DRAWS = 100
"""Draws of one chain that are computed with one seed; fixed, so that the numbers are."""


def dataset_of(posterior: Any) -> Dataset | None:
    """Give the draws of what a call was given; None where it is nothing that has names.

    Parameters
    ----------
    posterior : xarray.DataTree, arviz.InferenceData, xarray.Dataset or object
        A result, its posterior alone, or a trace of another kind.
    """
    if isinstance(posterior, Dataset):
        return posterior
    if not is_posterior(posterior):
        return None
    found = group(posterior, "posterior")
    # a tree may also be the group itself
    return found if found is not None or not hasattr(posterior, "to_dataset") else own(posterior)


def own(tree: Any) -> Dataset | None:
    """Give the dataset at the root of a tree; None where there is none."""
    dataset: Dataset = tree.to_dataset()
    return dataset if dataset.data_vars else None


def content(dataset: Dataset | None) -> Any:
    """Give what a dataset holds, for a key: its values and coordinates, and no attributes.

    Two that are equal in that give equal results, whoever made them and when.
    """
    if dataset is None:
        return None
    return {
        kind: {str(name): (v.dims, _values(v)) for name, v in sorted(of.items(), key=_by_name)}
        for kind, of in (("values", dataset.data_vars), ("coords", dataset.coords))
    }


def _values(variable: Any) -> np.ndarray:
    # what is on disk is read here, whoever else computes for Dask
    values: np.ndarray = variable.compute(scheduler="threads").to_numpy()
    return values


def _by_name(item: tuple[Any, Any]) -> str:
    return str(item[0])


Groups = Mapping[str, Dataset]
"""Groups of a posterior by name."""


@dataclass(frozen=True)
class Block:
    """Draws that are computed together, with a seed of their own.

    Attributes
    ----------
    number : tuple of int
        Its place among all, along each dimension of the draws.
    where : mapping of str to slice
        The draws in it, along each dimension.
    """

    number: tuple[int, ...]
    where: Mapping[str, slice]

    @property
    def sizes(self) -> dict[str, int]:
        """How long it is along each dimension."""
        return {dim: part.stop - part.start for dim, part in self.where.items()}

    def seed(self, entropy: int) -> int:
        """Give its seed, whoever computes it: the same number for the same seed of the call."""
        sequence = np.random.SeedSequence(entropy, spawn_key=self.number)
        # of 62 bits, which every function takes
        return int(sequence.generate_state(1, np.uint64)[0] >> 2)


@dataclass(frozen=True)
class Blocks:
    """The draws that a call is computed for, cut into blocks.

    The longest dimension is cut into blocks, all others into single items.

    Attributes
    ----------
    coords : mapping of str to numpy.ndarray
        The values of each dimension of the draws, ``("chain", "draw")`` most often.
    dataset : xarray.Dataset or None
        The draws; None where there are none yet.
    data : mapping of str to xarray.Dataset
        Groups beside them that count, whole for each block.
    length : int
        How much of the longest dimension is in a block.
    """

    coords: Mapping[str, np.ndarray]
    dataset: Dataset | None = None
    data: Groups = field(default_factory=dict)
    length: int = BLOCK_DRAWS

    def __iter__(self) -> Iterator[Block]:
        sizes, longest = self._sizes, self._longest
        steps = {dim: self.length if dim == longest else 1 for dim in sizes}
        counts = (range(-(-size // steps[dim])) for dim, size in sizes.items())
        for number in itertools.product(*counts):
            starts = {dim: n * steps[dim] for dim, n in zip(sizes, number, strict=True)}
            yield Block(
                number,
                {d: slice(at, min(at + steps[d], sizes[d])) for d, at in starts.items()},
            )

    @property
    def whole(self) -> Block:
        """All draws, as if they were one block."""
        return Block((), {dim: slice(0, size) for dim, size in self._sizes.items()})

    def seeds(self, entropy: int) -> list[tuple[int, int]]:
        """Give the number of draws and the seed of each block."""
        return [(math.prod(block.sizes.values()), block.seed(entropy)) for block in self]

    @property
    def in_order(self) -> bool:
        """Whether a loop through all draws comes to one block after the other."""
        sizes, dims = self._sizes, list(self.coords)
        after = dims[dims.index(self._longest) + 1 :] if dims else []
        return all(sizes[dim] == 1 for dim in after)

    @property
    def _sizes(self) -> dict[str, int]:
        return {dim: len(values) for dim, values in self.coords.items()}

    @property
    def _longest(self) -> str:
        sizes = self._sizes
        return max(reversed(sizes), key=lambda dim: sizes[dim], default="")

    def draws(self, block: Block) -> Groups:
        """Give the draws of a block, as the group that they are; none where there are none yet."""
        if self.dataset is None:
            return {}
        # read here, if it is on disk
        return {"posterior": self.dataset.isel(block.where).compute(scheduler="threads")}


def blocks_of(dataset: Dataset, dims: Sequence[str], **data: Dataset | None) -> Blocks | None:
    """Cut the draws of a dataset into blocks; None where there are none, or they are stacked.

    Parameters
    ----------
    dataset : xarray.Dataset
        The draws.
    dims : sequence of str
        Their dimensions.
    **data : xarray.Dataset or None
        What else counts; None does not.
    """
    stacked = any(isinstance(dataset.indexes.get(dim), pd.MultiIndex) for dim in dims)
    if stacked or any(dataset.sizes.get(dim, 0) == 0 for dim in dims):
        return None
    coords = {dim: dataset[dim].to_numpy() for dim in dims}
    return Blocks(coords, dataset, {k: v for k, v in data.items() if v is not None})


def bytes_of(variables: Sequence[Any], model: pm.Model) -> int:
    """Guess how large the values of variables are for one draw; what is not known counts as one.

    Parameters
    ----------
    variables : sequence of pytensor.tensor.TensorVariable
        Of the model.
    model : pymc.Model
        The model.
    """
    shapes = (_shape_of(model.rvs_to_values.get(variable, variable)) for variable in variables)
    return sum(8 * math.prod(size or 1 for size in shape) for shape in shapes)


def _shape_of(variable: Any) -> tuple[int | None, ...]:
    if hasattr(variable, "get_value"):
        return tuple(np.shape(variable.get_value(borrow=True)))
    return tuple(variable.type.shape)
