"""The one inner form of a result, and the way in and out of it.

Inside the package a result is an `xarray.DataTree`. ArviZ 1 and PyMC 6 speak it too; ArviZ 0.x has
its own class, ``InferenceData``, which is met here and nowhere else.
"""

from __future__ import annotations

from typing import Any

import arviz
from xarray import DataTree

__all__ = ["from_tree", "is_posterior", "to_tree"]

# ArviZ 1 still answers to the name, with a warning
_InferenceData: type | None = vars(arviz).get("InferenceData")


def is_posterior(result: object) -> bool:
    """Tell whether a sampler's result is one that can be kept (a ``MultiTrace`` cannot)."""
    kinds = (DataTree,) if _InferenceData is None else (DataTree, _InferenceData)
    return isinstance(result, kinds)


def to_tree(result: Any) -> DataTree:
    """Take a result into the inner form, sharing its arrays.

    Parameters
    ----------
    result : xarray.DataTree or arviz.InferenceData
        What `pymc.sample` returned.

    Returns
    -------
    xarray.DataTree
        One child for each group, in the order of the result.
    """
    if isinstance(result, DataTree):
        return result
    tree = DataTree.from_dict(dict(result.items()))
    tree.attrs = dict(result.attrs)
    return tree


def from_tree(tree: DataTree) -> Any:
    """Give a result the class that the installed PyMC returns.

    Parameters
    ----------
    tree : xarray.DataTree
        A result in the inner form.

    Returns
    -------
    xarray.DataTree or arviz.InferenceData
        Shares the arrays of `tree`.
    """
    if _InferenceData is None:
        return tree
    groups = {name: child.to_dataset() for name, child in tree.children.items()}
    return _InferenceData(attrs=dict(tree.attrs), **groups)
