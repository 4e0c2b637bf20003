"""The difference of two manifests, in words."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["difference"]

_ABSENT: dict[str, Any] = {}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what changed from one request to another.

    Parameters
    ----------
    old, new : mapping
        Manifests made by `identity.manifest.describe`.

    Returns
    -------
    list of str
        One line for each change, e.g. ``"target_accept 0.8 -> 0.9"``; empty when nothing did.
    """
    lines = [*_options(old, new), *_components(old, new)]
    for name in _keys(old, new, "versions"):
        before, after = (m.get("versions", _ABSENT).get(name, "none") for m in (old, new))
        if before != after:
            lines.append(f"{name} {before} -> {after}")
    return lines


def _keys(old: Mapping[str, Any], new: Mapping[str, Any], part: str) -> list[str]:
    return list(dict.fromkeys([*old.get(part, _ABSENT), *new.get(part, _ABSENT)]))


def _options(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in _keys(old, new, "options"):
        before, after = (m.get("options", _ABSENT).get(name) for m in (old, new))
        if before is None or after is None:
            yield f"{name} {'added' if before is None else 'removed'}"
        elif before["digest"] != after["digest"]:
            same_text = before["text"] == after["text"]
            yield f"{name} changed" if same_text else f"{name} {before['text']} -> {after['text']}"


def _components(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, after = (
        {(row["kind"], row["name"]): row for row in m.get("components", ())} for m in (old, new)
    )
    for key in dict.fromkeys([*before, *after]):
        if key not in before or key not in after:
            yield f"{_title(key)} {'added' if key not in before else 'removed'}"
        elif before[key]["aspects"] != after[key]["aspects"]:
            yield from _component(key, before[key], after[key])


def _title(key: tuple[str, str]) -> str:
    kind, name = key
    titles = {"free": "prior", "observed": "likelihood", "order": "order of", "model": "the model"}
    # a named model puts its name before those of its variables
    short = name.rpartition("::")[2]
    return f"{titles.get(kind, kind)} {f'`{short}`' if short else ''}".strip()


def _component(
    key: tuple[str, str], before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[str]:
    aspects = [
        aspect
        for aspect in dict.fromkeys([*before["aspects"], *after["aspects"]])
        if before["aspects"].get(aspect) != after["aspects"].get(aspect)
    ]
    said = list(_changes(before, after))
    if said:
        yield f"{_title(key)} changed " + ", ".join(said)
    else:
        yield f"{_title(key)} changed ({', '.join(aspects)})"


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if before.get("distribution") != after.get("distribution"):
        yield f"{before.get('distribution')} -> {after.get('distribution')}"
        return
    for name in _keys(before, after, "parameters"):
        old, new = (side.get("parameters", _ABSENT).get(name) for side in (before, after))
        if old != new:
            yield f"{name} {_value(old, new)}"
    for part in ("data", "values", "observed"):
        if before.get(part) != after.get(part):
            prefix = "observed " if part == "observed" else ""
            yield prefix + _value(before.get(part), after.get(part))
    pairs = zip(before.get("constants", ()), after.get("constants", ()), strict=False)
    for old, new in pairs:
        if old != new:
            yield f"a constant {_value(old, new)}"


def _value(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
    if old is None or new is None:
        return "(no longer comparable)"
    if old.get("text") and new.get("text") and old["text"] != new["text"]:
        return f"{old['text']} -> {new['text']}"
    for part in ("shape", "dtype"):
        if old.get(part) != new.get(part):
            return f"{part} {_plain(old.get(part))} -> {_plain(new.get(part))}"
    return _count(old, new)


def _plain(part: Any) -> str:
    return str(tuple(part)) if isinstance(part, list) else str(part)


def _count(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before, after = (
        np.frombuffer(base64.b64decode(side.get("marks", "")), dtype="<u2") for side in (old, new)
    )
    size = int(np.prod(new.get("shape", [])))
    if len(before) != len(after) or not len(after):
        return "in its values"
    changed = int(np.count_nonzero(before != after))
    if len(after) == size:
        return f"in {changed} of {size} values"
    return f"in {changed} of {len(after)} blocks of {size} values"
