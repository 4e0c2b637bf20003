"""Predictions from the prior and from a posterior."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from xarray import DataTree

from cloudposterior.operations.call import FunctionCall
from cloudposterior.operations.given import Block, Blocks, Groups, blocks_of, content, dataset_of
from cloudposterior.posterior import extend, from_tree, group, is_posterior, to_tree

__all__ = ["DATA_GROUPS", "PosteriorPredictive", "PriorPredictive"]

DATA_GROUPS = ("constant_data", "observed_data")
"""Groups beside the posterior that predictions depend on: whether data has changed since."""


class PriorPredictive(FunctionCall):
    """A call of `pymc.sample_prior_predictive`."""

    seeds_taken = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # what PyMC 5 also calls the number of draws
        samples = self.arguments.pop("samples", None)
        if samples is not None:
            self.arguments["draws"] = samples

    def options(self) -> dict[str, Any]:
        """Give what of the call its result depends on, beside the model."""
        options = super().options()
        if self.on_cluster:
            options["streams"] = "one a block"
        options["var_names"] = _names(options["var_names"])
        return options

    def blocks(self) -> Blocks | None:
        """Give the draws, block by block."""
        draws = int(self.arguments["draws"])
        return Blocks({"draw": np.arange(draws)}) if draws > 0 else None

    def computes(self) -> list[Any]:
        """Give the variables of the model that it computes for each draw."""
        names = _names(self.arguments["var_names"])
        model = self.model
        everything = [*model.basic_RVs, *model.deterministics]
        return everything if names is None else [model[name] for name in names]

    def block_arguments(self, block: Block, groups: Groups) -> dict[str, Any]:
        """Give the arguments to compute a block with, in the place of those of all draws."""
        return {"draws": block.sizes["draw"]}

    def tree_of(self, result: Any) -> DataTree:
        """Give what a cache keeps of what the function returned."""
        return to_tree(result)

    def from_kept(self, tree: DataTree) -> Any:
        """Give what the function returns, from what `tree_of` gave."""
        return from_tree(tree)


class PosteriorPredictive(FunctionCall):
    """A call of `pymc.sample_posterior_predictive`."""

    not_in_key = FunctionCall.not_in_key | {"trace", "extend_inferencedata"}
    seeds_taken = 1

    def lacks(self) -> str | None:
        """Say what this call or its result lacks to be cached; None where it lacks nothing."""
        if dataset_of(self.arguments.get("trace")) is None:
            kind = type(self.arguments.get("trace")).__name__
            return f"its trace is a {kind}, and has no names for its dimensions"
        return super().lacks()

    def options(self) -> dict[str, Any]:
        """Give what of the call its result depends on, beside the model."""
        options = super().options()
        trace = self.arguments["trace"]
        options["trace"] = {"posterior": content(dataset_of(trace))}
        if is_posterior(trace):
            options["trace"] |= {name: content(group(trace, name)) for name in DATA_GROUPS}
        for name in ("var_names", "sample_vars", "freeze_vars"):
            if name in options:
                options[name] = _names(options[name])
        options["sample_dims"] = list(options["sample_dims"] or ("chain", "draw"))
        if self.on_cluster:
            options["streams"] = "one a block"
        return options

    def label(self) -> str:
        """Name the call with what is readable of it."""
        return super().label() + ("_predictions" if self.arguments["predictions"] else "")

    def to_run(self) -> tuple[dict[str, Any], Any]:
        """Give the arguments to run it with: what is new comes alone."""
        arguments, seed = super().to_run()
        if self.why_not() is None:
            arguments["extend_inferencedata"] = False
        return arguments, seed

    large = ("trace",)

    def blocks(self) -> Blocks | None:
        """Give the draws, block by block."""
        trace, dims = self.arguments["trace"], self.arguments["sample_dims"] or ("chain", "draw")
        draws = dataset_of(trace)
        if draws is None:
            return None
        data = {n: group(trace, n) for n in DATA_GROUPS} if is_posterior(trace) else {}
        return blocks_of(draws, dims, **data)

    def computes(self) -> list[Any]:
        """Give the variables of the model that it computes for each draw."""
        names = _names(self.arguments["var_names"])
        return list(self.model.observed_RVs) if names is None else [self.model[n] for n in names]

    def block_arguments(self, block: Block, groups: Groups) -> dict[str, Any]:
        """Give the arguments to compute a block with, in the place of those of all draws."""
        tree: DataTree = DataTree.from_dict(dict(groups))
        return {"trace": from_tree(tree), "extend_inferencedata": False}

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, and leave the model as it was.

        PyMC 5 adds to the observed variables of the model where the posterior has their data; it
        would be another model then, and one that cannot be sampled any more.
        """
        lists = [model.observed_RVs for model in _with_parents(self.model)]
        before = [list(of) for of in lists]
        try:
            return super().compute(*args, **kwargs)
        finally:
            for of, variables in zip(lists, before, strict=True):
                # these lists know no other way to get shorter
                list.__setitem__(of, slice(None), variables)

    def tree_of(self, result: Any) -> DataTree:
        """Give what a cache keeps of what the function returned."""
        return to_tree(result)

    def from_kept(self, tree: DataTree) -> Any:
        """Give the predictions, or what the call was given, with them in it."""
        trace = self.arguments["trace"]
        if not (self.arguments["extend_inferencedata"] and is_posterior(trace)):
            return from_tree(tree)
        extend(trace, tree, strict=bool(self.arguments["predictions"]))
        return trace


def _names(names: Any) -> Any:
    """Give names one form, whatever holds them."""
    if names is None or isinstance(names, str):
        return names if names is None else [names]
    return list(names)


def _with_parents(model: Any) -> Iterator[Any]:
    """Give a model, and those that it is part of: what is added to it, they get too."""
    while model is not None:
        yield model
        model = model.parent
