"""How large the workers for a model must be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor
from dask.system import CPU_COUNT
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors

from cloudposterior.samplers.pymc import default_chains

__all__ = ["ClusterOptions", "cluster_options"]

GIB = 2**30

PROCESS_BYTES = 1 * GIB
"""A worker with PyMC and a compiled model. Measured: radon takes 0.45 GB with PyMC 6 and 0.57 GB
with PyMC 5, nutpie and PyMC both compiled; Numba takes more for larger models."""

COPIES_OF_DRAWS = 2
"""The draws themselves, and once more while they are sent."""

COPIES_OF_DATA = 4
"""The data as sent, in the model, in its compiled function, and a temporary of their size."""

STATISTICS_BYTES = 256
"""Sampler statistics of one draw: some twenty numbers, with room to spare."""

WORKING_SHARE = 0.6
"""Dask's workers write to disk above this share of their memory (``worker.memory.target``)."""

GIB_PER_CPU = 4
"""What cloud machines have as a rule."""


@dataclass(frozen=True)
class ClusterOptions:
    """The size of a cluster, in words of its own and in those of two makers of clusters.

    Attributes
    ----------
    n_workers : int
        Number of workers: one for each chain.
    cpus_per_worker : int
        Number of CPUs of a worker. It has one thread, and so one chain at a time.
    memory_bytes : int
        Memory of a worker, in whole GiB.
    draws_bytes : int
        Of that, what one chain's draws and tuning draws take.
    data_bytes : int
        Of that, what the model's data take.

    Examples
    --------
    >>> options = cp.ClusterOptions(n_workers=4, cpus_per_worker=1, memory_bytes=4 * 2**30)
    >>> options.coiled()["worker_memory"]
    ['4 GiB', '8 GiB']
    """

    n_workers: int
    cpus_per_worker: int
    memory_bytes: int
    draws_bytes: int = 0
    data_bytes: int = 0

    def local(self) -> dict[str, Any]:
        """Give the arguments of `distributed.LocalCluster`; no more workers than cores.

        Returns
        -------
        dict
            For ``LocalCluster(**options.local())``.
        """
        return {
            "n_workers": max(1, min(self.n_workers, CPU_COUNT // self.cpus_per_worker)),
            "threads_per_worker": 1,
            "memory_limit": _gib(self.memory_bytes),
        }

    def coiled(self) -> dict[str, Any]:
        """Give the arguments of `coiled.Cluster`.

        CPUs and memory are ranges, from what is needed to a machine that exists: Coiled takes a
        machine by both, and few have one CPU, or five GiB.

        Returns
        -------
        dict
            For ``coiled.Cluster(**options.coiled())``.
        """
        memory = self.memory_bytes // GIB
        machine = 2 ** math.ceil(math.log2(memory))
        cpus = max(2 * self.cpus_per_worker, machine // GIB_PER_CPU)
        most = max(2 * machine, GIB_PER_CPU * cpus)
        return {
            "n_workers": self.n_workers,
            "worker_cpu": [self.cpus_per_worker, cpus],
            "worker_memory": [_gib(self.memory_bytes), _gib(most * GIB)],
            # else a machine of two CPUs would be given two chains, and half the memory for each
            "worker_options": {"nthreads": 1},
        }

    def __repr__(self) -> str:
        return (
            f"ClusterOptions(n_workers={self.n_workers}, "
            f"cpus_per_worker={self.cpus_per_worker}, memory={_gib(self.memory_bytes)!r}: "
            f"{_mib(self.draws_bytes)} of draws a chain, {_mib(self.data_bytes)} of data)"
        )


def cluster_options(
    model: pm.Model,
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int | None = None,
    cpus_per_worker: int = 1,
) -> ClusterOptions:
    """Say how large a cluster must be to sample a model, from its variables and its data.

    Nothing is compiled that sampling needs; the shapes are evaluated.

    Parameters
    ----------
    model : pymc.Model
        The model.
    draws, tune : int, default 1000
        Draws of each chain, and tuning draws before them, as for `pymc.sample`.
    chains : int, optional
        Number of chains. None (the default) is what `pymc.sample` would run here.
    cpus_per_worker : int, default 1
        CPUs of each worker. A chain computes in one thread, unless its likelihood calls a
        library that has threads of its own.

    Returns
    -------
    ClusterOptions
        With ``.local()`` for `distributed.LocalCluster` and ``.coiled()`` for `coiled.Cluster`.

    Raises
    ------
    ValueError
        If a number is not positive (`tune` may be 0).

    Notes
    -----
    The memory of a worker is a process with PyMC (1 GiB), one chain's draws twice (once more
    while they are sent) and the data four times (as sent, in the model, in its compiled function,
    and a temporary), at 60% of the limit, above which Dask's workers write to disk. A draw is
    every variable that PyMC traces: the free ones, transformed and not, and the deterministics.
    What a likelihood needs beyond that for one evaluation is not known before it runs.

    Examples
    --------
    >>> options = cp.cluster_options(model, draws=2000, chains=4)
    >>> options.n_workers, options.memory_bytes // 2**30
    (4, 2)
    >>> options.local()["memory_limit"]
    '2 GiB'
    """
    chains = default_chains(None) if chains is None else chains
    _check_positive(draws=draws, chains=chains, cpus_per_worker=cpus_per_worker)
    if tune < 0:
        raise ValueError(f"tune={tune} is negative; pass 0 or more")
    draws_bytes = (draws + tune) * (_draw_bytes(model) + STATISTICS_BYTES)
    data_bytes = _data_bytes(model)
    used = PROCESS_BYTES + COPIES_OF_DRAWS * draws_bytes + COPIES_OF_DATA * data_bytes
    memory_bytes = math.ceil(used / WORKING_SHARE / GIB) * GIB
    return ClusterOptions(chains, cpus_per_worker, memory_bytes, draws_bytes, data_bytes)


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name}={number} is not positive; pass 1 or more")


def _draw_bytes(model: pm.Model) -> int:
    """Count the bytes of one draw of all that PyMC traces."""
    names = {rv.name for rv in model.free_RVs}
    transformed = [value for name, value in model.initial_point().items() if name not in names]
    total = sum(int(np.asarray(value).nbytes) for value in transformed)
    traced = [*model.free_RVs, *model.deterministics]
    for variable, shape in zip(traced, _shapes(model, traced), strict=True):
        total += math.prod(shape) * np.dtype(variable.type.dtype).itemsize
    return total


def _shapes(model: pm.Model, variables: list[Any]) -> list[tuple[int, ...]]:
    """Find shapes: as the types have them, else by evaluating, as PyMC does for its own."""
    known = {v: v.type.shape for v in variables if None not in v.type.shape}
    unknown = [v for v in variables if v not in known]
    if unknown:
        evaluate = pytensor.function(
            inputs=[],
            outputs=[variable.shape for variable in unknown],
            givens=[(rv, model.rvs_to_values[rv]) for rv in model.observed_RVs],
            mode="FAST_COMPILE",
            on_unused_input="ignore",
        )
        shapes = [tuple(int(n) for n in shape) for shape in evaluate()]
        known.update(zip(unknown, shapes, strict=True))
    return [known[variable] for variable in variables]


def _data_bytes(model: pm.Model) -> int:
    """Count the bytes of the arrays that a model's graphs hold, each once."""
    return sum({id(array): array.nbytes for array in _arrays(model)}.values())


def _arrays(model: pm.Model) -> Iterator[np.ndarray]:
    graphs: list[Variable] = [
        *model.basic_RVs,
        *model.deterministics,
        *model.potentials,
        *model.rvs_to_values.values(),
        *model.data_vars,
    ]
    for variable in ancestors(graphs):
        if isinstance(variable, Constant):
            value = variable.data
        elif isinstance(variable, SharedVariable):
            value = variable.get_value(borrow=True)
        else:
            continue
        # of a sparse matrix, its values
        array = getattr(value, "data", None) if hasattr(value, "nnz") else value
        if isinstance(array, np.ndarray):
            yield array


def _gib(number: int) -> str:
    return f"{number // GIB} GiB"


def _mib(number: int) -> str:
    return f"{number / 2**20:.1f} MiB"
