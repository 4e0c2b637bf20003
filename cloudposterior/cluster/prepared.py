"""What is settled of a call before its first draw: seed, sampler, and which draws are there."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import tokenize

from cloudposterior.cache import Cache
from cloudposterior.cluster import tasks
from cloudposterior.cluster.earlier import find_earlier
from cloudposterior.cluster.partial import Parts, parts_of
from cloudposterior.cluster.sealed import submit
from cloudposterior.cluster.versions import PACKAGES, versions_here
from cloudposterior.cluster.workers import check_workers
from cloudposterior.operations.request import Request
from cloudposterior.operations.sample import SampleCall
from cloudposterior.operations.seed import recorded_seed
from cloudposterior.samplers.longer_join import Earlier, LongerJoin
from cloudposterior.samplers.protocol import Run, Sampler, State
from cloudposterior.samplers.pymc import sampler_packages
from cloudposterior.samplers.pymc_chains import PyMCChains
from cloudposterior.samplers.pymc_join import PyMCJoin
from cloudposterior.samplers.resolve import Resolved, resolve
from cloudposterior.samplers.seeds import packed_seed
from cloudposterior.samplers.whole_chains import WholeChains
from cloudposterior.samplers.whole_join import WholeJoin
from cloudposterior.shipping import pack_arguments

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """A call that is ready to be drawn.

    Attributes
    ----------
    name : str
        What its tasks are called, e.g. ``"radon-sample"``.
    run : Run
        What its chains share.
    seed : int or None
        The seed that repeats it.
    resolved : Resolved
        Who draws, as PyMC chooses.
    sampler : Sampler
        The same for workers.
    join : PyMCJoin or WholeJoin
        Where the chains come together; it has the draws of earlier runs.
    parts : Parts
        Where draws are kept until there is a result.
    earlier : Earlier or None
        The shorter run that it goes on from.
    chosen : distributed.Future or None
        The task that chose the seed: held to the end, so that who asks for the same run meanwhile
        finds it.
    """

    name: str
    run: Run
    seed: Any
    resolved: Resolved
    sampler: Sampler
    join: Any
    parts: Parts
    earlier: Earlier | None
    chosen: Future | None = None

    @property
    def whole(self) -> list[int]:
        """The chains of which all draws are there."""
        return [chain for chain in range(self.run.chains) if self.join.is_whole(chain)]

    @property
    def missing(self) -> list[tuple[int, ...]]:
        """The chains that are to be drawn, those that talk to each other in one tuple."""
        if self.resolved.together:
            return [tuple(range(self.run.chains))]
        whole = self.whole
        return [(chain,) for chain in range(self.run.chains) if chain not in whole]

    @property
    def states(self) -> dict[int, State]:
        """Where chains go on from of which the first draws are there."""
        return {**self.join.states(), **self.parts.states}


def prepare(
    call: SampleCall, client: Client, request: Request | None, cache: Cache | None, *, fresh: bool
) -> Prepared:
    """Settle what a call leaves open.

    Parameters
    ----------
    call : SampleCall
        The call.
    client : distributed.Client
        Connected, with workers.
    request : Request or None
        Its request, from which the tasks have their keys, so that another client that makes the
        same one joins this run. None where nobody made one.
    cache : Cache or None
        Where draws are kept until there is a result, and taken from.
    fresh : bool
        Join no run that is under way, and take no draw of an earlier one.

    Raises
    ------
    ClusterError
        If the workers have no such sampler.
    ShippingError
        If an argument cannot be sent.
    """
    sent = request.token if request is not None and not fresh else uuid.uuid4().hex
    name = f"{_word(call.model.name or 'model')}-sample"
    parts = parts_of(call, request, cache)
    seed, found = (call.seed, {}) if fresh else parts.find(call.seed)
    # a generator moves on when PyMC is asked what it would do
    packed, recorded = packed_seed(seed), recorded_seed(seed)
    known = {} if seed is None else {"random_seed": seed}
    resolved = resolve({**call.arguments, **known}, call.extra, call.model_tokens()[1])
    earlier = None if fresh else find_earlier(cache, request, call, resolved, recorded)
    chosen = None
    if seed is None and earlier is not None:
        packed = recorded = earlier.random_seed
    elif seed is None:
        own = int(np.random.SeedSequence().generate_state(1)[0])
        # of several tasks of one key Dask keeps the first, and makes that again if it is lost
        chosen = submit(client, tasks.same, own, key=f"{name}-seed-{sent}", pure=False)
        packed = recorded = chosen.result()
    check_workers(client, sampler_packages(resolved.sampler))
    run = _run(call, resolved, packed, tokenize(sent, recorded))
    sampler, join = _sampler(call, resolved, earlier)
    parts.add_to(join, found)
    return Prepared(name, run, recorded, resolved, sampler, join, parts, earlier, chosen)


def _word(name: str) -> str:
    """Make a name fit for a task: Dask takes what comes before a dash for the kind of task."""
    return re.sub(r"[^\w.: ]+", "_", name)[:60] or "model"


def _run(call: SampleCall, resolved: Resolved, seed: Any, sent: str) -> Run:
    arguments = call.arguments_of_chains(resolved.sampler)
    # everything is recorded where more than the variables asked for is looked at here
    if call.arguments["callback"] is not None or call.arguments["trace"] is not None:
        arguments["var_names"] = None
    token, structure = call.model_tokens()
    return Run(
        key=tokenize(sent, arguments.get("var_names")),
        model=token,
        structure=structure,
        arguments=pack_arguments(arguments, call.model),
        seed=seed,
        chains=call.chains,
        settings=call.settings,
        versions=versions_here((*PACKAGES, *sampler_packages(resolved.sampler))),
    )


def _sampler(call: SampleCall, resolved: Resolved, earlier: Earlier | None) -> tuple[Sampler, Any]:
    if earlier is not None:
        return PyMCChains(), LongerJoin(call.model, call.arguments, earlier)
    if resolved.sampler == "pymc":
        return PyMCChains(), PyMCJoin(call.model, call.arguments)
    checks = resolved.sampler in ("numpyro", "blackjax")
    return WholeChains(resolved.sampler), WholeJoin(call.model, call.arguments, checks=checks)
