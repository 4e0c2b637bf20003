"""Models, short runs, and what "the same result" means, for all tests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr

from cloudposterior.cache.choice import MEMORY
from cloudposterior.operations import functions
from cloudposterior.posterior import from_tree, to_tree
from cloudposterior.samplers import pymc as sampler_pymc


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    """Give each test a memory cache of its own."""
    MEMORY.clear()
    yield
    MEMORY.clear()


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# which looks for PyMC's functions when it is imported: not while a test has put its own there
assert functions.functions()

# PyTensor looks for a compiler when it is first asked, and keeps the answer: not while a test has
# its hand on processes
assert pytensor.config.cxx is not None


@pytest.fixture
def exact() -> Iterator[None]:
    """Make a run repeat to the bit whether or not Numba has its functions compiled already."""
    with pytensor.config.change_flags(numba__fastmath=False):
        yield


@pytest.fixture
def build() -> Callable[..., pm.Model]:
    """The smallest model that takes NUTS: one mean, five observations."""

    def build(name: str = "small", *, sigma: float = 1.0, coords: Any = None) -> pm.Model:
        with pm.Model(name=name, coords=coords) as model:
            mu = pm.Normal("mu", 0.0, sigma)
            pm.Normal("y", mu, 1.0, observed=np.array([0.1, -0.4, 0.3, 1.2, 0.8]))
        return model

    return build


@pytest.fixture
def build_radon() -> Callable[..., pm.Model]:
    """A model of the size and shape of the radon example, from seeded data."""

    def build(
        *,
        name: str = "radon",
        changed_counties: int = 0,
        sigma_a: float = 2.0,
        as_data: bool = True,
    ) -> pm.Model:
        rng = np.random.default_rng(20)
        county = np.sort(rng.integers(0, 85, size=919))
        floor = rng.integers(0, 2, size=919).astype("float64")
        log_radon = rng.normal(1.2, 0.8, size=919)
        middle = slice(400, 400 + changed_counties)
        county[middle] = (county[middle] + 1) % 85
        with pm.Model(name=name, coords={"county": np.arange(85)}) as model:
            idx = pm.Data("county_idx", county) if as_data else county
            mu_a = pm.Normal("mu_a", 0.0, 10.0)
            spread = pm.HalfNormal("sigma_a", sigma_a)
            a = pm.Normal("a", mu_a, spread, dims="county")
            b = pm.Normal("b", 0.0, 10.0)
            noise = pm.HalfNormal("noise", 1.0)
            pm.Normal("y", a[idx] + b * floor, noise, observed=log_radon)
        return model

    return build


@pytest.fixture
def short() -> dict[str, Any]:
    """Arguments of a seeded run of a few draws with PyMC's own sampler."""
    return {
        "draws": 20,
        "tune": 20,
        "chains": 2,
        "cores": 1,
        "random_seed": 1,
        "nuts_sampler": "pymc",
        "progressbar": False,
        "compute_convergence_checks": False,
    }


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What PyMC's `sample` returned to the package, run by run."""
    sample = sampler_pymc.SAMPLE
    results: list[Any] = []

    @functools.wraps(sample)
    def counted(*args: Any, **kwargs: Any) -> Any:
        results.append(sample(*args, **kwargs))
        return results[-1]

    monkeypatch.setattr(sampler_pymc, "SAMPLE", counted)
    return results


@pytest.fixture
def stub_runs(monkeypatch: pytest.MonkeyPatch) -> list[pm.Model]:
    """The models that were run, with a result made up in place of each run."""
    models: list[pm.Model] = []

    @functools.wraps(sampler_pymc.SAMPLE)
    def made_up(draws: int, *, chains: int, model: pm.Model, **_: Any) -> Any:
        models.append(model)
        values = np.random.default_rng(len(models)).normal(size=(chains, draws))
        posterior = xr.Dataset({"mu": (("chain", "draw"), values)})
        return from_tree(xr.DataTree.from_dict({"posterior": posterior}))

    monkeypatch.setattr(sampler_pymc, "SAMPLE", made_up)
    return models


@pytest.fixture
def draws_of() -> Callable[[Any], dict[str, np.ndarray]]:
    """The arrays of a result's posterior by name."""

    def draws_of(result: Any) -> dict[str, np.ndarray]:
        return {str(name): v.values for name, v in result["posterior"].data_vars.items()}

    return draws_of


@pytest.fixture
def assert_same_draws(
    draws_of: Callable[[Any], dict[str, np.ndarray]],
) -> Callable[[Any, Any], None]:
    """Check that two posteriors hold the same variables with the same bits."""

    def check(one: Any, other: Any) -> None:
        ours, theirs = draws_of(one), draws_of(other)
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            assert np.array_equal(values, theirs[name]), name

    return check


@pytest.fixture
def assert_identical() -> Callable[[Any, Any], None]:
    """Check that two results are the same in every group, value, type and attribute."""

    def check(one: Any, other: Any) -> None:
        assert type(one) is type(other)
        ours, theirs = to_tree(one), to_tree(other)
        assert [node.path for node in ours.subtree] == [node.path for node in theirs.subtree]
        for here, there in zip(ours.subtree, theirs.subtree, strict=True):
            a, b = here.to_dataset(inherit=False), there.to_dataset(inherit=False)
            assert a.identical(b), here.path
            assert {n: v.dtype for n, v in a.variables.items()} == {
                n: v.dtype for n, v in b.variables.items()
            }, here.path

    return check
