"""`pymc.sample` as an operation: its arguments resolved, its request, its run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np
import pymc as pm
from xarray import DataTree

from cloudposterior.identity.model import components, model_walk, tokens_of
from cloudposterior.identity.walk import Walk
from cloudposterior.operations.options import option, plain, settings_for, versions_of
from cloudposterior.operations.request import Request, make_request
from cloudposterior.operations.seed import recorded_seed, seed_value
from cloudposterior.operations.until import Target
from cloudposterior.posterior import from_tree
from cloudposterior.samplers import pymc as sampler_pymc
from cloudposterior.samplers import steps
from cloudposterior.samplers.pymc_chains import arguments_of_chains
from cloudposterior.samplers.whole_chains import arguments_of_whole_chains

__all__ = ["REACHED", "SampleCall"]

# What cannot change a draw: how it looks, and where and how fast it runs.
_NOT_IN_KEY = {
    "model",
    "progressbar",
    "progressbar_theme",
    "quiet",
    "cores",
    "mp_ctx",
    "blas_cores",
    "callback",
    "compute_convergence_checks",
    # not cached at all where they differ from the default (see `why_not`)
    "trace",
    "return_inferencedata",
    # resolved, and in the key under the name `sampler`
    "nuts_sampler",
}
_DEFAULT_TARGET_ACCEPT = 0.8

REACHED = "cloudposterior_until"
"""The attribute of a result that was ended by its target: what that was."""

assert steps is not None  # imported for its rules


class SampleCall:
    """One call of `pymc.sample` on one model.

    Parameters
    ----------
    model : pymc.Model
        The model.
    args, kwargs
        What `pymc.sample` is called with.
    on_cluster : bool, default False
        Whether a cluster runs it, which has settings of its own.
    until : Target, optional
        What ends it before its last draw.

    Raises
    ------
    TypeError
        As `pymc.sample` raises it for arguments it does not know.
    """

    name = "sample"

    def __init__(
        self,
        model: pm.Model,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        on_cluster: bool = False,
        until: Target | None = None,
    ) -> None:
        self.model = model
        self._on_cluster = on_cluster
        self.until = until
        signature = inspect.signature(sampler_pymc.SAMPLE)
        bound = signature.bind(*args, **{**kwargs, "model": model})
        bound.apply_defaults()
        self.extra: dict[str, Any] = dict(bound.arguments.pop("kwargs", {}))
        self.arguments: dict[str, Any] = dict(bound.arguments)
        self._resolve()

    def _resolve(self) -> None:
        """Put the values in that PyMC would, so that equal requests are equal."""
        call = self.arguments
        if call["chains"] is None:
            call["chains"] = sampler_pymc.default_chains(call["cores"])
        if not sampler_pymc.PREFERS_NUTPIE and call["nuts_sampler"] is None:
            call["nuts_sampler"] = "pymc"

    @property
    def chains(self) -> int:
        """How many chains there will be."""
        return int(self.arguments["chains"])

    @property
    def seed(self) -> Any:
        """The seed that was given; None where there is none."""
        return self.arguments["random_seed"]

    @property
    def settings(self) -> dict[str, str]:
        """The settings of PyTensor that it runs with."""
        return settings_for(on_cluster=self._on_cluster)

    def arguments_of_chains(self, sampler: str) -> dict[str, Any]:
        """Select what the chains of this call depend on, and a worker has to know."""
        select = arguments_of_chains if sampler == "pymc" else arguments_of_whole_chains
        return {**select(self.arguments), "kwargs": self.extra}

    def model_tokens(self) -> tuple[str, str]:
        """Give the tokens of the model with and without the values of its `pymc.Data`."""
        return tokens_of(self.model)

    @property
    def quiet(self) -> bool:
        """Whether the caller asked for no messages."""
        return bool(self.arguments["quiet"])

    def why_not(self) -> str | None:
        """Say why the result of this call cannot be cached; None where it can."""
        if not self.arguments["return_inferencedata"]:
            return "return_inferencedata=False gives a MultiTrace, which the cache cannot hold"
        if self.arguments["trace"] is not None:
            return "trace= keeps the draws in a place of your own"
        return None

    def requests(self) -> Iterator[Request]:
        """Give the requests that answer this call; the last one is the one to run.

        PyMC 6 chooses nutpie only after it has differentiated the model, which takes longer than
        reading an entry. An entry that nutpie made of this very request proves what the choice
        would be, so it is looked for first.
        """
        walk = model_walk(self.model)
        parts = components(self.model, walk)
        asked = self.arguments["nuts_sampler"]
        undecided = asked is None and sampler_pymc.may_use_nutpie(self.model, self.arguments)
        if undecided:
            yield self._request("nutpie", walk, parts)
            if sampler_pymc.uses_only_nuts(self.model):
                return
        yield self._request(asked or "pymc", walk, parts)

    def _request(self, sampler: str, walk: Walk, parts: list[Any]) -> Request:
        options = tuple(option(name, v, walk) for name, v in self._options(sampler).items())
        return make_request(
            self, parts, options, versions_of(_packages(sampler)), self._label(sampler)
        )

    def _tune(self, sampler: str) -> int | None:
        tune: int | None = self.arguments["tune"]
        if tune is None and sampler == "pymc":
            tune = sampler_pymc.default_tune(self.arguments["step"])
        return tune

    def _options(self, sampler: str) -> dict[str, Any]:
        call = {k: v for k, v in self.arguments.items() if k not in _NOT_IN_KEY}
        call["tune"] = self._tune(sampler)
        call["random_seed"] = seed_value(call["random_seed"])
        call["sampler"] = sampler
        call["settings"] = self.settings
        if self.until is not None:
            call["until"] = self.until.option
        if self._on_cluster and sampler != "pymc":
            # drawn in one go by plain PyMC, whose chains share a stream; on a cluster each has one
            call["streams"] = "one a chain"
        extra = {k: dict(v) if type(v) is dict else v for k, v in self.extra.items()}
        for name in ("idata_kwargs", "compile_kwargs", "nuts_sampler_kwargs"):
            call[name] = dict(call.get(name) or {})
        _use_one_name(call, extra)
        call["initvals"] = _by_name(call["initvals"])
        if isinstance(call["var_names"], tuple):
            call["var_names"] = list(call["var_names"])
        return {name: plain(value) for name, value in sorted({**call, **extra}.items())}

    def _label(self, sampler: str) -> str:
        call = self.arguments
        tune = self._tune(sampler)
        words = [f"draws{call['draws']}", f"tune{'auto' if tune is None else tune}"]
        words.append(f"chains{call['chains']}")
        seed = seed_value(call["random_seed"])
        if isinstance(seed, int):
            words.append(f"seed{seed}")
        if self.until is not None:
            words.append("until")
        return "_".join(words)

    def run(self) -> tuple[Any, Any]:
        """Run the call here.

        Returns
        -------
        result
            What `pymc.sample` returns.
        seed
            The seed that repeats it.
        """
        call = dict(self.arguments)
        if call["random_seed"] is None:
            call["random_seed"] = int(np.random.SeedSequence().generate_state(1)[0])
        seed = recorded_seed(call["random_seed"])
        draws = call.pop("draws")
        # PyMC writes into the dictionaries it is given
        extra = {k: dict(v) if type(v) is dict else v for k, v in self.extra.items()}
        return sampler_pymc.SAMPLE(draws, **call, **extra), seed

    def skip(self) -> None:
        """Do nothing: a hit leaves the caller's seed as it is."""

    def given(self, result: Any) -> Any:
        """Give what the caller gets, from what PyMC returned or a cache kept."""
        return from_tree(result) if isinstance(result, DataTree) else result

    def missing(self, tree: DataTree) -> str | None:
        """Say what a result lacks; PyMC returns what it has when sampling is interrupted."""
        wanted = {"chain": int(self.arguments["chains"]), "draw": int(self.arguments["draws"])}
        group = tree.children.get("posterior")
        got = {name: 0 if group is None else group.sizes.get(name, 0) for name in wanted}
        if tree.attrs.get(REACHED):
            wanted["draw"] = got["draw"]
        if got != wanted:
            return ", ".join(f"{got[name]} of {wanted[name]} {name}s" for name in wanted)
        if group is None or not wanted["draw"]:
            return None
        # nutpie gives the draws that it did not make their place, and no value
        sampled = (group[rv.name] for rv in self.model.free_RVs if rv.name in group)
        ends = (values.isel(draw=-1) for values in sampled if values.dtype.kind == "f")
        return "a chain without its last draws" if any(e.isnull().any() for e in ends) else None


def _use_one_name(call: dict[str, Any], extra: dict[str, Any]) -> None:
    """Move what PyMC knows by two names to one of them.

    Where both are given PyMC refuses the call: both stay, so that no other request is like it.
    """
    nuts = extra["nuts"] = dict(extra.get("nuts") or {})
    if sampler_pymc.PREFERS_NUTPIE:
        # newer PyMC takes it as another name of `nuts`
        if not nuts or not call["nuts_sampler_kwargs"]:
            nuts.update(call.pop("nuts_sampler_kwargs"))
    elif "start" in extra and call["initvals"] is None:
        call["initvals"] = extra.pop("start")
    if not ("target_accept" in nuts and "target_accept" in extra):
        given = {"target_accept": _DEFAULT_TARGET_ACCEPT, **nuts, **extra}["target_accept"]
        call["target_accept"] = float(given) if isinstance(given, Real) else given
        for place in (nuts, extra):
            place.pop("target_accept", None)


def _by_name(initvals: Any) -> Any:
    """Name the variables of initial values, which may be keyed by the variables themselves."""
    if isinstance(initvals, Mapping):
        named = ((k if isinstance(k, str) else k.name, v) for k, v in initvals.items())
        return dict(sorted(named))
    if isinstance(initvals, list | tuple):
        return [_by_name(one) for one in initvals]
    return initvals


def _packages(sampler: str) -> tuple[str, ...]:
    return ("pymc", "pytensor", "numpy", *sampler_pymc.sampler_packages(sampler))
