"""A run that nobody has to wait for: a worker drives it, and keeps its result for whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.config

from cloudposterior.cache import Cache, Record
from cloudposterior.cluster import keeping
from cloudposterior.cluster.keeping import RUN
from cloudposterior.cluster.parcel import Parcel
from cloudposterior.cluster.place import OnCluster
from cloudposterior.cluster.shelf import Shelf
from cloudposterior.errors import ClusterError
from cloudposterior.run import answer
from cloudposterior.samplers.surroundings import Said, said_kept
from cloudposterior.shipping import unpack_model

__all__ = ["Answer", "drive"]


@dataclass(frozen=True)
class Answer:
    """What came of a run.

    Attributes
    ----------
    result : xarray.DataTree or arviz.InferenceData
        What `pymc.sample` returns.
    record : Record or None
        Under which a cache keeps it; None where it is not whole.
    said : tuple of Said
        What PyMC logged and warned of.
    """

    result: Any
    record: Record | None
    said: tuple[Said, ...]


def drive(parcel: Parcel, model: bytes) -> Answer:
    """Drive a run from a worker.

    The thread of the worker is given back: chains need it.

    Parameters
    ----------
    parcel : Parcel
        The call.
    model : bytes
        Its model.
    """
    from distributed import get_client, get_worker, secede

    client, own = get_client(), str(get_worker().address)
    secede()
    said: list[Said] = []
    cache: Cache = parcel.cache or Shelf(client, parcel.run, own)
    try:
        with dask.config.set({"cloudposterior": dict(parcel.config)}), said_kept(said):
            place = OnCluster(client, parcel.keep_chains, submitted=parcel.run)
            call = parcel.call(unpack_model(model))
            result, record = answer(call, cache, place, parcel.request(), fresh=parcel.fresh)
    except KeyboardInterrupt as stopped:
        # in a task it would end the worker
        raise ClusterError(f"run {parcel.run} was {stopped}") from None
    finally:
        if not keeping.is_there(client, parcel.run, RUN):
            # it was cancelled, and nobody will ask for what it left
            keeping.let_go(client, parcel.run)
    return Answer(result, record, tuple(said))
