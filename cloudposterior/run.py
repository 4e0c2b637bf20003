"""The one path of a call: token, cache, run, cache."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from xarray import DataTree

from cloudposterior.cache import Cache, Entry, Record
from cloudposterior.errors import CacheWarning, TokenError, TokenWarning, warn
from cloudposterior.explain import near_miss
from cloudposterior.operations.request import Request
from cloudposterior.operations.sample import SampleCall
from cloudposterior.operations.seed import seed_attribute
from cloudposterior.posterior import from_tree, is_posterior, to_tree

__all__ = ["fulfil"]


def fulfil(call: SampleCall, cache: Cache | None, *, overwrite: bool) -> Any:
    """Answer a call from the cache, or run it and keep what it gives.

    Parameters
    ----------
    call : SampleCall
        The call.
    cache : Cache or None
        Where results are kept; None runs the call and keeps nothing.
    overwrite : bool
        Run the call in any case, and replace the entry.

    Returns
    -------
    xarray.DataTree or arviz.InferenceData
        As the call returns it without this package; the caller owns it.
    """
    if cache is None:
        return _run(call)[0]
    reason = call.why_not()
    if reason is not None:
        return _run_uncached(call, reason)
    request: Request | None = None
    found: tuple[DataTree, Entry] | None = None
    try:
        for request in call.requests():
            found = None if overwrite else _look_up(cache, request)
            if found is not None:
                break
    except TokenError as error:
        return _run_uncached(call, str(error))
    except Exception as error:  # noqa: BLE001  (a user's object may raise anything when it is read)
        return _run_uncached(call, f"no key could be made ({_named(error)})")
    if found is not None:
        _say(call, _hit_line(found[1]))
        return from_tree(found[0])
    assert request is not None
    if not overwrite:
        with _never_in_the_way("explaining the miss"):
            _say(call, near_miss(cache, request))
    return _run_and_keep(call, cache, request)


def _run_uncached(call: SampleCall, reason: str) -> Any:
    warn(TokenWarning, f"this call is not cached, and runs each time: {reason}")
    return _run(call)[0]


def _look_up(cache: Cache, request: Request) -> tuple[DataTree, Entry] | None:
    with _never_in_the_way(f"reading {request.label!r} of {request.model_name!r}"):
        return cache.get(request.token, model=request.model_name, label=request.label)
    return None


@dataclass(frozen=True)
class _Made:
    """When a result was made, how long that took in seconds, and the seed that repeats it."""

    created: str
    elapsed_s: float
    random_seed: Any


def _run(call: SampleCall) -> tuple[Any, _Made]:
    started = time.perf_counter()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    result, seed = call.run()
    made = _Made(created, time.perf_counter() - started, seed)
    if is_posterior(result):
        result.attrs.update(
            cloudposterior_random_seed=seed_attribute(seed),
            cloudposterior_created=made.created,
            cloudposterior_elapsed_s=made.elapsed_s,
        )
    return result, made


def _run_and_keep(call: SampleCall, cache: Cache, request: Request) -> Any:
    result, made = _run(call)
    if not is_posterior(result):
        return result
    tree = to_tree(result)
    lack = call.missing(tree)
    if lack is not None:
        _tell(f"sampling was interrupted ({lack}): what there is is returned, and not cached")
        return result
    result.attrs["cloudposterior_token"] = request.token
    try:
        cache.put(to_tree(result), _record(request, made))
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (a posterior outranks its copy)
        _tell(f"the posterior is returned, but could not be saved: {_named(error)}")
    return result


def _tell(message: str) -> None:
    """Warn of what came after sampling; no filter of warnings may cost the posterior."""
    try:
        warn(CacheWarning, message)
    except CacheWarning:
        print(f"cloudposterior: {message}", file=sys.stderr)


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


def _say(call: SampleCall, line: str | None) -> None:
    if line and not call.quiet:
        # a terminal that cannot show a name shows its code instead
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding))
