"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import cloudposterior as cp


def test_exports_are_these() -> None:
    assert cp.__all__ == [
        "BlockError",
        "CacheFileError",
        "CacheWarning",
        "ChainError",
        "CloudPosteriorError",
        "ClusterError",
        "ClusterOptions",
        "ClusterWarning",
        "DiskCache",
        "Entry",
        "Explanation",
        "MemoryCache",
        "Record",
        "ShippingError",
        "TokenError",
        "TokenWarning",
        "cloud",
        "cluster_options",
        "coiled_cluster",
        "explain",
        "sample",
    ]


def test_exports_are_importable_and_no_other_public_name_is() -> None:
    public = {name for name in vars(cp) if not name.startswith("_")}
    submodules = {
        name.partition(".")[2].partition(".")[0]
        for name in sys.modules
        if name.startswith("cloudposterior.")
    }
    # `explain` is both a function and a module; the function is what a user sees
    assert public - submodules <= set(cp.__all__) | {"annotations"}
    assert set(cp.__all__) <= public
    assert callable(cp.explain)


def test_exports_are_documented() -> None:
    assert [name for name in cp.__all__ if not getattr(cp, name).__doc__] == []


def test_import_brings_in_no_cluster_and_no_dashboard() -> None:
    program = (
        "import sys, cloudposterior\n"
        "heavy = {'distributed', 'bokeh', 'coiled'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "[]"


def test_import_makes_models_tokenizable() -> None:
    program = (
        "import cloudposterior, pymc as pm\n"
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
