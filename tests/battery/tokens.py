"""Print the tokens of pairs as JSON, in a process of its own.

Usage: ``python -m tests.battery.tokens`` for the whole battery. A module of the battery that
itself runs as a script, so that its functions belong to ``__main__``, calls ``print_tokens``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import dask.base

import cloudposterior  # noqa: F401  (registers the tokens)
from cloudposterior.errors import TokenError
from tests.battery.pairs import Builder, Pair

REFUSED = "refused"


def token_of(build: Builder) -> str:
    """Build, and give the token, or say that there is none."""
    try:
        return dask.base.tokenize(build())
    except TokenError:
        return REFUSED


def print_tokens(pairs: Iterable[Pair]) -> None:
    """Print, as one JSON object, the two tokens of each pair under its name."""
    print(json.dumps({pair.name: [token_of(pair.left), token_of(pair.right)] for pair in pairs}))


if __name__ == "__main__":
    from tests.battery import PAIRS

    print_tokens(PAIRS)
