"""`pymc.find_MAP`: a point."""

from __future__ import annotations

from typing import Any

import numpy as np
from xarray import Dataset, DataTree, Variable

from cloudposterior.operations.call import FunctionCall
from cloudposterior.posterior import from_tree, is_posterior, to_tree

__all__ = ["MaximumAPosteriori"]

_GROUP = "point"


class MaximumAPosteriori(FunctionCall):
    """A call of `pymc.find_MAP`."""

    packages = ("scipy",)

    def why_not(self) -> str | None:
        """Say why the result of this call cannot be cached; None where it can."""
        # here it is off by default, and both are kept
        return (
            "return_raw=True gives an object of SciPy" if self.arguments.get("return_raw") else None
        )

    def tree_of(self, result: Any) -> DataTree:
        """Give what a cache keeps of what the function returned."""
        if is_posterior(result):
            return to_tree(result)
        values = {
            name: Variable([f"{name}_dim_{i}" for i in range(np.ndim(value))], value)
            for name, value in result.items()
        }
        tree: DataTree = DataTree.from_dict({_GROUP: Dataset(values)})
        return tree

    def from_kept(self, tree: DataTree) -> Any:
        """Give the point, or the tree that newer PyMC makes of it where it is asked to."""
        if self.arguments.get("return_inferencedata"):
            return from_tree(tree)
        return {str(k): v.to_numpy() for k, v in tree[_GROUP].to_dataset().data_vars.items()}
