"""A call of one of PyMC's functions, as the path of a call takes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import pymc as pm
import pytensor
from xarray import DataTree

from cloudposterior.identity.manifest import Option
from cloudposterior.identity.model import components, model_walk, tokens_of
from cloudposterior.operations.functions import Function
from cloudposterior.operations.given import Block, Blocks, Groups
from cloudposterior.operations.interrupted import interrupts_noted
from cloudposterior.operations.joined import Joined, Scratch
from cloudposterior.operations.options import names_of, option, plain, settings_for, versions_of
from cloudposterior.operations.request import OPERATION, Request, make_request
from cloudposterior.operations.seed import recorded_seed, seed_value
from cloudposterior.posterior import from_tree, to_tree
from cloudposterior.samplers.seeds import seeds_of

__all__ = ["Call", "FunctionCall"]


class Call(Protocol):
    """One call on one model."""

    name: str
    model: pm.Model
    arguments: dict[str, Any]

    @property
    def quiet(self) -> bool:
        """Whether the caller asked for no messages."""
        ...

    def why_not(self) -> str | None:
        """Say why the result of this call cannot be cached; None where it can."""
        ...

    def requests(self) -> Iterator[Request]:
        """Give the requests that answer this call; the last one is the one to run."""
        ...

    def run(self) -> tuple[Any, Any]:
        """Run the call here; give what a cache keeps of it, and the seed that repeats it."""
        ...

    def missing(self, tree: DataTree) -> str | None:
        """Say what a result lacks; None where it is whole."""
        ...

    def given(self, result: Any) -> Any:
        """Give what the caller gets, from what `run` gave or a cache kept."""
        ...

    def skip(self) -> None:
        """Do what running it does to the caller's seed, where that is so documented."""
        ...


_GENERATORS = (np.random.Generator, np.random.RandomState)


class FunctionCall:
    """A call of one of PyMC's functions beside `pymc.sample`.

    Parameters
    ----------
    function : Function
        The function.
    model : pymc.Model
        The model.
    args, kwargs
        What it is called with.
    on_cluster : bool, default False
        Whether a cluster runs it, which has settings of its own.

    Raises
    ------
    TypeError
        As the function raises it for arguments it does not know.
    """

    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions the result depends on, beside PyMC's own."""

    not_in_key: ClassVar[frozenset[str]] = frozenset(
        {"model", "progressbar", "progressbar_theme", "quiet"}
    )
    """Arguments that cannot change the result, or that are in the key in another form."""

    def __init__(
        self,
        function: Function,
        model: pm.Model,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        on_cluster: bool = False,
    ) -> None:
        self.function = function
        self.name = function.name
        self.model = model
        self.on_cluster = on_cluster
        self._args, self._kwargs = args, kwargs
        self.arguments, self._nameless = _arguments(function, args, kwargs)
        self.arguments["model"] = model
        self._interrupted = False

    @property
    def seed(self) -> Any:
        """The seed that was given; None where there is none."""
        return self.arguments.get("random_seed")

    @property
    def is_random(self) -> bool:
        """Whether the result depends on a seed."""
        return "random_seed" in self.arguments

    @property
    def quiet(self) -> bool:
        """Whether the caller asked for no messages."""
        return self.arguments.get("progressbar") is False or bool(self.arguments.get("quiet"))

    @property
    def settings(self) -> dict[str, str]:
        """The settings of PyTensor that it runs with."""
        return settings_for(on_cluster=self.on_cluster)

    def model_tokens(self) -> tuple[str, str]:
        """Give the tokens of the model with and without the values of its `pymc.Data`."""
        return tokens_of(self.model)

    def why_not(self) -> str | None:
        """Say why the result of this call cannot be cached; None where it can."""
        if self._nameless:
            return f"it is given arguments without names: {self._nameless}"
        if isinstance(self.seed, _GENERATORS) and not self.seeds_taken:
            return "random_seed= is a generator, which moves on as the function is run"
        return self.lacks()

    seeds_taken: int = 0
    """How many seeds the function takes from a generator; 0 where nobody can say."""

    def lacks(self) -> str | None:
        """Say what this call or its result lacks to be cached; None where it lacks nothing."""
        if self.arguments.get("return_inferencedata", True) is not True:
            return "return_inferencedata=False gives arrays without names for their dimensions"
        return None

    def skip(self) -> None:
        """Move a generator on as the function does; what comes after gets the same as ever."""
        if isinstance(self.seed, _GENERATORS):
            seeds_of(self.seed, self.seeds_taken)

    def requests(self) -> Iterator[Request]:
        """Give the request that answers this call."""
        walk = model_walk(self.model)
        parts = components(self.model, walk)
        named = {name: plain(value) for name, value in sorted(self.options().items())}
        options: tuple[Option, ...] = tuple(option(n, v, walk) for n, v in named.items())
        versions = versions_of(("pymc", "pytensor", "numpy", "scipy", *self.all_packages()))
        yield make_request(self, parts, options, versions, self.label())

    def all_packages(self) -> tuple[str, ...]:
        """Name the distributions that the result depends on, beside those of every call."""
        backend = (self.arguments.get("compile_kwargs") or {}).get("mode")
        named = f"{backend or self.arguments.get('backend') or pytensor.config.mode}".lower()
        return (*self.packages, *(("jax",) if "jax" in named else ()))

    def options(self) -> dict[str, Any]:
        """Give what of the call its result depends on, beside the model."""
        options = {k: v for k, v in self.arguments.items() if k not in self.not_in_key}
        if self.is_random:
            options["random_seed"] = seed_value(self.seed)
        for name in ("idata_kwargs", "compile_kwargs"):
            if name in options:
                options[name] = dict(options[name] or {})
        return {**options, OPERATION: self.name, "settings": self.settings}

    def label(self) -> str:
        """Name the call with what is readable of it."""
        words = [self.function.attribute.replace("_", "-")]
        draws = self.arguments.get("draws")
        if draws is not None:
            words.append(f"draws{draws}")
        if isinstance(seed_value(self.seed), int):
            words.append(f"seed{seed_value(self.seed)}")
        return "_".join(words)

    def run(self) -> tuple[Any, Any]:
        """Run the call here, as the function does."""
        if self.why_not():
            return self.compute(*self._args, **self._kwargs), recorded_seed(self.seed)
        arguments, seed = self.to_run()
        with interrupts_noted() as noted:
            result = self.compute(**arguments)
        self._interrupted = bool(noted)
        return self.tree_of(result), seed

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function.own(*args, **kwargs)

    def to_run(self) -> tuple[dict[str, Any], Any]:
        """Give the arguments to run it with, and the seed that repeats it, as it is recorded."""
        arguments = dict(self.arguments)
        if self.is_random and self.seed is None:
            arguments["random_seed"] = int(np.random.SeedSequence().generate_state(1)[0])
        return arguments, recorded_seed(arguments.get("random_seed"))

    def blocks(self) -> Blocks | None:
        """Give the draws that it is computed for, block by block; None where that cannot be."""
        return None

    def computes(self) -> list[Any]:
        """Give the variables of the model that it computes for each draw."""
        names = names_of(self.arguments.get("var_names"))
        return self.all_of_them() if names is None else [self.model[name] for name in names]

    def all_of_them(self) -> list[Any]:
        """Give what it computes where nothing is asked for by name."""
        return []

    def block_arguments(self, block: Block, groups: Groups) -> dict[str, Any]:
        """Give the arguments to compute a block with, in the place of those of all draws."""
        raise NotImplementedError

    def compute_block(self, block: Block, groups: Groups, seed: Any) -> Any:
        """Compute a block.

        Parameters
        ----------
        block : Block
            The block.
        groups : mapping of str to xarray.Dataset
            Its draws, as the group that they are, and all groups beside them that count.
        seed : Any
            As `block_seed` gave it to the client.
        """
        changed = self.block_arguments(block, groups)
        if self.is_random:
            changed["random_seed"] = block.seed(seed)
        return self.tree_of(self.compute(**{**self.arguments, **changed}))

    def block_seed(self, seed: Any) -> Any:
        """Give what all blocks have their seeds from; a generator moves on, as in PyMC."""
        return seeds_of(seed, 1)[0] if self.is_random else None

    def joined(self, blocks: Blocks, scratch: Scratch | None) -> Joined:
        """Give what blocks are put into as they come, in files if they are too large."""
        return Joined(blocks.coords, scratch)

    @property
    def large(self) -> tuple[str, ...]:
        """The arguments that hold the draws: they do not travel with the others."""
        return ()

    def on_a_worker(self) -> dict[str, Any]:
        """Give what is other there: nobody looks, and a worker's process may have none itself."""
        alone = {"progressbar": False, "cores": 1}
        return {name: value for name, value in alone.items() if name in self.arguments}

    def watched_by(self, watch: Callable[[str], None]) -> dict[str, Any]:
        """Give arguments that have it told how far the function is, where it can say so."""
        return {}

    def tree_of(self, result: Any) -> DataTree:
        """Give what a cache keeps of what the function returned."""
        return to_tree(result)

    def from_kept(self, tree: DataTree) -> Any:
        """Give what the function returns, from what `tree_of` gave."""
        return from_tree(tree)

    def missing(self, tree: DataTree) -> str | None:
        """Say what a result lacks: some functions return what they have when interrupted."""
        return "not all of it was computed" if self._interrupted else None

    def given(self, result: Any) -> Any:
        """Give what the caller gets, from what `run` gave or a cache kept."""
        return result if self.why_not() else self.from_kept(result)


def _arguments(
    function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Give all arguments of a call by name, defaults too, and those that have no names."""
    signature = inspect.signature(function.own)
    # a lack of arguments is the function's own to tell
    given = signature.bind_partial(*args, **kwargs).arguments
    arguments: dict[str, Any] = {}
    nameless: tuple[Any, ...] = ()
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            nameless = given.get(name, ())
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(given.get(name, {}))
        elif name in given or parameter.default is not inspect.Parameter.empty:
            arguments[name] = given.get(name, parameter.default)
    return arguments, nameless
