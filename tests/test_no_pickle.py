"""What comes from cache files and from others' events is never run: read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cloudposterior

pytestmark = pytest.mark.once

PACKAGE = Path(cloudposterior.__file__).parent
READERS = sorted(
    [
        *PACKAGE.glob("cache/**/*.py"),
        *PACKAGE.glob("progress/**/*.py"),
        PACKAGE / "events.py",
        PACKAGE / "posterior.py",
        *(PACKAGE / "cluster" / f"{name}.py" for name in ("share", "plugin", "partial")),
        *(PACKAGE / "samplers" / f"{name}.py" for name in ("chain_tree", "plain_values", "states")),
    ]
)

THAT_UNPICKLE = {"pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
THAT_RUN = {"eval", "exec", "compile", "__import__"}
THAT_READ = {"read_pickle", "unsafe_load", "full_load", "deserialize"}
SAFE_LOADERS = {"SafeLoader", "CSafeLoader"}


def found_in(source: str) -> list[str]:
    """List what a module does that could run what it reads, by line."""
    return [f"line {node.lineno}: {what}" for node, what in _found(ast.parse(source))]


def _found(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {part for name in _imported(node) for part in name.split(".")}
            yield from ((node, f"imports {name}") for name in sorted(names & _BANNED))
        elif isinstance(node, ast.Call):
            yield from ((node, what) for what in _called(node))
        elif isinstance(node, ast.Name) and node.id in THAT_RUN:
            yield node, node.id


_BANNED = THAT_UNPICKLE | THAT_READ


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    names = [alias.name for alias in node.names]
    return names if isinstance(node, ast.Import) else [node.module or "", *names]


def _called(node: ast.Call) -> Iterator[str]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else None
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    pickled = keywords.get("allow_pickle", ast.Constant(False))
    if not (isinstance(pickled, ast.Constant) and pickled.value is False):
        yield "allow_pickle"
    if name in THAT_READ:
        yield name
    if name == "load" and _is_named(node.func, "yaml") and _loader(node) not in SAFE_LOADERS:
        yield "yaml.load"
    texts = {of.value for of in node.args if isinstance(of, ast.Constant)}
    if name == "import_module" and texts & THAT_UNPICKLE:
        yield "import_module"


def _is_named(function: ast.expr, module: str) -> bool:
    of = function.value if isinstance(function, ast.Attribute) else None
    return isinstance(of, ast.Name) and of.id == module


def _loader(node: ast.Call) -> str:
    given = [*node.args[1:], *(keyword.value for keyword in node.keywords)]
    return next((of.attr for of in given if isinstance(of, ast.Attribute)), "")


def test_all_that_reads_files_and_events_is_looked_at() -> None:
    names = {path.relative_to(PACKAGE).as_posix() for path in READERS}
    assert {"events.py", "cluster/plugin.py", "cache/disk.py", "progress/feed.py"} <= names
    assert all(path.exists() for path in READERS)


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_that_is_read_is_run(path: Path) -> None:
    assert found_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import cloudpickle as plain",
        "from pickle import loads",
        "from distributed.protocol import pickle",
        "from distributed.protocol import deserialize",
        "import distributed.protocol.pickle",
        "def f():\n    import marshal",
        "importlib.import_module('dill')",
        "import shelve",
        "eval(text)",
        "builtins = [exec]",
        "__import__(name)",
        "np.load(file, allow_pickle=True)",
        "np.load(file, allow_pickle=flag)",
        "pd.read_pickle(file)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
    ],
)
def test_what_runs_is_found(source: str) -> None:
    assert found_in(source)


@pytest.mark.parametrize(
    "source",
    [
        "re.compile(text)",
        "json.loads(text)",
        "np.load(file)",
        "np.load(file, allow_pickle=False)",
        "yaml.safe_load(text)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "'no pickle is ever read'",
    ],
)
def test_what_only_reads_is_not(source: str) -> None:
    assert found_in(source) == []
