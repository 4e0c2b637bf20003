"""A call on its way to the worker that drives it: with all that depends on the client's process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dask.config
import pymc as pm

from cloudposterior.cache import Cache
from cloudposterior.operations.request import Request
from cloudposterior.operations.sample import SampleCall
from cloudposterior.operations.until import Target
from cloudposterior.samplers.seeds import packed_seed, unpacked_seed
from cloudposterior.shipping import pack_arguments, unpack_arguments

__all__ = ["Parcel"]


class _ShippedCall(SampleCall):
    """A call whose settings and tokens are those of the process that it was made in."""

    def __init__(self, model: pm.Model, parcel: Parcel, kwargs: Mapping[str, Any]) -> None:
        self._parcel = parcel
        super().__init__(model, (), kwargs, on_cluster=True, until=parcel.until)

    @property
    def settings(self) -> dict[str, str]:
        return dict(self._parcel.settings)

    def model_tokens(self) -> tuple[str, str]:
        return self._parcel.model_tokens


@dataclass(frozen=True)
class Parcel:
    """A call of `pymc.sample`, without its model, which travels beside it.

    Attributes
    ----------
    run : str
        Under which it was submitted.
    arguments : bytes
        Of the call.
    seed : Any
        Its seed, as `packed_seed` gives it.
    settings : mapping of str to str
        The client's settings of PyTensor.
    model_tokens : tuple of str
        The tokens of the model with and without the values of its `pymc.Data`.
    token, model_name, label, versions, manifest
        Of the request.
    cache : Cache or None
        One that workers can reach; None where there is none.
    keep_chains : bool
        Whether chains that are whole are returned when others fail.
    fresh : bool
        Take nothing from an earlier run.
    until : Target or None
        What ends it before its last draw.
    config : mapping
        The client's settings under ``cloudposterior`` in `dask.config`.
    """

    run: str
    arguments: bytes
    seed: Any
    settings: Mapping[str, str]
    model_tokens: tuple[str, str]
    token: str
    model_name: str
    label: str
    versions: Mapping[str, str]
    manifest: Mapping[str, Any]
    cache: Cache | None
    keep_chains: bool
    fresh: bool
    until: Target | None
    config: Mapping[str, Any] = field(
        default_factory=lambda: dict(dask.config.get("cloudposterior"))
    )

    @classmethod
    def of(
        cls,
        call: SampleCall,
        request: Request,
        run: str,
        *,
        cache: Cache | None,
        keep_chains: bool,
        fresh: bool,
    ) -> Parcel:
        """Pack a call.

        Raises
        ------
        ShippingError
            If an argument cannot travel.
        """
        arguments = {k: v for k, v in call.arguments.items() if k not in ("model", "random_seed")}
        arguments.update(call.extra, progressbar=False)
        return cls(
            run=run,
            arguments=pack_arguments(arguments, call.model),
            seed=packed_seed(call.seed),
            settings=call.settings,
            model_tokens=call.model_tokens(),
            token=request.token,
            model_name=request.model_name,
            label=request.label,
            versions=dict(request.versions),
            manifest=request.manifest(),
            cache=cache,
            keep_chains=keep_chains,
            fresh=fresh,
            until=call.until,
        )

    def call(self, model: pm.Model) -> SampleCall:
        """Unpack the call, on a model equal to its own."""
        arguments = unpack_arguments(self.arguments, model)
        return _ShippedCall(model, self, {**arguments, "random_seed": unpacked_seed(self.seed)})

    def request(self) -> Request:
        """Give the request of the call."""
        manifest = dict(self.manifest)
        return Request(self.token, self.model_name, self.label, self.versions, lambda: manifest)
