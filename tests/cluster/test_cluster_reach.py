"""Whether workers reach a cache: they see its directory, and write to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed import Client

import cloudposterior as cp
from cloudposterior.cluster import parcel, reach

pytestmark = pytest.mark.once


def test_directory_that_workers_write_to_is_reached(two_workers: Client, tmp_path: Path) -> None:
    cache = cp.DiskCache(tmp_path / "cache")
    assert parcel.reachable(cache, two_workers) is not None
    assert list((tmp_path / "cache").iterdir()) == []


def test_directory_that_a_worker_does_not_see_is_not_reached(
    two_workers: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as on a machine of its own
    monkeypatch.setattr(Path, "touch", lambda self: None)
    monkeypatch.setattr(Path, "unlink", lambda self: None)
    assert parcel.reachable(cp.DiskCache(tmp_path / "cache"), two_workers) is None


def test_directory_that_a_worker_sees_and_cannot_write_to_is_not_reached(
    two_workers: Client,
) -> None:
    # nobody makes files there, not even root
    seen = two_workers.run(reach._writes_beside, "/proc/version", on_error="return")
    assert all(isinstance(one, OSError) for one in seen.values())
