"""A run that nobody has to wait for: a worker drives it, and keeps its result for whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cloudpickle
from xarray import DataTree

from cloudposterior.cache import Record
from cloudposterior.cluster import keeping
from cloudposterior.cluster.parcel import Parcel
from cloudposterior.cluster.place import OnCluster
from cloudposterior.cluster.shelf import Shelf
from cloudposterior.cluster.versions import check_versions
from cloudposterior.config import settings_of_client
from cloudposterior.errors import ClusterError
from cloudposterior.run import answer, keep_result
from cloudposterior.samplers.surroundings import Said, said_kept

if TYPE_CHECKING:
    from distributed import Client

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
    kept_in : str
        The cache that keeps it already, in words; empty where none does.
    states : xarray.DataTree or None
        Where its chains ended, for a cache that keeps it later.
    """

    result: Any
    record: Record | None
    said: tuple[Said, ...] = ()
    kept_in: str = ""
    states: DataTree | None = None


def drive(packed: bytes) -> Answer:
    """Drive a run from a worker.

    The thread of the worker is given back: chains need it.

    Parameters
    ----------
    packed : bytes
        The call, as `Parcel.packed` gives it.
    """
    from distributed import get_client, get_worker, secede

    worker, client = get_worker(), get_client()
    own, key = str(worker.address), str(worker.get_current_task())
    secede()
    parcel: Parcel = cloudpickle.loads(packed)
    shelf = Shelf(client, parcel.run, key, own)
    with settings_of_client(parcel.settings), _ending(client, parcel.run, key):
        check_versions(parcel.packages, own)
        left = shelf.answer()
        if left is not None:
            return left  # type: ignore[no-any-return]
        place = OnCluster(client, parcel.keep_chains, submitted=key)
        found = _answer(parcel, place, shelf)
        if not found.kept_in:
            shelf.put_answer(found)
        return found


def _answer(parcel: Parcel, place: OnCluster, shelf: Shelf) -> Answer:
    said: list[Said] = []
    # what a cache has of the request is an earlier run's
    cache = shelf if parcel.cache is None or parcel.is_fresh else parcel.cache
    with said_kept(said):
        found = answer(parcel.call(), cache, place, parcel.request())
        record, is_kept = found.record, found.is_kept and cache is not shelf
        if record is not None and parcel.is_fresh:
            record = replace(record, token=parcel.token)
            is_kept = parcel.cache is not None and keep_result(
                parcel.cache, found.result, record, found.states
            )
    kept_in = repr(parcel.cache) if is_kept else ""
    return Answer(found.result, record, tuple(said), kept_in, found.states)


@contextmanager
def _ending(client: Client, run: str, driver: str) -> Iterator[None]:
    """Leave of a run what somebody may ask for, however it ends."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        # a task that raises one takes its worker with it
        raise ClusterError(f"run {run} ended: {error}") from None
    finally:
        current = keeping.key_of(client, run, keeping.RUN)
        if current == driver:
            keeping.keep_on(client, run)
        elif not current:
            # it was cancelled, and nobody will ask for what it left
            keeping.let_go(client, run)
