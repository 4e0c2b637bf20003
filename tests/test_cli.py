import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import cloudposterior as cp
from cloudposterior.cli import main

pytestmark = pytest.mark.once


def put(root: Path, token: str, *, created: str, sigma: str = "2") -> cp.Entry:
    """Keep a small posterior with a manifest of one prior."""
    posterior = xr.Dataset({"x": (("chain", "draw"), np.zeros((2, 3)))})
    manifest = {
        "components": [
            {
                "kind": "free",
                "name": "sigma_a",
                "aspects": {"graph": sigma},
                "distribution": "HalfNormal",
                "parameters": {"sigma": {"text": sigma}},
                "constants": [],
                "observed": None,
            }
        ],
        "options": {"draws": {"name": "draws", "digest": "d", "text": "3"}},
        "versions": {"pymc": "6"},
    }
    record = cp.Record(
        token=token,
        model="radon",
        label="draws3_tune3_chains2",
        manifest=manifest,
        versions={"pymc": "6"},
        created=created,
        elapsed_s=1.5,
        random_seed=7,
    )
    return cp.DiskCache(root).put(xr.DataTree.from_dict({"posterior": posterior}), record)


@pytest.fixture
def entries(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / ".cloudposterior"
    return [
        put(root, "a" * 32, created="2020-01-01T00:00:00+00:00"),
        put(root, "b" * 32, created="2026-01-01T00:00:00+00:00", sigma="3"),
    ]


def test_list_shows_each_entry(entries, capsys):
    assert main(["cache", "list"]) == 0
    out = capsys.readouterr().out
    assert "aaaaaaaa" in out
    assert "bbbbbbbb" in out
    assert "2 entries" in out


def listed_in_a_terminal(monkeypatch):
    """Give what `list` writes into a terminal."""
    ours, its = os.openpty()
    with open(its, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        assert main(["cache", "list"]) == 0
    written = b""
    # it comes in pieces; that the other side was closed is an error on Linux
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 10_000):
            written += piece
    os.close(ours)
    assert b"2 entries" in written
    return written.decode()


def test_list_has_no_styles_where_there_is_no_terminal(entries, capsys, monkeypatch):
    # as Jupyter sets it
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["cache", "list"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_list_in_a_terminal_has_styles_unless_no_color_is_set(entries, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1m" in listed_in_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in listed_in_a_terminal(monkeypatch)


def test_list_of_nothing_says_so(tmp_path, capsys):
    assert main(["cache", "list", "--dir", str(tmp_path / "none")]) == 0
    assert "no entries" in capsys.readouterr().out


def test_show_tells_model_seed_and_arguments(entries, capsys):
    assert main(["cache", "show", "aaaaaaaa"]) == 0
    out = capsys.readouterr().out
    for words in ("a" * 32, "random seed  7", "draws=3", "free sigma_a", "pymc 6", "1.50 s"):
        assert words in out


def test_show_of_an_unknown_entry_fails_with_a_message(entries, capsys):
    assert main(["cache", "show", "ffffffff"]) == 1
    assert "ffffffff" in capsys.readouterr().err


def test_diff_says_what_changed(entries, capsys):
    first, second = (str(entry.path) for entry in entries)
    assert main(["cache", "diff", first, second]) == 0
    assert capsys.readouterr().out == "prior `sigma_a` changed sigma 2 -> 3\n"
    assert main(["cache", "diff", "aaaaaaaa", "aaaaaaaa"]) == 0
    assert "no difference" in capsys.readouterr().out


def test_verify_names_the_broken_file(entries, capsys):
    assert main(["cache", "verify"]) == 0
    path = entries[0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    assert main(["cache", "verify"]) == 1
    assert str(path.name) in capsys.readouterr().out


def test_prune_dry_run_removes_nothing(entries, capsys):
    assert main(["cache", "prune", "--older-than", "365d", "--dry-run"]) == 0
    assert "1 entry would be removed" in capsys.readouterr().out
    assert all(entry.path.exists() for entry in entries)


@pytest.mark.parametrize(
    "limit", [["--older-than", "365d"], ["--keep", "1"], ["--max-size", "{size}B"]]
)
def test_prune_removes_the_oldest(entries, limit):
    limit = [word.format(size=entries[1].size_bytes + 10) for word in limit]
    assert main(["cache", "prune", *limit]) == 0
    assert [entry.path.exists() for entry in entries] == [False, True]


def test_prune_without_a_limit_is_refused(entries, capsys):
    assert main(["cache", "prune"]) == 1
    assert "--older-than" in capsys.readouterr().err


@pytest.mark.parametrize(
    "limit", [["--older-than", "30"], ["--older-than", "1e9999d"], ["--max-size", "5"]]
)
def test_prune_by_a_number_without_a_unit_is_refused(entries, limit, capsys):
    with pytest.raises(SystemExit):
        main(["cache", "prune", *limit])
    assert "say" in capsys.readouterr().err
    assert all(entry.path.exists() for entry in entries)


def test_clear_removes_all(entries):
    assert main(["cache", "clear"]) == 0
    assert not any(entry.path.exists() for entry in entries)


def test_demo_fits_twice_and_says_where_the_file_is(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "cloudposterior.cli", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    (path,) = (tmp_path / ".cloudposterior" / "radon").glob("*.nc")
    assert path.name in done.stdout
    assert "cached result" in done.stdout
    assert "radon::sigma_a" in done.stdout
    first, second = map(
        float, re.search(r"first fit ([\d.]+) s, second ([\d.]+) s", done.stdout).groups()
    )
    assert second < first
    with xr.open_datatree(path) as tree:
        assert json.loads(tree.attrs["cloudposterior_random_seed"]) == 2006
        assert tree["posterior"].sizes["draw"] == 1000
