"""The battery of pairs in this process, in others, and with its modules run as scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.battery import PAIRS, Pair, bodies, functions, globals, ops
from tests.battery.tokens import REFUSED, token_of

ROOT = Path(__file__).resolve().parents[2]
HASH_SEEDS = ("1", "2")
MAIN = {module.__name__.split(".")[-1]: module for module in (bodies, functions, globals, ops)}
"""Modules of the battery whose functions and classes are also made in ``__main__``."""

Tokens = dict[str, list[str]]


def start(program: list[str], directory: Path, hash_seed: str) -> subprocess.Popen[str]:
    """Run a script or module in a directory of its own under a hash seed."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *program],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def as_main(name: str, directory: Path) -> Path:
    """Copy a module of the battery to a script that prints the tokens of its own pairs."""
    script = directory / f"copy_of_{name}.py"
    source = (ROOT / "tests" / "battery" / f"{name}.py").read_text(encoding="utf-8")
    ending = "from tests.battery.tokens import print_tokens\n\nprint_tokens(PAIRS)\n"
    script.write_text(f"{source}\n\n{ending}", encoding="utf-8")
    return script


@pytest.fixture(scope="session", autouse=True)
def processes(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The other processes, which run while this one computes its own tokens."""
    started = {
        seed: start(["-m", "tests.battery.tokens"], tmp_path_factory.mktemp(f"seed_{seed}"), seed)
        for seed in HASH_SEEDS
    }
    directory = tmp_path_factory.mktemp("main")
    started |= {name: start([str(as_main(name, directory))], directory, "3") for name in MAIN}
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def others(processes: dict[str, subprocess.Popen[str]]) -> dict[str, Tokens | str]:
    """Tokens by process, or what a process said on failing."""
    results: dict[str, Tokens | str] = {}
    for name, process in processes.items():
        output, errors = process.communicate(timeout=600)
        results[name] = errors if process.returncode else json.loads(output.splitlines()[-1])
    return results


@pytest.fixture(scope="session")
def here() -> Tokens:
    """Tokens of the first build of each pair in this process, filled while the tests run."""
    return {}


def first_tokens(pair: Pair, here: Tokens) -> list[str]:
    """Give the tokens of this process, and build only once for them."""
    if pair.name not in here:
        here[pair.name] = [token_of(pair.left), token_of(pair.right)]
    return here[pair.name]


def tokens_elsewhere(pair: Pair, process: str, others: dict[str, Tokens | str]) -> list[str]:
    """Give the tokens of another process, which it is an error not to have."""
    tokens = others[process]
    assert isinstance(tokens, dict), f"the process {process!r} failed:\n{tokens}"
    return tokens[pair.name]


def test_battery_is_large_and_its_names_are_unique() -> None:
    names = [pair.name for pair in PAIRS]
    assert len(names) == len(set(names))
    assert len(PAIRS) >= 200


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_tokens_agree_with_the_verdict(pair: Pair, here: Tokens) -> None:
    left, right = first_tokens(pair, here)
    if pair.verdict == "refused":
        assert [left, right] == [REFUSED, REFUSED]
    else:
        assert REFUSED not in (left, right)
        assert (left == right) is (pair.verdict == "same")


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_tokens_hold_when_built_again(pair: Pair, here: Tokens) -> None:
    left, right = first_tokens(pair, here)
    assert token_of(pair.left) == left
    if not pair.costly:
        assert token_of(pair.right) == right


@pytest.mark.parametrize("hash_seed", HASH_SEEDS)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_tokens_hold_in_another_process(
    pair: Pair, hash_seed: str, here: Tokens, others: dict[str, Tokens | str]
) -> None:
    assert tokens_elsewhere(pair, hash_seed, others) == first_tokens(pair, here)


@pytest.mark.parametrize(
    ("module", "pair"),
    [(name, pair) for name, module in MAIN.items() for pair in module.PAIRS],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_tokens_hold_in_main(
    module: str, pair: Pair, here: Tokens, others: dict[str, Tokens | str]
) -> None:
    assert tokens_elsewhere(pair, module, others) == first_tokens(pair, here)
