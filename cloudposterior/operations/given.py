"""Posteriors that calls are given: what of them counts, and how they are cut into blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from xarray import Dataset

from cloudposterior.posterior import group, is_posterior

__all__ = ["BLOCK_DRAWS", "Block", "blocks_of", "content", "dataset_of"]

BLOCK_DRAWS = 100
"""Draws of one chain that are computed with one seed; fixed, so that the numbers are."""

Block = dict[str, slice]
"""Where a block is along each dimension of the draws."""


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
        kind: {str(name): (v.dims, v.to_numpy()) for name, v in sorted(of.items(), key=_by_name)}
        for kind, of in (("values", dataset.data_vars), ("coords", dataset.coords))
    }


def _by_name(item: tuple[Any, Any]) -> str:
    return str(item[0])


def blocks_of(sizes: Mapping[str, int], dims: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Number the blocks that draws are cut into, one tuple each.

    Parameters
    ----------
    sizes : mapping of str to int
        How long each dimension is.
    dims : sequence of str
        The dimensions of the draws, as ``("chain", "draw")``. The longest one is cut into blocks of
        `BLOCK_DRAWS`, the others into single items.
    """
    yield from itertools.product(*(range(count) for count in _counts(sizes, dims)))


def place_of(number: tuple[int, ...], sizes: Mapping[str, int], dims: Sequence[str]) -> Block:
    """Say where a block is."""
    steps = [BLOCK_DRAWS if dim == _longest(sizes, dims) else 1 for dim in dims]
    return {
        dim: slice(n * step, min((n + 1) * step, sizes[dim]))
        for dim, n, step in zip(dims, number, steps, strict=True)
    }


def _counts(sizes: Mapping[str, int], dims: Sequence[str]) -> list[int]:
    longest = _longest(sizes, dims)
    return [-(-sizes[dim] // BLOCK_DRAWS) if dim == longest else sizes[dim] for dim in dims]


def _longest(sizes: Mapping[str, int], dims: Sequence[str]) -> str:
    return max(reversed(dims), key=lambda dim: sizes[dim], default="")


def seed_of(entropy: int, number: tuple[int, ...]) -> int:
    """Give the seed of a block."""
    sequence = np.random.SeedSequence(entropy, spawn_key=number)
    return int(sequence.generate_state(1, np.uint64)[0] >> 2)
