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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # what PyMC 6 also calls its seed; where both are given, it says so
        if self.is_random and self.seed is None and "seed" in self.arguments:
            self.arguments["random_seed"] = self.arguments.pop("seed")

    def lacks(self) -> str | None:
        """Say what this call or its result lacks to be cached; None where it lacks nothing."""
        # here return_inferencedata is off by default, and both are kept
        if self.arguments.get("return_raw"):
            return "return_raw=True gives an object of SciPy"
        if self.arguments.get("callback") is not None:
            return "callback= is called while it runs"
        return None

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
