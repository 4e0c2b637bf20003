"""Functions that draw a posterior in one go: `pymc.sample_smc`, `pymc_extras.fit`."""

from __future__ import annotations

from typing import Any

from xarray import DataTree

from cloudposterior.operations.call import FunctionCall
from cloudposterior.posterior import from_tree, is_posterior, to_tree
from cloudposterior.samplers.pymc import cpu_count

__all__ = ["SMC", "ExtrasFit"]


class SMC(FunctionCall):
    """A call of `pymc.sample_smc`."""

    not_in_key = FunctionCall.not_in_key | {
        "cores",
        "blas_cores",
        "mp_ctx",
        "compute_convergence_checks",
    }

    def options(self) -> dict[str, Any]:
        """Give what of the call its result depends on, beside the model."""
        return {**super().options(), "chains": self.chains}

    @property
    def chains(self) -> int:
        """How many chains there are: as PyMC does, two at least, else one for each core."""
        chains, cores = self.arguments["chains"], self.arguments["cores"]
        return int(chains) if chains is not None else max(2, cores or cpu_count())

    def label(self) -> str:
        """Name the call with what is readable of it."""
        return f"{super().label()}_chains{self.chains}"

    def tree_of(self, result: Any) -> DataTree:
        """Give what a cache keeps of what the function returned."""
        return to_tree(result)

    def from_kept(self, tree: DataTree) -> Any:
        """Give what the function returns, from what `tree_of` gave."""
        return from_tree(tree)


class ExtrasFit(FunctionCall):
    """A call of `pymc_extras.fit`: pathfinder, Laplace and others."""

    packages = ("pymc-extras", "scipy")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # its methods take one, whichever of them it is
        self.arguments.setdefault("random_seed", None)

    def label(self) -> str:
        """Name the call with what is readable of it."""
        return f"{super().label()}_{self.arguments.get('method')}"

    def tree_of(self, result: Any) -> DataTree:
        """Give what a cache keeps of what the function returned."""
        if not is_posterior(result):
            raise TypeError(f"pymc_extras.fit gave a {type(result).__name__}, which is no result")
        return to_tree(result)

    def from_kept(self, tree: DataTree) -> Any:
        """Give what the function returns, from what `tree_of` gave."""
        return from_tree(tree)
