"""The one inner form of a result, and the way in and out of it.

Inside the package a result is an `xarray.DataTree`. ArviZ 1 and PyMC 6 speak it too; ArviZ 0.x has
its own class, ``InferenceData``, which is met here and nowhere else.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Any

from xarray import Dataset, DataTree

__all__ = ["add_group", "extend", "from_tree", "group", "is_posterior", "to_tree"]


def _class_of_arviz() -> type | None:
    """Give ArviZ's own class; none of ArviZ 1, which takes a second to import."""
    if not version("arviz").startswith("0."):
        return None
    from arviz import InferenceData

    return InferenceData  # type: ignore[no-any-return]


_InferenceData = _class_of_arviz()


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


def group(result: Any, name: str) -> Dataset | None:
    """Give a group of a result; None where it has none of that name.

    Parameters
    ----------
    result : xarray.DataTree or arviz.InferenceData
        A result.
    name : str
        ``"posterior"``, ``"constant_data"``...
    """
    if isinstance(result, DataTree):
        return result[name].to_dataset() if name in result.children else None
    return getattr(result, name, None)


def add_group(result: Any, name: str, dataset: Dataset) -> None:
    """Put a new group into a result, as `pymc.compute_log_likelihood` does.

    Raises
    ------
    ValueError
        If an ``InferenceData`` has it already.
    """
    if isinstance(result, DataTree):
        result[name] = DataTree(dataset)
    else:
        result.add_groups({name: dataset})


def extend(result: Any, tree: DataTree, *, strict: bool = False) -> None:
    """Put the groups of another result into one, as `pymc.sample_posterior_predictive` does.

    Parameters
    ----------
    result : xarray.DataTree or arviz.InferenceData
        Changed in place.
    tree : xarray.DataTree
        The other one.
    strict : bool
        Whether an ``InferenceData`` must not have any of the groups yet.

    Warns
    -----
    UserWarning
        Of groups of a tree that are written over, but for data.
    """
    if isinstance(result, DataTree):
        there = (set(result.children) & set(tree.children)) - {"observed_data", "constant_data"}
        if there:
            warnings.warn(
                f"groups {sorted(there)} are there already and are written over; "
                "extend_inferencedata=False leaves them",
                UserWarning,
                stacklevel=2,
            )
        result.update({name: DataTree(child.to_dataset()) for name, child in tree.children.items()})
    elif strict:
        from arviz import concat

        concat([result, from_tree(tree)], dim=None, inplace=True)
    else:
        result.extend(from_tree(tree))
