"""What `pymc.sample` would do with a call, asked of PyMC itself before anything is sent anywhere.

PyMC checks and resolves its arguments, and warns and raises as it always does; where it would begin
to compile, it is left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pymc.sampling import mcmc
from pymc.step_methods.arraystep import PopulationArrayStepShared
from pymc.step_methods.compound import CompoundStep

from cloudposterior.samplers import pymc as sampler_pymc
from cloudposterior.samplers.compiling import COMPILING
from cloudposterior.samplers.doors import doors
from cloudposterior.samplers.kept import remember
from cloudposterior.samplers.whole_chains import where_it_compiles

__all__ = ["Resolved", "resolve"]


@dataclass(frozen=True)
class Resolved:
    """How a call would run.

    Attributes
    ----------
    sampler : {"pymc", "nutpie", "numpyro", "blackjax"}
        Who draws.
    together : bool
        Whether the chains talk to each other.
    steps : tuple of type
        The classes of the step methods: of those that were given, then of those that PyMC assigned.
    given : bool
        Whether any step method was given.
    init : str or None
        How NUTS is initialised, as it was asked for, in lower case; None where it is not, as when
        it is one of several step methods.
    """

    sampler: str
    together: bool
    steps: tuple[type, ...] = ()
    given: bool = False
    init: str | None = None


class _ReachedError(Exception):
    """PyMC is about to compile."""

    def __init__(self, sampler: str, init: Any = None) -> None:
        super().__init__(sampler)
        self.sampler = sampler
        self.init = None if init is None else str(init).lower()


_MOST_ASSIGNED = 64
_assigned: OrderedDict[str, dict[type, list[str]]] = OrderedDict()
"""The variables that PyMC assigned to each step method, by structure of the model.

It differentiates the model to find out; of many models of one structure the first is enough.
"""


def resolve(
    arguments: Mapping[str, Any], extra: Mapping[str, Any], structure: str | None = None
) -> Resolved:
    """Ask PyMC how a call would run.

    Parameters
    ----------
    arguments, extra : mapping
        The named and the other keyword arguments of `pymc.sample`. A generator among them is left
        as a run leaves it.
    structure : str, optional
        The token of the model without the values of its `pymc.Data`; None where it has none.

    Raises
    ------
    Exception
        Whatever `pymc.sample` raises for such a call before it compiles.
    """
    steps: tuple[type, ...] = ()
    given = False
    if structure is not None and not sampler_pymc.assigns_by_structure(arguments["model"]):
        structure = None

    def assign(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal steps, given
        provided, selected = _assigned_before(structure, arguments) or step(*args, **kwargs)
        if structure is not None and not provided:
            by_name = {kind: [str(v.name) for v in of] for kind, of in selected.items()}
            remember(_assigned, structure, by_name, _MOST_ASSIGNED)
        steps, given = (*_kinds(provided), *selected), bool(provided)
        return provided, selected

    def compile_it(sampler: str) -> Callable[..., Any]:
        def reached(*_: Any, **__: Any) -> Any:
            raise _ReachedError(sampler)

        return reached

    def initialise(_: Any, *, init: Any, **__: Any) -> Any:
        raise _ReachedError("pymc", init)

    def leave_pymc(step: Callable[..., Any], *args: Any, sampler: str, **kwargs: Any) -> Any:
        try:
            place, name = where_it_compiles(sampler)
        except ImportError:
            # PyMC says it in its own words
            return step(*args, sampler=sampler, **kwargs)
        with doors(place, **{name: compile_it(sampler)}):
            return step(*args, sampler=sampler, **kwargs)

    call = dict(arguments, progressbar=False)
    # PyMC writes into the dictionaries it is given
    others = {k: dict(v) if type(v) is dict else v for k, v in extra.items()}
    try:
        # where workers are threads of this process, one of them may compile just now
        with (
            COMPILING,
            doors(
                mcmc,
                assign_step_methods=assign,
                init_nuts=initialise,
                make_initial_point_fns_per_chain=compile_it("pymc"),
                _sample_external_nuts=leave_pymc,
            ),
        ):
            sampler_pymc.SAMPLE(call.pop("draws"), **call, **others)
    except _ReachedError as door:
        together = any(issubclass(kind, PopulationArrayStepShared) for kind in steps)
        return Resolved(door.sampler, together, steps, given, door.init)
    raise RuntimeError("pymc.sample came to its end without a sampler; this PyMC is not known here")


def _assigned_before(structure: str | None, arguments: Mapping[str, Any]) -> Any:
    """Give what PyMC assigned to a model of the same structure, in terms of this one."""
    known = _assigned.get(structure or "")
    if known is None or arguments["step"] is not None:
        return None
    values = {str(value.name): value for value in arguments["model"].value_vars}
    return [], {kind: [values[name] for name in names] for kind, names in known.items()}


def _kinds(steps: Any) -> list[type]:
    if isinstance(steps, CompoundStep):
        return _kinds(steps.methods)
    if isinstance(steps, list | tuple):
        return [kind for step in steps for kind in _kinds(step)]
    return [type(steps)]
