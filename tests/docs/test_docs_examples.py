"""The examples of the reference run, and each public name has one."""

from __future__ import annotations

import doctest
from typing import Any

import pytensor
import pytest

import cloudposterior as cp
from cloudposterior.cache import Cache
from cloudposterior.progress.table import Row, Table

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DESCRIBED = {name: getattr(cp, name) for name in cp.__all__}
DESCRIBED |= {"cache.Cache": Cache, "progress.table.Row": Row, "progress.table.Table": Table}
"""All that the reference describes."""


class WhatIsShown(doctest.OutputChecker):
    """Compares what an example shows; progress bars, which none does, are free."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


def examples_of(name: str) -> list[doctest.DocTest]:
    """Find the examples of a name and of its methods."""
    found = doctest.DocTestFinder().find(DESCRIBED[name], name, module=False, globs={})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", DESCRIBED)
def test_docs_examples_show_what_happens(name: str, names: dict[str, Any]) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(WhatIsShown(), verbose=False, optionflags=OPTIONS)
    # models of this size take longer to compile than to draw
    with pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False):
        for test in examples_of(name):
            test.globs = dict(names)
            runner.run(test, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("name", DESCRIBED)
def test_docs_have_an_example_of_each_public_name(name: str) -> None:
    shown = [
        example
        for test in examples_of(name)
        for example in test.examples
        if doctest.SKIP not in example.options
    ]
    assert shown
