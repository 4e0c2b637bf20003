"""Each module imports only from lower layers, as read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cloudposterior

PACKAGE = Path(cloudposterior.__file__).parent
LAYERS = (
    {"errors", "events", "config"},
    {"identity", "samplers", "posterior", "shipping"},
    {"operations", "cache", "progress"},
    {"explanation", "run", "blocks", "cluster", "callbacks", "summary", "notify"},
    {"api", "submission", "many", "demo", "cli", "validation"},
)
WITHIN_A_LAYER = {
    ("samplers", "identity.walk"),
    ("samplers", "posterior"),
    ("samplers", "shipping"),
    ("shipping", "identity.ops"),
    ("shipping", "identity.model"),
    ("run", "explanation"),
    ("run", "callbacks"),
    ("callbacks", "summary"),
    ("notify", "callbacks"),
    ("notify", "summary"),
    ("cluster", "run"),
    ("submission", "api"),
    ("many", "api"),
    ("many", "submission"),
    ("validation", "many"),
    ("demo", "api"),
    ("cli", "api"),
    ("cli", "demo"),
}
"""What may be imported from the same layer: importing part, imported module."""

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
MODULES.remove(Path("__init__.py"))  # the names that users see, gathered


def part_of(module: str) -> str:
    """Name the part of the package that a module belongs to, as `LAYERS` names it."""
    return module.partition(".")[0]


def layer_of(part: str) -> int:
    """Number the layer of a part, from the lowest."""
    found = [number for number, parts in enumerate(LAYERS) if part in parts]
    assert len(found) == 1, f"{part!r} has no place in LAYERS"
    return found[0]


def imported(path: Path) -> Iterator[str]:
    """Give the modules of this package that a source file imports, functions included."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import in line {node.lineno}"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = find(whole) is not None
                yield whole if is_module else str(node.module)


def find(module: str) -> Path | None:
    """Find the file of a module of this package."""
    stem = PACKAGE.parent.joinpath(*module.split("."))
    candidates = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_module_imports_lower_layers_only(path: Path) -> None:
    part = part_of(".".join(path.with_suffix("").parts))
    for name in imported(path):
        if not name.startswith("cloudposterior"):
            continue
        target = name.removeprefix("cloudposterior").removeprefix(".")
        assert target, f"{path} imports the package itself"
        other = part_of(target)
        if other == part or (part, target) in WITHIN_A_LAYER:
            continue
        assert layer_of(other) < layer_of(part), f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_module_imports_this_package_at_its_top(path: Path) -> None:
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    hidden = [
        ast.unparse(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and "cloudposterior" in ast.unparse(node)
    ]
    assert hidden == []


def test_layers_name_modules_that_import_something() -> None:
    assert sum(1 for path in MODULES for name in imported(path)) > 100
