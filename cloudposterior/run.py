"""The one path of a call: token, cache, run here or on a cluster, cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from xarray import DataTree

from cloudposterior.cache import Cache, Entry, Record
from cloudposterior.callbacks import Telling
from cloudposterior.config import stays_on_disk
from cloudposterior.errors import CacheWarning, DisplayWarning, TokenError, TokenWarning, tell, warn
from cloudposterior.explanation import near_miss
from cloudposterior.operations.call import Call
from cloudposterior.operations.request import Request
from cloudposterior.operations.seed import seed_attribute
from cloudposterior.posterior import is_posterior, to_tree
from cloudposterior.progress.display import say
from cloudposterior.progress.table import Table

__all__ = [
    "STATES",
    "Answered",
    "Asked",
    "Here",
    "Place",
    "Running",
    "answer",
    "fulfil",
    "keep_result",
    "look_up",
    "say_hit",
]


STATES = "cloudposterior_states"
"""The group of a cached result that says where its chains ended; no caller gets to see it."""


class Running(Protocol):
    """A call that runs somewhere."""

    def run(self, request: Request | None, cache: Cache | None, *, fresh: bool) -> tuple[Any, Any]:
        """Run the call.

        Parameters
        ----------
        request : Request or None
            Its request; None where it has no key, or nobody asked for one.
        cache : Cache or None
            Where parts of a result may be kept.
        fresh : bool
            Take nothing from an earlier run of the same request.

        Returns
        -------
        result
            What the call returns.
        seed
            The seed that repeats it.
        """
        ...

    def phase(self, name: str, detail: str = "") -> None:
        """Show what is being done beside the sampling."""
        ...

    def states(self) -> DataTree | None:
        """Give where the chains ended, for a longer run; None where none could go on from there."""
        ...

    def keeps(self) -> bool:
        """Tell whether draws of a run that was cut short are kept, for the same call to go on."""
        ...

    def forget(self, request: Request, cache: Cache) -> None:
        """Discard what is kept of runs of a request that failed: its result was saved."""
        ...


class Place(Protocol):
    """Where calls run."""

    @property
    def progress(self) -> bool:
        """Whether it is shown how calls stand."""
        ...

    def open(self, call: Call) -> AbstractContextManager[Running]:
        """Make ready for a call, for as long as it runs and its result is saved."""
        ...

    def heard_by(self, listener: Callable[[Table], None] | None) -> Place:
        """Give the place that tells somebody how a call stands, where it knows that."""
        ...


@dataclass(frozen=True)
class Here:
    """Runs calls in the process itself, and in those that PyMC starts from it.

    Attributes
    ----------
    progress : bool
        Whether a cached result is told; what else is shown is PyMC's.
    """

    progress: bool = True

    @contextmanager
    def open(self, call: Call) -> Iterator[Running]:
        """Do nothing before and after."""
        yield _RunHere(call)

    def heard_by(self, listener: Callable[[Table], None] | None) -> Here:
        """Give the same: how a call stands is known to PyMC alone."""
        return self


@dataclass(frozen=True)
class _RunHere:
    call: Call

    def run(self, request: Request | None, cache: Cache | None, *, fresh: bool) -> tuple[Any, Any]:
        """Run the call as PyMC does."""
        return self.call.run()

    def phase(self, name: str, detail: str = "") -> None:
        """Do nothing: PyMC has shown what it did."""

    def states(self) -> DataTree | None:
        """Give none: PyMC forgets where its chains ended."""
        return None

    def keeps(self) -> bool:
        """Tell that none are."""
        return False

    def forget(self, request: Request, cache: Cache) -> None:
        """Do nothing: no part of a run is kept."""


def fulfil(
    call: Call,
    cache: Cache | None,
    place: Place,
    *,
    overwrite: bool,
    callbacks: tuple[Any, ...] = (),
) -> Any:
    """Answer a call from the cache, or run it and keep what it gives.

    Parameters
    ----------
    call : Call
        The call.
    cache : Cache or None
        Where results are kept; None runs the call and keeps nothing.
    place : Place
        Where it runs.
    overwrite : bool
        Run the call in any case, and replace the entry.
    callbacks : tuple, optional
        Who is told of it.

    Returns
    -------
    xarray.DataTree or arviz.InferenceData
        As the call returns it without this package; the caller owns it.
    """
    telling = Telling(callbacks, call)
    with telling.errors():
        place = place.heard_by(telling.listener)
        result = _fulfilled(call, cache, place, overwrite=overwrite, telling=telling)
    telling.finish(result)
    return result


def _fulfilled(
    call: Call, cache: Cache | None, place: Place, *, overwrite: bool, telling: Telling
) -> Any:
    if cache is None:
        telling.start()
        return _run_alone(call, place, fresh=overwrite)
    asked = look_up(call, cache, overwrite=overwrite)
    telling.start(from_cache=asked.found is not None)
    if asked.request is None:
        return _run_uncached(call, place, asked.why_not)
    if asked.found is not None:
        say_hit(call, asked.found[1] if place.progress else None)
        call.skip()
        return call.given(asked.found[0])
    if not overwrite:
        with _never_in_the_way("explaining the miss"):
            _say(call, near_miss(cache, asked.request))
    answered = _run_and_keep(call, place, cache, asked.request, fresh=overwrite)
    return call.given(_as_kept(answered, cache, asked.request))


@dataclass(frozen=True)
class Asked:
    """What a cache knows of a call.

    Attributes
    ----------
    request : Request or None
        Its request; None where it has no key.
    found : tuple of xarray.DataTree and Entry, or None
        Its result; None where there is none.
    why_not : str
        Why it has no key.
    """

    request: Request | None = None
    found: tuple[DataTree, Entry] | None = None
    why_not: str = ""


def look_up(call: Call, cache: Cache | None, *, overwrite: bool) -> Asked:
    """Look a call up.

    Parameters
    ----------
    call : Call
        The call.
    cache : Cache or None
        The cache; None finds nothing.
    overwrite : bool
        Find nothing.
    """
    reason = call.why_not()
    if reason is not None:
        return Asked(why_not=reason)
    request: Request | None = None
    found: tuple[DataTree, Entry] | None = None
    try:
        for request in call.requests():
            found = None if overwrite or cache is None else _look_up(cache, request)
            if found is not None:
                break
    except TokenError as error:
        return Asked(why_not=str(error))
    except Exception as error:  # noqa: BLE001  (a user's object may raise anything when it is read)
        return Asked(why_not=f"no key could be made ({_named(error)})")
    return Asked(request, found)


@dataclass(frozen=True)
class Answered:
    """What came of a call.

    Attributes
    ----------
    result : xarray.DataTree, arviz.InferenceData or pymc.backends.base.MultiTrace
        What the call returns.
    record : Record or None
        Under which it can be kept; None where it is not whole.
    is_kept : bool
        Whether the cache has it.
    states : xarray.DataTree or None
        Where its chains ended.
    """

    result: Any
    record: Record | None = None
    is_kept: bool = False
    states: DataTree | None = None


def answer(call: Call, cache: Cache, place: Place, request: Request) -> Answered:
    """Answer a call whose request somebody else has made.

    Parameters
    ----------
    call : Call
        The call.
    cache : Cache
        Where results are kept.
    place : Place
        Where it runs.
    request : Request
        Its request.
    """
    found = _look_up(cache, request)
    if found is not None:
        # it goes to another process, which may not see the cache
        return Answered(
            call.given(found[0].load(scheduler="threads")), found[1].record, is_kept=True
        )
    return _run_and_keep(call, place, cache, request, fresh=False)


def _as_kept(answered: Answered, cache: Cache, request: Request) -> Any:
    """Give what came of a call; what is to stay on disk, as a cache there gives it."""
    is_on_disk = answered.is_kept and hasattr(cache, "scratch")
    if is_on_disk and stays_on_disk(to_tree(answered.result).nbytes):
        found = _look_up(cache, request)
        # another process may have put one of its own there meanwhile
        if found is not None and _is_of(found[1].record, answered.record):
            return found[0]
    return answered.result


def _is_of(there: Record, ours: Record | None) -> bool:
    return ours is not None and (there.created, there.elapsed_s) == (ours.created, ours.elapsed_s)


def _run_uncached(call: Call, place: Place, reason: str) -> Any:
    warn(TokenWarning, f"this call is not cached, and runs each time: {reason}")
    return _run_alone(call, place, fresh=True)


def _look_up(cache: Cache, request: Request) -> tuple[DataTree, Entry] | None:
    with _never_in_the_way(f"reading {request.label!r} of {request.model_name!r}"):
        found = cache.get(request.token, model=request.model_name, label=request.label)
        if found is not None and STATES in found[0].children:
            del found[0][STATES]
        return found
    return None


def _with_states(tree: DataTree, states: DataTree | None) -> DataTree:
    """Put beside a result where its chains ended."""
    if states is None:
        return tree
    groups = {**tree.children, STATES: states}
    return DataTree(dataset=tree.to_dataset(), children={k: v.copy() for k, v in groups.items()})


@dataclass(frozen=True)
class _Made:
    """When a result was made, how long that took in seconds, and the seed that repeats it."""

    created: str
    elapsed_s: float
    random_seed: Any


def _run_alone(call: Call, place: Place, *, fresh: bool) -> Any:
    with place.open(call) as running:
        return call.given(_run(running, None, None, fresh=fresh)[0])


def _run(
    running: Running, request: Request | None, cache: Cache | None, *, fresh: bool
) -> tuple[Any, _Made]:
    started = time.perf_counter()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    result, seed = running.run(request, cache, fresh=fresh)
    made = _Made(created, time.perf_counter() - started, seed)
    if is_posterior(result):
        result.attrs.update(
            cloudposterior_random_seed=seed_attribute(seed),
            cloudposterior_created=made.created,
            cloudposterior_elapsed_s=made.elapsed_s,
        )
    return result, made


def _run_and_keep(
    call: Call, place: Place, cache: Cache, request: Request, *, fresh: bool
) -> Answered:
    with place.open(call) as running:
        result, made = _run(running, request, cache, fresh=fresh)
        if not is_posterior(result) or not _is_whole(call, result, keeps=running.keeps()):
            return Answered(result)
        running.phase("saving")
        record = _record(request, made)
        states = running.states()
        is_kept = keep_result(cache, result, record, states)
        if is_kept:
            running.forget(request, cache)
    return Answered(result, record, is_kept, states)


def _is_whole(call: Call, result: Any, *, keeps: bool) -> bool:
    lack = call.missing(to_tree(result))
    if lack is not None:
        # all that is said of it, in one place
        more = " as a result; what the same call can go on from is kept, and it draws only the rest"
        tell(
            CacheWarning,
            f"sampling was interrupted ({lack}): what there is is returned, and not cached"
            f"{more if keeps else ''}",
        )
    return lack is None


def keep_result(cache: Cache, result: Any, record: Record, states: DataTree | None = None) -> bool:
    """Keep a result in a cache; say whether that went well, and warn where it did not.

    Parameters
    ----------
    cache : Cache
        The cache.
    result : xarray.DataTree or arviz.InferenceData
        The result.
    record : Record
        Under which it is kept.
    states : xarray.DataTree, optional
        Where its chains ended.
    """
    result.attrs["cloudposterior_token"] = record.token
    try:
        cache.put(_with_states(to_tree(result), states), record)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (a posterior outranks its copy)
        tell(CacheWarning, f"the posterior is returned, but could not be saved: {_named(error)}")
        return False
    return True


def _record(request: Request, made: _Made) -> Record:
    return Record(
        token=request.token,
        model=request.model_name,
        label=request.label,
        manifest=request.manifest(),
        versions=dict(request.versions),
        created=made.created,
        elapsed_s=made.elapsed_s,
        random_seed=made.random_seed,
    )


@contextmanager
def _never_in_the_way(doing: str) -> Iterator[None]:
    """Turn whatever goes wrong beside the run into one warning."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (whatever it is, it is said)
        warn(CacheWarning, f"{doing} failed: {_named(error)}")


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _hit_line(entry: Entry) -> str:
    where = f", {entry.path}" if entry.path is not None else ""
    return (
        f"cached result: {entry.record.model}, {entry.record.label}, "
        f"sampled {entry.record.created}{where}"
    )


def say_hit(call: Call, entry: Entry | None) -> None:
    """Say that a result is a cached one; of None, nothing."""
    _say(call, None if entry is None else _hit_line(entry))


def _say(call: Call, line: str | None) -> None:
    if line and not call.quiet:
        try:
            say(line)
        except Exception as error:  # noqa: BLE001  (a result outranks what is said of it)
            tell(DisplayWarning, f"{line} (which could not be shown: {_named(error)})")
