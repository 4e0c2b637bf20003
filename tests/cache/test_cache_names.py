"""Names of models and labels, however hostile, stay inside the directory and apart."""

from __future__ import annotations

import itertools

import pytest

from cloudposterior.cache.names import file_names, safe_name

pytestmark = pytest.mark.once

PLAIN = ["radon", "radon_intercepts", "a", "_a", "1st", "a.b", "a-b", "x" * 60, "con_1", "console"]
HOSTILE = [
    "../../x", "..", ".", "", "/", "/etc/passwd", "a/b", "a\\b", "C:\\x", "c:", "x" * 61,
    "x" * 300,
    "X" * 300, "🎲", "🎲" * 100, "résumé", "re\u0301sume\u0301", "CON", "con", "Con", "con.txt",
    "com1", "COM1", "lpt9.nc", "nul", "aux.", "a.", "a ", " a", "a..", ".hidden", "-rf", "~",
    "$HOME",
    "a\0b", "a\nb", "Radon", "RADON", "radon-0a1b2c3d", "\udc80", "a*", "a?", "a|b", '"', "%2e%2e",
    "draws-1000-chains4-deadbeef",
]  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_plain_name_is_kept(name):
    assert safe_name(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_is_made_safe(name):
    safe = safe_name(name)
    assert safe != name
    assert safe.isascii() and safe == safe.lower() and len(safe) <= 60
    assert not set(safe) - set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
    assert not safe.startswith((".", "-")) and not safe.endswith((".", " "))
    assert safe.split(".")[0] not in {"con", "aux", "nul", "com1", "lpt9"}


def test_names_stay_apart_on_any_file_system():
    names = PLAIN + HOSTILE
    for one, other in itertools.combinations(names, 2):
        assert safe_name(one).casefold() != safe_name(other).casefold(), (one, other)


def test_safe_name_cannot_be_taken_by_another_model():
    assert safe_name(safe_name("Radon")) != safe_name("Radon")


@pytest.mark.parametrize("label", ["draws1000", "x" * 500, "target_accept=0.9/🎲", ""])
def test_file_names_are_short_and_ever_longer_in_token(label):
    token = "0123456789abcdef" * 4
    names = file_names(label, token)
    assert [len(name.rpartition("-")[2]) for name in names] == [11, 19, 67]
    assert all(len(name.encode()) <= 143 for name in names)


def test_file_names_of_a_short_token():
    assert len(file_names("x", "0" * 32)) == 3
