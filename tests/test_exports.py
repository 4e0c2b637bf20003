"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pymc as pm
import pytest

import cloudposterior as cp


def test_exports_are_these() -> None:
    assert cp.__all__ == [
        "SBC",
        "BlockError",
        "BlockWarning",
        "CacheFileError",
        "CacheWarning",
        "Callback",
        "CallbackWarning",
        "ChainError",
        "CloudPosteriorError",
        "ClusterError",
        "ClusterOptions",
        "ClusterWarning",
        "DiskCache",
        "DisplayWarning",
        "Entry",
        "Explanation",
        "MemoryCache",
        "Notifier",
        "Record",
        "RemoteCache",
        "Run",
        "RunInfo",
        "RunSummary",
        "Sensitivity",
        "ShippingError",
        "SubmittedRun",
        "TokenError",
        "TokenWarning",
        "attach",
        "cloud",
        "cluster_options",
        "coiled_cluster",
        "explain",
        "kfold",
        "map",
        "reloo",
        "runs",
        "sample",
        "sbc",
        "sensitivity",
        "submit",
    ]


def test_exports_are_importable_and_no_other_public_name_is() -> None:
    public = {name for name in vars(cp) | dict.fromkeys(dir(cp)) if not name.startswith("_")}
    submodules = {
        name.partition(".")[2].partition(".")[0]
        for name in sys.modules
        if name.startswith("cloudposterior.")
    }
    ours = {"annotations", "importlib", "sys", "normalize_token", "Any", "TYPE_CHECKING"}
    assert public - submodules <= set(cp.__all__) | ours
    assert [name for name in cp.__all__ if getattr(cp, name, None) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cp.nothing


def test_exports_are_documented() -> None:
    assert [name for name in cp.__all__ if not getattr(cp, name).__doc__] == []


def brought_in(imports: str, heavy: set[str]) -> set[str]:
    """Say which of some packages a new process has imported, once it has run some code."""
    program = f"import sys\n{imports}\nprint(*(name.partition('.')[0] for name in sys.modules))"
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return heavy & set(finished.stdout.split())


def test_import_brings_in_no_cluster_and_no_dashboard() -> None:
    heavy = {"distributed", "bokeh", "coiled"}
    assert brought_in("import cloudposterior", heavy) == set()


@pytest.mark.parametrize(
    "module",
    ["cluster.plugin", "cluster.reach", "cluster.sealed", "cluster.stopping", "samplers.peeking"],
)
def test_import_of_what_a_scheduler_and_an_idle_worker_need_brings_in_no_pymc(module: str) -> None:
    heavy = {"pymc", "pytensor", "numba", "arviz", "xarray", "h5py"}
    assert brought_in(f"import cloudposterior.{module}", heavy) == set()


def test_command_line_brings_in_no_pymc() -> None:
    heavy = {"pymc", "pytensor", "numba", "arviz", "distributed"}
    assert brought_in("import cloudposterior.cli", heavy) == set()


@pytest.mark.skipif(pm.__version__.startswith("5"), reason="PyMC 5 needs ArviZ itself")
def test_block_brings_in_no_arviz() -> None:
    heavy = {"arviz", "distributed", "bokeh"}
    assert brought_in("import pymc, cloudposterior as cp\ncp.cloud", heavy) == set()


@pytest.mark.parametrize("imports", ["cloudposterior, pymc as pm", "pymc as pm, cloudposterior"])
def test_import_makes_models_tokenizable(imports: str) -> None:
    program = (
        f"import {imports}\n"
        "from dask.base import tokenize\n"
        "def build():\n"
        "    with pm.Model() as model:\n"
        "        pm.Normal('x')\n"
        "    return model\n"
        "print(tokenize(build()) == tokenize(build()))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "True"
