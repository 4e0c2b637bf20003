"""The versions that draws depend on, here and on workers, and what to do where they differ."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence

from cloudposterior.errors import ClusterError

__all__ = ["PACKAGES", "check_versions", "differences_of", "minor_of", "versions_here"]

Versions = Mapping[str, str | None]
"""By package, and of Python; None where one is not installed."""

PACKAGES = ("cloudposterior", "pymc", "pytensor", "numpy")
"""What client and workers must have in the same version, whatever is sampled."""


def versions_here(packages: Sequence[str]) -> dict[str, str | None]:
    """Read the versions of this process: of Python, and of packages."""
    versions: dict[str, str | None] = {"Python": minor_of(platform.python_version())}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def minor_of(version: str) -> str:
    """Leave out of a version what makes no difference to what travels."""
    return ".".join(version.split(".")[:2])


def check_versions(wanted: Versions, worker: str) -> None:
    """Check on a worker that it runs what the client runs; a worker may join in mid-run.

    Parameters
    ----------
    wanted : mapping of str to str or None
        The client's.
    worker : str
        The address of this worker.

    Raises
    ------
    ClusterError
        If a version differs.
    """
    differing = _differing(tuple(wanted.items()), worker)
    if differing:
        raise ClusterError(
            f"a worker that joined while chains were drawn differs from the client:\n{differing}"
        )


@functools.lru_cache(maxsize=64)
def _differing(wanted: tuple[tuple[str, str | None], ...], worker: str) -> str:
    # asked once a process and run; reading metadata takes milliseconds
    here = versions_here([name for name, _ in wanted if name != "Python"])
    return differences_of(dict(wanted), {worker: here})


def differences_of(ours: Versions, theirs: Mapping[str, Versions]) -> str:
    """Say which versions of workers differ from the client's, and what to do; empty if none does.

    Parameters
    ----------
    ours : mapping of str to str or None
        The client's.
    theirs : mapping of str to mapping
        The same by worker.
    """
    differing = [
        (address, name)
        for address, versions in theirs.items()
        for name in ours
        if versions[name] != ours[name]
    ]
    if not differing:
        return ""
    lines = [
        f"  {address}: {name} {theirs[address][name] or 'not installed'}, "
        f"here {ours[name] or 'not installed'}"
        for address, name in differing
    ]
    names = list(dict.fromkeys(name for _, name in differing))
    return "\n".join([*lines, _remedy(names, ours)])


def _remedy(names: list[str], ours: Versions) -> str:
    known = [name for name in names if ours[name] and name not in ("Python", "cloudposterior")]
    wanted = " ".join(f"{name}=={ours[name]}" for name in known)
    steps = []
    if "Python" in names:
        steps.append(f"start the workers with Python {ours['Python']}")
    if wanted:
        steps.append(f"install what is here on the workers (`pip install {wanted}`)")
    if "cloudposterior" in names:
        # by that name, pip has another one
        steps.append("install cloudposterior on the workers from the clone that is used here")
    if any(ours[name] is None for name in names):
        steps.append("install here what the workers have")
    return (
        f"{', and '.join(steps) or 'make them equal'}; then restart them. Workers that are started "
        "from this environment, or from one image with it, are equal from the start"
    )
