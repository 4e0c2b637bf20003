"""From the results of single chains to one result, for samplers whose chains are drawn whole."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from pymc.stats.convergence import log_warnings, run_convergence_checks
from xarray import DataTree

from cloudposterior.events import ChainReport, Phase
from cloudposterior.posterior import from_tree
from cloudposterior.samplers.drawn import Drawn
from cloudposterior.samplers.protocol import Segment, State
from cloudposterior.samplers.surroundings import say
from cloudposterior.samplers.whole_chains import report_at_end

__all__ = ["WholeJoin"]


class WholeJoin:
    """Takes the results of single chains in, and gives what `pymc.sample` returns.

    Parameters
    ----------
    model : pymc.Model
        The client's model.
    arguments : mapping
        All named arguments of `pymc.sample`, resolved.
    checks : bool
        Whether this sampler's results are checked for convergence, as PyMC does for some.
    """

    def __init__(self, model: pm.Model, arguments: Mapping[str, Any], *, checks: bool) -> None:
        self._model = model
        self._call = arguments
        self._checks = checks and arguments["compute_convergence_checks"]
        self._chains = int(arguments["chains"])
        # the first whole chain gives the form, and the arrays that all chains are copied into
        self._form: DataTree | None = None
        self._arrays: dict[tuple[str, str], np.ndarray] = {}
        self._arrived: set[int] = set()
        self._cut_short: dict[int, DataTree] = {}
        # of chains that are still being drawn
        self._seen: dict[int, dict[str, np.ndarray]] = {}
        self._length: int | None = None

    def add(self, segment: Segment, state: State | None = None) -> None:
        """Take a chain in; one that is there already is passed over.

        Parameters
        ----------
        segment : Segment
            The chain, with the draws that were made of it: fewer than asked for where it was
            stopped.
        state : State, optional
            Of no use here: these samplers cannot go on from it.
        """
        if segment.chain in self._arrived:
            return
        if not (self._arrived or self._cut_short):
            say(segment.plan, quiet=self._call["quiet"])
        tree: DataTree = segment.samples
        whole = segment.draws == int(self._call["draws"])
        if self._form is None and whole:
            self._begin(tree)
        if not (whole and self._fits(tree)):
            self._cut_short[segment.chain] = tree
            return
        for (group, name), array in self._arrays.items():
            array[segment.chain] = tree[group][name].to_numpy()[0]
        if segment.chain < min(self._arrived, default=self._chains):
            # whichever arrives first, the lowest chain's attributes are the result's
            self._form = _form_of(tree)
        self._arrived.add(segment.chain)
        # one that another client stopped was drawn again
        self._cut_short.pop(segment.chain, None)

    def report(self, chain: int, state: State) -> ChainReport | Phase:
        """Say where a chain stands."""
        return Phase("finished" if state.finished else "stopped", chain)

    def has_draws(self) -> bool:
        """Say whether there is anything that a result could be made of."""
        return any(self.drawn(chain) for chain in range(self._chains))

    def report_whole(self, chain: int) -> ChainReport:
        """Say of a chain that has come in whole what was told of it when it was drawn."""
        drawn, tune, total, tally = report_at_end(self._joined([chain]))
        return ChainReport(chain, "", drawn, tune, total, **vars(tally))

    def drawn(self, chain: int) -> int:
        """Count the draws of a chain that have come in, without tuning."""
        if chain in self._arrived:
            return int(self._call["draws"])
        return _draws(self._cut_short[chain]) if chain in self._cut_short else 0

    def so_far(self) -> Drawn | None:
        """Give the chains that have come in; None where there is none."""
        recorded = {("posterior", str(rv.name)) for rv in self._model.unobserved_RVs}
        arrays = {key[1]: array for key, array in self._arrays.items() if key in recorded}
        draws = int(self._call["draws"])
        lengths = [draws * (chain in self._arrived) for chain in range(self._chains)]
        return Drawn.of(lengths, 0, arrays) if arrays else None

    def see(self, chain: int, values: Mapping[str, np.ndarray]) -> None:
        """Take note of draws of a chain that is still being drawn; they follow on those before."""
        parts = self._seen.setdefault(chain, {})
        for name, more in values.items():
            parts[name] = np.concatenate([parts[name], more]) if name in parts else more

    def seen(self) -> dict[int, int]:
        """Count the draws of each chain that are known."""
        lengths = {c: len(next(iter(of.values()), ())) for c, of in self._seen.items()}
        return {**lengths, **dict.fromkeys(self._arrived, int(self._call["draws"]))}

    def shortest(self) -> int:
        """Count the draws, without tuning, that are known of all chains."""
        known = self.seen()
        return min(known.get(chain, 0) for chain in range(self._chains))

    def handed_over(self) -> int:
        """Count the draws, without tuning, that all chains have handed over."""
        whole = dict.fromkeys(self._arrived, int(self._call["draws"]))
        held = {**{chain: _draws(tree) for chain, tree in self._cut_short.items()}, **whole}
        return min(held.get(chain, 0) for chain in range(self._chains))

    def values(self, names: Sequence[str], draws: int) -> dict[str, np.ndarray]:
        """Give the first draws after tuning, ``(chain, draw, *shape)`` by variable."""
        return {
            name: np.stack([self._value(name, chain)[:draws] for chain in range(self._chains)])
            for name in names
        }

    def _value(self, name: str, chain: int) -> np.ndarray:
        if chain not in self._arrived:
            return self._seen[chain][name]
        values: np.ndarray = self._arrays["posterior", name][chain]
        return values

    def cut(self, draws: int) -> None:
        """Leave out what is drawn of each chain after so many draws, not counting tuning."""
        self._length = draws

    def is_whole(self, chain: int) -> bool:
        """Say whether all draws of a chain have come in."""
        return chain in self._arrived

    def states(self) -> dict[int, State]:
        """Give nothing: these chains do not go on from anywhere."""
        return {}

    def ends(self) -> dict[int, State]:
        """Give nothing: these chains do not go on from anywhere."""
        return {}

    def part(self, chain: int, first: int) -> DataTree | None:
        """Give a chain that is whole, for `add_part`; None where it is not.

        Parameters
        ----------
        chain : int
            The number of the chain.
        first : int
            From which draw on it is wanted; these chains come in one part.
        """
        return self._joined([chain]) if chain in self._arrived and not first else None

    def add_part(self, chain: int, tree: DataTree) -> None:
        """Take in a chain that `part` gave in another run of the same call.

        Raises
        ------
        ValueError
            If it is none; nothing is taken in then.
        """
        fits = self._form is None or self._fits(tree)
        if not fits or _draws(tree) != int(self._call["draws"]):
            raise ValueError(f"chain {chain} is not of the form of this run")
        self.add(Segment(chain, 0, _draws(tree), tree, [], ()))

    def _begin(self, tree: DataTree) -> None:
        for group, child in tree.children.items():
            for name, variable in child.data_vars.items():
                if variable.dims[:1] == ("chain",):
                    shape = (self._chains, *variable.shape[1:])
                    self._arrays[group, str(name)] = np.empty(shape, variable.dtype)
        self._form = _form_of(tree)
        self._shapes = {key: array.shape[1:] for key, array in self._arrays.items()}

    def _fits(self, tree: DataTree) -> bool:
        return all(
            group in tree.children
            and name in tree[group].data_vars
            and tree[group][name].shape[1:] == shape
            for (group, name), shape in self._shapes.items()
        )

    def finish(self, elapsed_s: float, *, without: Collection[int] = ()) -> Any:
        """Give what `pymc.sample` returns for the chains that have come in.

        Parameters
        ----------
        elapsed_s : float
            How long the sampling took, in seconds.
        without : collection of int
            Chains that did not come in.

        Raises
        ------
        ValueError
            If there are none.
        """
        is_whole = not self._cut_short and self._length is None
        tree = self._whole() if is_whole else self._shortened()
        # older ArviZ puts attributes on the result, too
        for node in tree.subtree:
            if "sampling_time" in node.attrs:
                node.attrs["sampling_time"] = elapsed_s
            if "inference_library_settings" in node.attrs:
                # nutpie's, in JSON; the seed is that of the first chain
                written = json.loads(node.attrs["inference_library_settings"])
                written["settings"]["num_chains"] = tree["posterior"].sizes["chain"]
                node.attrs["inference_library_settings"] = json.dumps(written)
        result = from_tree(tree)
        if self._checks:
            found = run_convergence_checks(result, self._model)
            if not self._call["quiet"]:
                log_warnings(found)
        return result

    def _whole(self) -> DataTree:
        if self._form is None:
            raise ValueError("Not enough samples to build a trace.")
        return self._joined(sorted(self._arrived))

    def _joined(self, chains: list[int]) -> DataTree:
        assert self._form is not None
        # a slice gives the arrays as they lie there, without a copy
        which: Any = slice(chains[0], chains[-1] + 1)
        if chains != list(range(self._chains)[which]):
            which = chains
        groups = {}
        for group, child in self._form.children.items():
            form = child.to_dataset()
            arrays = {name: a[which] for (of, name), a in self._arrays.items() if of == group}
            groups[group] = _with_draws(form, arrays, chains)
        tree = DataTree.from_dict(groups)
        tree.attrs = dict(self._form.attrs)
        return tree

    def _shortened(self) -> DataTree:
        """Join chains of different lengths: as many as make the most draws, cut to the shortest."""
        trees = dict(self._cut_short)
        if self._arrived:
            whole = self._whole()
            for place, chain in enumerate(sorted(self._arrived)):
                trees[chain] = _one_chain(whole, place)
        by_length = sorted(trees, key=lambda chain: _draws(trees[chain]), reverse=True)
        lengths = [_draws(trees[chain]) for chain in by_length]
        if not lengths or not lengths[0]:
            raise ValueError("Not enough samples to build a trace.")
        if self._length is not None:
            return _concatenated({chain: trees[chain] for chain in sorted(trees)}, self._length)
        count = max(range(1, len(lengths) + 1), key=lambda n: n * lengths[n - 1])
        chosen = sorted(by_length[:count])
        return _concatenated({chain: trees[chain] for chain in chosen}, lengths[count - 1])


def _draws(tree: DataTree) -> int:
    """Count the draws of one chain; nutpie gives those that it made before it was stopped."""
    group = tree.children.get("posterior")
    return 0 if group is None else int(group.sizes.get("draw", 0))


def _form_of(tree: DataTree) -> DataTree:
    form = DataTree.from_dict(
        {name: _without_draws(child.to_dataset()) for name, child in tree.children.items()}
    )
    form.attrs = dict(tree.attrs)
    return form


def _without_draws(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.isel(chain=slice(0, 0)) if "chain" in dataset.dims else dataset


def _with_draws(form: xr.Dataset, arrays: dict[str, np.ndarray], chains: list[int]) -> xr.Dataset:
    if not arrays:
        return form
    values = {
        name: (v.dims, arrays[str(name)], v.attrs) if str(name) in arrays else v.variable
        for name, v in form.data_vars.items()
    }
    coords = {name: c.variable for name, c in form.coords.items()}
    coords["chain"] = xr.Variable("chain", np.array(chains))
    return xr.Dataset(values, coords=coords, attrs=form.attrs)


def _one_chain(tree: DataTree, place: int) -> DataTree:
    groups = {}
    for name, child in tree.children.items():
        dataset = child.to_dataset()
        groups[name] = dataset.isel(chain=[place]) if "chain" in dataset.dims else dataset
    return DataTree.from_dict(groups)


def _concatenated(trees: dict[int, DataTree], draws: int) -> DataTree:
    first = next(iter(trees.values()))
    groups: dict[str, xr.Dataset] = {}
    for name, child in first.children.items():
        if "chain" not in child.sizes:
            groups[name] = child.to_dataset()
            continue
        datasets = {chain: tree[name].to_dataset() for chain, tree in trees.items()}
        tuning = name.startswith("warmup")
        cut = min(d.sizes["draw"] for d in datasets.values()) if tuning else draws
        numbered = [
            d.isel(draw=slice(0, cut)).assign_coords(chain=[chain]) for chain, d in datasets.items()
        ]
        groups[name] = xr.concat(numbered, "chain", combine_attrs="override")
    tree = DataTree.from_dict(groups)
    tree.attrs = dict(first.attrs)
    return tree
