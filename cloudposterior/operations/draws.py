"""Functions that draw a posterior in one go: `pymc.sample_smc`, `pymc_extras.fit`."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from xarray import DataTree

from cloudposterior.operations.call import FunctionCall
from cloudposterior.operations.given import Block, Blocks, Groups
from cloudposterior.operations.joined import Joined, Scratch
from cloudposterior.posterior import is_posterior, to_tree
from cloudposterior.samplers.pymc import cpu_count
from cloudposterior.samplers.seeds import seeds_of
from cloudposterior.samplers.smc import SMCChain, draw_chain, join_chains
from cloudposterior.samplers.surroundings import Said, said_kept, say

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

    @property
    def seeds_taken(self) -> int:  # type: ignore[override]
        """How many seeds PyMC takes from a generator: one for each chain."""
        return self.chains

    def blocks(self) -> Blocks:
        """Give the chains, each of them a block."""
        return Blocks({"chain": np.arange(self.chains)}, length=1)

    def block_seed(self, seed: Any) -> Any:
        """Give the seeds of all chains, as PyMC takes them."""
        return seeds_of(seed, self.chains)

    def compute_block(self, block: Block, groups: Groups, seed: Any) -> SMCChain:
        """Draw a chain; what PyMC logs of all of them is the client's to say."""
        arguments = {**self.arguments, "chains": self.chains, "random_seed": seed}
        said: list[Said] = []
        with said_kept(said):
            chain = draw_chain(self.model, arguments, block.where["chain"].start)
        say([one for one in said if len(one) == 2], quiet=True)
        return chain

    def joined(self, blocks: Blocks, scratch: Scratch | None) -> Joined:
        """Give what chains are put into as they come."""
        return _Chains(self)

    def label(self) -> str:
        """Name the call with what is readable of it."""
        return f"{super().label()}_chains{self.chains}"


class _Chains(Joined):
    """The chains of a call, and the result that PyMC makes of them."""

    def __init__(self, call: SMC) -> None:
        super().__init__({})
        self._call = call
        self._chains: dict[int, SMCChain] = {}

    def add(self, part: Any, block: Block) -> None:
        """Take in a chain."""
        self._chains[block.where["chain"].start] = part

    def tree(self) -> DataTree:
        """Give the result."""
        chains = [self._chains[number] for number in sorted(self._chains)]
        # drawn by now: no seed counts any more
        arguments = {**self._call.arguments, "chains": len(chains), "random_seed": 0}
        return to_tree(join_chains(self._call.model, arguments, chains))


class ExtrasFit(FunctionCall):
    """A call of `pymc_extras.fit`: pathfinder, Laplace and others."""

    packages = ("pymc-extras", "better-optimize", "jax", "blackjax")
    not_in_key = SMC.not_in_key | {"concurrent", "parallel"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # its methods take one, whichever of them it is
        self.arguments.setdefault("random_seed", None)

    def on_a_worker(self) -> dict[str, Any]:
        """Give what is other there; pathfinder starts processes unless it is told not to."""
        if self.arguments.get("method") != "pathfinder":
            return super().on_a_worker()
        from pymc_extras.inference.pathfinder import fit_pathfinder

        known = inspect.signature(fit_pathfinder).parameters
        alone = {"progressbar": False, "parallel": False, "concurrent": None}
        return {name: value for name, value in alone.items() if name in known}

    def label(self) -> str:
        """Name the call with what is readable of it."""
        return f"{super().label()}_{self.arguments.get('method')}"

    def tree_of(self, result: Any) -> DataTree:
        """Give what a cache keeps of what the function returned."""
        if not is_posterior(result):
            raise TypeError(f"pymc_extras.fit gave a {type(result).__name__}, which is no result")
        return super().tree_of(result)
