"""A call on its way to the worker that drives it: with all that depends on the client's process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import pymc as pm

from cloudposterior.cache import Cache, DiskCache
from cloudposterior.cluster.reach import workers_write_to
from cloudposterior.cluster.versions import versions_here
from cloudposterior.config import settings_here
from cloudposterior.operations.request import Request
from cloudposterior.operations.sample import SampleCall
from cloudposterior.operations.until import Target
from cloudposterior.samplers.seeds import packed_seed, unpacked_seed
from cloudposterior.shipping import pack_arguments, pack_model, unpack_arguments, unpack_model

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Parcel", "reachable"]


class _ShippedCall(SampleCall):
    """A call whose settings and tokens are those of the process that it was made in."""

    def __init__(self, model: pm.Model, parcel: Parcel, kwargs: Mapping[str, Any]) -> None:
        self._parcel = parcel
        super().__init__(model, (), kwargs, on_cluster=True, until=parcel.until)

    @property
    def settings(self) -> dict[str, str]:
        return dict(self._parcel.pytensor_settings)

    def model_tokens(self) -> tuple[str, str]:
        return self._parcel.model_tokens


@dataclass(frozen=True)
class Parcel:
    """A call of `pymc.sample` that was submitted.

    Attributes
    ----------
    run : str
        Under which it was submitted.
    model, arguments : bytes
        Of the call.
    seed : Any
        Its seed, as `packed_seed` gives it.
    pytensor_settings : mapping of str to str
        The client's settings of PyTensor.
    model_tokens : tuple of str
        The tokens of the model with and without the values of its `pymc.Data`.
    token, model_name, label, versions, manifest
        Of the request.
    packages : mapping of str to str or None
        The versions of the client, which the worker must have.
    cache : Cache or None
        One that workers can reach; None where there is none.
    keep_chains : bool
        Whether chains that are whole are returned when others fail.
    own_token : str
        What the run is known by while it lasts: `token`, but of a run that joins no other and takes
        nothing of an earlier one.
    until : Target or None
        What ends it before its last draw.
    settings : mapping
        The client's settings of this package.
    """

    run: str
    model: bytes
    arguments: bytes
    seed: Any
    pytensor_settings: Mapping[str, str]
    model_tokens: tuple[str, str]
    token: str
    model_name: str
    label: str
    versions: Mapping[str, str]
    manifest: Mapping[str, Any]
    packages: Mapping[str, str | None]
    cache: Cache | None
    keep_chains: bool
    own_token: str
    until: Target | None
    settings: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        call: SampleCall,
        request: Request,
        run: str,
        *,
        packages: tuple[str, ...],
        own_token: str,
        cache: Cache | None,
        keep_chains: bool,
    ) -> Parcel:
        """Pack a call.

        Raises
        ------
        ShippingError
            If the model or an argument cannot travel.
        """
        arguments = {k: v for k, v in call.arguments.items() if k not in ("model", "random_seed")}
        arguments.update(call.extra, progressbar=False)
        return cls(
            run=run,
            model=pack_model(call.model),
            arguments=pack_arguments(arguments, call.model),
            seed=packed_seed(call.seed),
            pytensor_settings=call.settings,
            model_tokens=call.model_tokens(),
            token=request.token,
            model_name=request.model_name,
            label=request.label,
            versions=dict(request.versions),
            manifest=request.manifest(),
            packages=versions_here(packages),
            cache=cache,
            keep_chains=keep_chains,
            own_token=own_token,
            until=call.until,
            settings=settings_here(),
        )

    def packed(self) -> bytes:
        """Write it as bytes: a pickle, to be read where one's own client sent it only."""
        data: bytes = cloudpickle.dumps(self)
        return data

    def call(self) -> SampleCall:
        """Unpack the call, on a model equal to its own."""
        model = unpack_model(self.model)
        arguments = unpack_arguments(self.arguments, model)
        return _ShippedCall(model, self, {**arguments, "random_seed": unpacked_seed(self.seed)})

    @property
    def is_fresh(self) -> bool:
        """Whether it joins no other run, and takes nothing of an earlier one."""
        return self.own_token != self.token

    def request(self) -> Request:
        """Give the request of the call, as it is known while it runs."""
        manifest = dict(self.manifest)
        return Request(self.own_token, self.model_name, self.label, self.versions, lambda: manifest)


def reachable(cache: Cache | None, client: Client) -> Cache | None:
    """Give a cache as the workers of a cluster reach it.

    Parameters
    ----------
    cache : Cache or None
        The client's.
    client : distributed.Client
        A connected, synchronous client.

    Returns
    -------
    Cache or None
        None where they do not: a directory that they do not see, memory, no cache.
    """
    # of a class derived from it, nobody knows what else it has here
    if type(cache) is DiskCache:
        root = Path(cache.root).absolute()
        return DiskCache(root) if workers_write_to(root, client) else None
    return cache if getattr(cache, "shared", False) else None
