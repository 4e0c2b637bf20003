"""What "the same result" means: every bit, type, name and attribute but the times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

import cloudposterior as cp
from cloudposterior.posterior import to_tree

TIMES = {"perf_counter_start", "perf_counter_diff", "process_time_diff"}
ATTRIBUTES_OF_A_RUN = {"created_at", "sampling_time", "creation_library_version"}

Options = dict[str, Any]

PYMC_5 = pm.__version__.startswith("5")

SHORT: Options = {
    "draws": 12,
    "tune": 10,
    "chains": 2,
    "cores": 2,
    "random_seed": 5,
    "nuts_sampler": "pymc",
    "progressbar": False,
    "compute_convergence_checks": False,
    "discard_tuned_samples": False,
}


def on_cluster(model: pm.Model, client: Any, **options: Any) -> Any:
    """Sample on a cluster, with no cache in between."""
    return cp.sample(model, cluster=client, cache=False, **{**SHORT, **options})


def plain(model: pm.Model, **options: Any) -> Any:
    """Sample as PyMC does it."""
    with model:
        return pm.sample(**{**SHORT, **options})


def assert_same_result(ours: Any, theirs: Any) -> None:
    """Check that a result is the plain call's."""
    assert type(ours) is type(theirs)
    one, other = to_tree(ours), to_tree(theirs)
    assert list(one.children) == list(other.children)
    for group in other.children:
        assert_same_dataset(one[group].to_dataset(), other[group].to_dataset(), group)


def assert_same(ours: Any, theirs: Any) -> None:
    """Check that two results are the same; PyMC takes the order of statistics from a set."""
    ours, theirs = (in_one_order(to_tree(one)) for one in (ours, theirs))
    assert_same_result(ours, theirs)


def in_one_order(tree: Any) -> Any:
    for group in [name for name in tree.children if "stats" in name]:
        dataset = tree[group].to_dataset()
        tree[group] = dataset[sorted(map(str, dataset.data_vars))]
    return tree


def assert_same_dataset(ours: xr.Dataset, theirs: xr.Dataset, group: str = "") -> None:
    assert list(ours.data_vars) == list(theirs.data_vars), group
    assert list(ours.coords) == list(theirs.coords), group
    for name, expected in theirs.variables.items():
        got, where = ours.variables[name], f"{group}/{name}"
        assert got.dims == expected.dims, where
        assert got.shape == expected.shape, where
        assert got.dtype == expected.dtype, where
        assert got.attrs == expected.attrs, where
        if name not in TIMES:
            assert same_values(got.to_numpy(), expected.to_numpy()), differences(
                where, got.to_numpy(), expected.to_numpy()
            )
    assert without_times(ours.attrs) == without_times(theirs.attrs), group


def same_values(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Tell whether two arrays hold the same bits; any NaN is like any other."""
    if one.dtype.hasobject:
        return one.shape == other.shape and [*map(_text, one.flat)] == [*map(_text, other.flat)]
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")


def differences(where: str, one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> str:
    """Say which values differ, for what differs once in a thousand runs."""
    unequal = np.argwhere(~((one == other) | ((one != one) & (other != other))))
    lines = [f"{where}: {len(unequal)} of {one.size} values differ"]
    lines += [f"{i.tolist()}: {one[tuple(i)]!r}, not {other[tuple(i)]!r}" for i in unequal[:10]]
    return "; ".join(lines)


def _text(value: Any) -> str:
    # pandas writes None as NaN where there is text beside it
    return "" if value is None or value != value else str(value)


def without_times(attributes: Any) -> Options:
    return {
        name: value
        for name, value in attributes.items()
        if name not in ATTRIBUTES_OF_A_RUN and not name.startswith("cloudposterior_")
    }


def compilations(client: Any) -> int:
    """Count how often PyTensor has compiled a function on the workers, since the first call."""
    return sum(client.run(_count_compilations).values())


def _count_compilations() -> int:
    from pytensor.compile import FunctionMaker

    if not hasattr(FunctionMaker, "compilations"):
        make = FunctionMaker.__init__

        def counted(self: Any, *args: Any, **kwargs: Any) -> None:
            FunctionMaker.compilations += 1
            make(self, *args, **kwargs)

        FunctionMaker.compilations = 0
        FunctionMaker.__init__ = counted
    return int(FunctionMaker.compilations)
