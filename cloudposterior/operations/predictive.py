"""Predictions from the prior and from a posterior."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from xarray import DataTree

from cloudposterior.operations.call import FunctionCall
from cloudposterior.operations.given import Block, Blocks, Groups, blocks_of, content, dataset_of
from cloudposterior.operations.options import names_of
from cloudposterior.posterior import extend, from_tree, group, is_posterior

__all__ = ["PosteriorPredictive", "PriorPredictive"]

_DATA_GROUPS = ("constant_data", "observed_data")
"""Groups beside the posterior that predictions depend on: whether data has changed since."""


class _Predictive(FunctionCall):
    """A call that draws with one stream here, and with one for each block on a cluster."""

    seeds_taken = 1

    def options(self) -> dict[str, Any]:
        """Give what of the call its result depends on, beside the model."""
        options = super().options()
        if self.on_cluster:
            options["streams"] = "one a block"
        for name in ("var_names", "sample_vars", "freeze_vars"):
            if name in options:
                options[name] = names_of(options[name])
        return options


class PriorPredictive(_Predictive):
    """A call of `pymc.sample_prior_predictive`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # what PyMC 5 also calls the number of draws
        samples = self.arguments.pop("samples", None)
        if samples is not None:
            self.arguments["draws"] = samples

    def blocks(self) -> Blocks | None:
        """Give the draws, block by block."""
        draws = int(self.arguments["draws"])
        return Blocks({"draw": np.arange(draws)}) if draws > 0 else None

    def all_of_them(self) -> list[Any]:
        """Give what it computes where nothing is asked for by name."""
        return [*self.model.basic_RVs, *self.model.deterministics]

    def block_arguments(self, block: Block, groups: Groups) -> dict[str, Any]:
        """Give the arguments to compute a block with, in the place of those of all draws."""
        return {"draws": block.sizes["draw"]}


class PosteriorPredictive(_Predictive):
    """A call of `pymc.sample_posterior_predictive`."""

    not_in_key = FunctionCall.not_in_key | {"trace", "extend_inferencedata"}
    large = ("trace",)

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
            options["trace"] |= {name: content(group(trace, name)) for name in _DATA_GROUPS}
        options["sample_dims"] = list(options["sample_dims"] or ("chain", "draw"))
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

    def blocks(self) -> Blocks | None:
        """Give the draws, block by block."""
        trace, dims = self.arguments["trace"], self.arguments["sample_dims"] or ("chain", "draw")
        draws = dataset_of(trace)
        if draws is None:
            return None
        data = {n: group(trace, n) for n in _DATA_GROUPS} if is_posterior(trace) else {}
        return blocks_of(draws, dims, **data)

    def all_of_them(self) -> list[Any]:
        """Give what it computes where nothing is asked for by name."""
        return list(self.model.observed_RVs)

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

    def from_kept(self, tree: DataTree) -> Any:
        """Give the predictions, or what the call was given, with them in it."""
        trace = self.arguments["trace"]
        if not (self.arguments["extend_inferencedata"] and is_posterior(trace)):
            return from_tree(tree)
        extend(trace, tree, strict=bool(self.arguments["predictions"]))
        return trace


def _with_parents(model: Any) -> Iterator[Any]:
    """Give a model, and those that it is part of: what is added to it, they get too."""
    while model is not None:
        yield model
        model = model.parent
