"""`pymc.fit`: an approximation, kept as its parameters and losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pymc.variational.callbacks import CheckParametersConvergence
from pymc.variational.inference import Inference
from xarray import Dataset, DataTree, Variable

from cloudposterior.operations.call import FunctionCall
from cloudposterior.samplers.doors import doors

__all__ = ["Fit"]

_PARAMETERS, _LOSSES = "parameters", "losses"


class Fit(FunctionCall):
    """A call of `pymc.fit`: ADVI and its kin."""

    def lacks(self) -> str | None:
        """Say what this call or its result lacks to be cached; None where it lacks nothing."""
        if not isinstance(self.arguments["method"], str):
            return "method= is an object of your own, which the fit goes on with"
        callbacks = self.arguments.get("callbacks") or ()
        if not all(isinstance(of, CheckParametersConvergence) for of in callbacks):
            return "callbacks= are called while it runs"
        return None

    def label(self) -> str:
        """Name the call with what is readable of it."""
        return f"{super().label()}_{self.arguments['method']}_n{self.arguments['n']}"

    def options(self) -> dict[str, Any]:
        """Give what of the call its result depends on, beside the model."""
        options = super().options()
        options["method"] = str(options["method"]).lower()
        options["inf_kwargs"] = dict(options["inf_kwargs"] or {})
        return options

    def watched_by(self, watch: Callable[[str], None]) -> dict[str, Any]:
        """Have it told after each step what the loss is."""
        total, own = self.arguments["n"], list(self.arguments.get("callbacks") or ())

        def tell(_: Any, losses: Any, step: int) -> None:
            loss = f", loss {losses[-1]:.5g}" if losses is not None and len(losses) else ""
            watch(f"{step} of {total} steps{loss}")

        return {"callbacks": [*own, tell]}

    def tree_of(self, result: Any) -> DataTree:
        """Give the parameters by number, since groups of variables may name theirs alike."""
        values = [np.asarray(parameter.get_value()) for parameter in result.params]
        parameters = Dataset(
            {
                f"{number}": Variable([f"{number}_dim_{i}" for i in range(value.ndim)], value)
                for number, value in enumerate(values)
            }
        )
        losses = Dataset({"loss": Variable(["iteration"], np.asarray(result.hist, dtype=float))})
        tree: DataTree = DataTree.from_dict({_PARAMETERS: parameters, _LOSSES: losses})
        return tree

    def from_kept(self, tree: DataTree) -> Any:
        """Give the approximation: PyMC makes it anew, and it gets the parameters."""
        arguments, _ = self.to_run()
        with doors(Inference, fit=lambda _, inference, *args, **kwargs: inference.approx):
            approximation = self.function.own(**{**arguments, "progressbar": False})
        values = tree[_PARAMETERS].to_dataset()
        for number, parameter in enumerate(approximation.params):
            parameter.set_value(values[f"{number}"].to_numpy())
        approximation.hist = tree[_LOSSES]["loss"].to_numpy()
        return approximation
