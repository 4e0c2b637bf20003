"""Models that a worker process keeps with all that was compiled for them.

Compiling takes seconds, drawing milliseconds: what is compiled depends on the model alone, so a
second run, with another seed, more draws or other settings of the sampler, finds it here. PyMC
compiles through a few functions; while it prepares a run, those that a model keeps answer.
"""

from __future__ import annotations

import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dask.config
import numpy as np
import pymc as pm
from pymc.backends.ndarray import NDArray
from pymc.initial_point import make_initial_point_fn
from pytensor.graph.basic import Variable

from cloudposterior.samplers.protocol import Run
from cloudposterior.samplers.pymc import assigns_by_structure
from cloudposterior.shipping import unpack_model

__all__ = ["KeptModel", "by_value", "keep_model", "kept_models", "remember", "shapes_of"]

_RUNS_PER_MODEL = 16
_FUNCTIONS_PER_MODEL = 64
_DATA_PER_MODEL = 2


class KeptModel:
    """A model in this process, and what was compiled for it.

    Parameters
    ----------
    model : pymc.Model
        The model; it is this object's own from now on.
    token : str
        The token of the model with its data.

    Attributes
    ----------
    token : str
        The token of the model with the data that it has now.
    lock : threading.RLock
        Held by whoever runs its functions: none of them can run twice at once.
    """

    def __init__(self, model: pm.Model, token: str) -> None:
        self.model = model
        self.lock = threading.RLock()
        self.token = token
        self._compiled: OrderedDict[Hashable, Any] = OrderedDict()
        self._runs: OrderedDict[str, Any] = OrderedDict()
        self._data = OrderedDict({token: _data_of(model)})
        compile_gradient = model.logp_dlogp_function
        model.logp_dlogp_function = lambda *a, **k: self._gradient(compile_gradient, *a, **k)
        model.initial_point = self._initial_point

    def use_data(self, run: Run, packed: bytes) -> None:
        """Put the data of a run into the model; nothing is compiled again for that."""
        if self.token == run.model:
            return
        data = self._data.get(run.model) or _data_of(unpack_model(packed))
        for name, value in data.items():
            self.model[name].set_value(value)
        remember(self._data, run.model, data, _DATA_PER_MODEL)
        self.token = run.model

    @property
    def data(self) -> dict[str, Any]:
        """The values of the model's `pymc.Data` by name."""
        return self._data[self.token]

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let others use the model for a while; the caller holds it once."""
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()

    def is_prepared(self, run: Run) -> bool:
        """Tell whether there is nothing to compile any more for a run; asked without the lock."""
        return run.key in self._runs

    def prepared(self, run: Run, prepare: Callable[[], Any]) -> Any:
        """Give what was prepared for a run, which its chains share."""
        prepared = self._runs.get(run.key) or prepare()
        remember(self._runs, run.key, prepared, _RUNS_PER_MODEL)
        return prepared

    def once(self, key: Hashable, compile_it: Callable[[], Any]) -> Any:
        """Give what was compiled under a key, or compile it."""
        value = self._compiled[key] if key in self._compiled else compile_it()
        remember(self._compiled, key, value, _FUNCTIONS_PER_MODEL)
        return value

    def steps_once(self, assign: Callable[[], Any]) -> Any:
        """Give the steps that PyMC assigned to the model with the data that it has, or ask it."""
        return self.once("steps" if assigns_by_structure(self.model) else self.token, assign)

    def _gradient(self, compile_it: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        point = kwargs.pop("initial_point", None)
        if args or kwargs.get("grad_vars") is not None:
            return compile_it(*args, initial_point=point, **kwargs)
        point = self._initial_point(0) if point is None else point
        value = by_value(kwargs)
        if value is None:
            return compile_it(initial_point=point, **kwargs)
        key = ("gradient", value, shapes_of(point))
        return self.once(key, lambda: _trusting(compile_it(initial_point=point, **kwargs)))

    def _initial_point(self, random_seed: Any = None) -> dict[str, Any]:
        point: dict[str, Any] = pm.model.core.Point(
            self.initial_point_function(None, None)(random_seed), model=self.model
        )
        return point

    def initial_point_function(self, overrides: Any, jitter: Any) -> Callable[[Any], Any]:
        """Give PyMC's function from a seed to an initial point."""

        def compile_it() -> Callable[[Any], Any]:
            function: Callable[[Any], Any] = make_initial_point_fn(
                model=self.model, overrides=overrides, jitter_rvs=jitter, return_transformed=True
            )
            return function

        values = by_value(overrides)
        if values is None:
            return compile_it()
        names = tuple(sorted(str(rv.name) for rv in jitter or ()))
        function: Callable[[Any], Any] = self.once(("initial point", values, names), compile_it)
        return function

    def recorder(self, variables: Any, point: dict[str, Any]) -> NDArray:
        """Give a trace of PyMC's that computes what is recorded of a point."""
        names = None if variables is None else tuple(str(v.name) for v in variables)
        trace: NDArray = self.once(
            ("recorder", names, shapes_of(point)),
            lambda: NDArray(model=self.model, vars=variables, test_point=point),
        )
        return trace


def _trusting(gradient: Any) -> Any:
    """Have a gradient take its input as it comes; checking it costs a fifth of a NUTS draw.

    PyMC 6 asks for this itself, but of an object that does not hand it on. What comes is a vector
    that PyMC made; only where it has another type than the function takes is there something to do.
    """
    function = gradient._pytensor_function
    if gradient._raveled_inputs and all(v.dtype == gradient.dtype for v in gradient._grad_vars):
        function.trust_input = True
    return gradient


def shapes_of(point: Mapping[str, Any]) -> Hashable:
    """Give the shapes within a point, which may depend on a value of `pymc.Data`."""
    return tuple((name, np.shape(value)) for name, value in sorted(point.items()))


def _data_of(model: pm.Model) -> dict[str, Any]:
    return {v.name: v.get_value() for v in model.data_vars if hasattr(v, "set_value")}


def remember(values: OrderedDict[Any, Any], key: Hashable, value: Any, most: int) -> None:
    """Put a value last, and those that were not asked for longest out."""
    values[key] = value
    values.move_to_end(key)
    while len(values) > most:
        values.popitem(last=False)


def by_value(named: Any) -> bytes | None:
    """Give what arguments are by value, to tell whether two are alike; None where nobody can say.

    Parameters
    ----------
    named : mapping or None
        Values by name, or by the variable that bears the name.
    """
    if not named:
        return b""
    try:
        texts = {k if isinstance(k, str) else k.name: v for k, v in named.items()}
        if any(isinstance(value, Variable) for value in texts.values()):
            return None
        return pickle.dumps([(name, pickle.dumps(texts[name])) for name in sorted(texts)])
    except (pickle.PicklingError, TypeError, AttributeError, NotImplementedError):
        return None


_Kind = tuple[str, frozenset[tuple[str, str]]]
"""A structure, and the settings that PyTensor compiles it with."""

_kept: OrderedDict[_Kind, KeptModel] = OrderedDict()
_lock = threading.Lock()


def keep_model(run: Run, packed: bytes) -> KeptModel:
    """Give this process's copy of a model, unpacked the first time.

    The ones used last are kept, as many as the setting ``cloudposterior.cluster.kept-models`` says.

    Parameters
    ----------
    run : Run
        Names the model.
    packed : bytes
        The model.
    """
    kind = (run.structure, frozenset(run.settings.items()))
    with _lock:
        kept = _kept.get(kind) or KeptModel(unpack_model(packed), run.model)
        most = max(1, int(dask.config.get("cloudposterior.cluster.kept-models")))
        remember(_kept, kind, kept, most)
    return kept


def kept_models() -> list[str]:
    """List the structures that this process keeps, the one used last at the end."""
    with _lock:
        return [structure for structure, _ in _kept]
