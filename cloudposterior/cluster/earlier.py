"""A run of fewer draws, or fewer chains, whose result is kept: a longer one goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xarray import DataTree

from cloudposterior.cache import Cache, Entry
from cloudposterior.cache.protocol import near_entries
from cloudposterior.errors import CacheWarning, tell
from cloudposterior.operations.request import Request
from cloudposterior.operations.sample import SampleCall
from cloudposterior.run import STATES
from cloudposterior.samplers.longer_join import Earlier
from cloudposterior.samplers.more import chains_go_on, draws_go_on
from cloudposterior.samplers.resolve import Resolved
from cloudposterior.samplers.states import states_of_tree

__all__ = ["find_earlier", "keeps_states"]

_MAY_GROW = ("chains", "draws")


def keeps_states(call: SampleCall, resolved: Resolved) -> bool:
    """Tell whether a longer run could go on from where the chains of a call end."""
    return draws_go_on(call.model, **_asked(call, resolved))


def find_earlier(
    cache: Cache | None,
    request: Request | None,
    call: SampleCall,
    resolved: Resolved,
    random_seed: Any,
) -> Earlier | None:
    """Find the longest run that a call goes on from.

    Parameters
    ----------
    cache : Cache or None
        Where to look.
    request : Request or None
        The request of the call.
    call : SampleCall
        The call.
    resolved : Resolved
        What PyMC would do with it.
    random_seed : Any
        The seed to draw with, as it is recorded; None takes that of the earlier run.

    Returns
    -------
    Earlier or None
        None where there is none, or where PyMC would not draw the same.
    """
    if cache is None or request is None or call.until is not None:
        return None
    try:
        names = {"model": request.model_name, "label": request.label}
        found = list(near_entries(cache, request.token, **names)[0])
        if not found or not draws_go_on(call.model, **_asked(call, resolved)):
            return None
        wanted = request.manifest()
        shorter = [entry for entry in found if _is_shorter(entry, wanted)]
        if random_seed is not None:
            shorter = [e for e in shorter if e.record.random_seed == random_seed]
        sizes = {_size_of(entry.record.manifest): entry for entry in shorter}
        more_chains = chains_go_on(call.model, **_asked(call, resolved))
        fitting = [size for size in sizes if more_chains or size[0] == call.chains]
        # not every entry says how it ended
        largest_first = sorted(fitting, key=_amount, reverse=True)
        read = (_read(cache, sizes[size]) for size in largest_first)
        return next((earlier for earlier in read if earlier is not None), None)
    except Exception as error:  # noqa: BLE001  (whatever it is, all of it is drawn, and that is said)
        tell(CacheWarning, f"no earlier run was gone on from: {type(error).__name__}: {error}")
        return None


def _asked(call: SampleCall, resolved: Resolved) -> dict[str, Any]:
    return {
        "resolved": resolved,
        "arguments": call.arguments,
        "extra": call.extra,
        "settings": call.settings,
    }


def _amount(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _is_shorter(entry: Entry, wanted: Mapping[str, Any]) -> bool:
    """Tell whether an entry is of the same request, but for fewer draws or chains."""
    manifest = entry.record.manifest
    if entry.record.part_of is not None or not _same_but_for_size(manifest, wanted):
        return False
    (chains, draws), (most_chains, most_draws) = _size_of(manifest), _size_of(wanted)
    # a state holds the mean of all chains' initial points, and goes with as many chains only
    is_one_step = chains == most_chains or draws == most_draws
    return is_one_step and 0 < chains <= most_chains and 0 < draws <= most_draws


def _same_but_for_size(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return _without_size(one) == _without_size(other)


def _without_size(manifest: Mapping[str, Any]) -> list[Any]:
    """Give what the token of a request is made of, but for how many draws and chains."""
    return [
        [(row["kind"], row["name"], row["aspects"]) for row in manifest["components"]],
        {n: of["digest"] for n, of in manifest["options"].items() if n not in _MAY_GROW},
        manifest["versions"],
    ]


def _size_of(manifest: Mapping[str, Any]) -> tuple[int, int]:
    chains, draws = (int(manifest["options"][name]["text"]) for name in _MAY_GROW)
    return chains, draws


def _read(cache: Cache, entry: Entry) -> Earlier | None:
    record = entry.record
    kept = cache.get(record.token, model=record.model, label=record.label)
    if kept is None:
        return None
    tree: DataTree = kept[0].load(scheduler="threads")
    written = tree.children.get(STATES)
    if written is None:
        return None
    states = states_of_tree(written)
    del tree[STATES]
    earlier = Earlier(tree, states, record.random_seed)
    ends = {state.drawn for state in states.values()}
    whole = sorted(states) == list(range(earlier.chains)) and len(ends) == 1
    return earlier if whole and all(state.finished for state in states.values()) else None
