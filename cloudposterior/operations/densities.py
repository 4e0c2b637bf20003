"""Functions of the draws: log-likelihood, log-prior and deterministics."""

from __future__ import annotations

from typing import Any

import xarray as xr
from xarray import Dataset, DataTree

from cloudposterior.operations.call import FunctionCall
from cloudposterior.operations.given import Block, Blocks, Groups, blocks_of, content, dataset_of
from cloudposterior.posterior import add_group, from_tree, group, is_posterior

__all__ = ["Deterministics", "LogDensity"]


class _OfDraws(FunctionCall):
    """A call that computes a dataset from the draws of a posterior."""

    given_as = ""
    """The argument that holds the draws."""

    result_group = ""
    """The group that a cache keeps the result in."""

    @property
    def draws(self) -> Dataset | None:
        """The draws; None where what was given has no names."""
        return dataset_of(self.arguments.get(self.given_as))

    def lacks(self) -> str | None:
        """Say what this call or its result lacks to be cached; None where it lacks nothing."""
        if self.draws is None:
            kind = type(self.arguments.get(self.given_as)).__name__
            return f"its draws are a {kind}, and have no names for their dimensions"
        return super().lacks()

    def options(self) -> dict[str, Any]:
        """Give what of the call its result depends on, beside the model."""
        options = super().options()
        options[self.given_as] = content(self._inputs())
        names = options["var_names"]
        options["var_names"] = None if names is None else list(names)
        options["sample_dims"] = list(options["sample_dims"])
        return options

    def _inputs(self) -> Dataset | None:
        """Give the variables that it is computed from, and no others."""
        draws, names = self.draws, [str(rv.name) for rv in self.model.free_RVs]
        return draws if draws is None or set(names) - set(draws.data_vars) else draws[names]

    @property
    def large(self) -> tuple[str, ...]:
        """The arguments that hold the draws: they do not travel with the others."""
        return (self.given_as,)

    def all_of_them(self) -> list[Any]:
        """Give what it computes where nothing is asked for by name."""
        return list(self.model.deterministics)

    def blocks(self) -> Blocks | None:
        """Give the draws, block by block."""
        draws = self._inputs()
        return None if draws is None else blocks_of(draws, self.arguments["sample_dims"])

    def tree_of(self, result: Any) -> DataTree:
        """Give what a cache keeps of what the function returned."""
        tree: DataTree = DataTree.from_dict({self.result_group: result})
        return tree


class LogDensity(_OfDraws):
    """A call of `pymc.compute_log_likelihood` or `pymc.compute_log_prior`."""

    given_as = "idata"
    not_in_key = FunctionCall.not_in_key | {"idata", "extend_inferencedata"}

    @property
    def result_group(self) -> str:  # type: ignore[override]
        """The group that the function puts its result in."""
        return self.name.removeprefix("compute_")

    def to_run(self) -> tuple[dict[str, Any], Any]:
        """Give the arguments to run it with: what is new comes alone."""
        arguments, seed = super().to_run()
        if self.why_not() is None:
            arguments["extend_inferencedata"] = False
        return arguments, seed

    def all_of_them(self) -> list[Any]:
        """Give what it computes where nothing is asked for by name."""
        is_likelihood = self.result_group == "log_likelihood"
        return list(self.model.observed_RVs if is_likelihood else self.model.free_RVs)

    def block_arguments(self, block: Block, groups: Groups) -> dict[str, Any]:
        """Give the arguments to compute a block with, in the place of those of all draws."""
        tree: DataTree = DataTree.from_dict(dict(groups))
        return {"idata": from_tree(tree), "extend_inferencedata": False}

    def lacks(self) -> str | None:
        """Say what this call or its result lacks to be cached; None where it lacks nothing."""
        idata = self.arguments.get("idata")
        if not is_posterior(idata) or group(idata, "posterior") is None:
            return f"what it is given, a {type(idata).__name__}, has no group of that name"
        return super().lacks()

    def from_kept(self, tree: DataTree) -> Any:
        """Give the densities, or what the call was given, with them in it."""
        densities = tree[self.result_group].to_dataset()
        if not self.arguments["extend_inferencedata"]:
            return densities
        add_group(self.arguments["idata"], self.result_group, densities)
        return self.arguments["idata"]


class Deterministics(_OfDraws):
    """A call of `pymc.compute_deterministics`."""

    given_as = "dataset"
    result_group = "deterministics"
    not_in_key = FunctionCall.not_in_key | {"dataset", "merge_dataset", "extend_dataset", "group"}

    def block_arguments(self, block: Block, groups: Groups) -> dict[str, Any]:
        """Give the arguments to compute a block with, in the place of those of all draws."""
        alone = {"merge_dataset": False, "extend_dataset": False, "group": None}
        known = {name: value for name, value in alone.items() if name in self.arguments}
        return {"dataset": groups["posterior"], **known}

    @property
    def draws(self) -> Dataset | None:
        """The draws of the group that is named, or that PyMC takes of a whole result."""
        part = self._group()
        if isinstance(part, DataTree):
            return part.to_dataset()
        return part if isinstance(part, Dataset) else None

    def _group(self) -> Any:
        given, name = self.arguments.get("dataset"), self.arguments.get("group")
        if not (isinstance(given, DataTree) and given.children):
            return given if name is None else None
        names = ("posterior", "prior") if name is None else (name,)
        return next((given[name] for name in names if name in given.children), None)

    def to_run(self) -> tuple[dict[str, Any], Any]:
        """Give the arguments to run it with: what is new comes alone."""
        arguments, seed = super().to_run()
        if self.why_not() is None:
            arguments["merge_dataset"] = False
            arguments.pop("extend_dataset", None)
        return arguments, seed

    def from_kept(self, tree: DataTree) -> Any:
        """Give the deterministics, or what the call was given, with them in it."""
        computed = tree[self.result_group].to_dataset()
        if self.arguments.get("extend_dataset"):
            self._group().update(computed)
            return self.arguments["dataset"]
        if self.arguments["merge_dataset"]:
            return xr.merge([self._group(), computed], compat="override")
        return computed
