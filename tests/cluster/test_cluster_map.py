"""Many fits at once: each is plain PyMC's, in its place, and kept on its own."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pytest
from distributed import Client
from rich.console import Console

import cloudposterior as cp
from cloudposterior import many
from cloudposterior.cache import MemoryCache
from cloudposterior.cluster import keeping
from cloudposterior.posterior import to_tree
from cloudposterior.progress.fits import FitsBar
from tests.cluster import models
from tests.cluster.sameness import SHORT, assert_same, plain
from tests.test_callbacks import Heard, Raises

pytestmark = pytest.mark.usefixtures("quick_compiling", "cut_small")


def named(name: str, sigma: float = 1.0) -> pm.Model:
    with pm.Model(name=name) as model:
        mu = pm.Normal("mu", 0.0, sigma)
        pm.Normal("y", mu, 1.0, observed=models.Y)
    return model


def broken() -> pm.Model:
    """A model whose chains cannot begin."""
    with pm.Model(name="broken") as model:
        x = pm.Normal("x")
        pm.Potential("never", x * -np.inf)
    return model


def test_fits_of_a_dict_are_those_of_plain_and_can_be_compared(cluster: Client) -> None:
    options = {**SHORT, "draws": 50, "tune": 50}
    made = {"wide": named("a", 10.0), "narrow": named("b", 0.1)}
    fits = cp.map(
        made,
        cluster=cluster,
        cache=False,
        **options,
    )
    assert list(fits) == ["wide", "narrow"]
    assert_same(fits["wide"], plain(named("a", 10.0), **options))
    assert_same(fits["narrow"], plain(named("b", 0.1), **options))
    for name, model in made.items():
        pm.compute_log_likelihood(fits[name], model=model, progressbar=False)
    assert set(az.compare(fits).index) == {"wide", "narrow"}
    assert keeping.runs_kept(cluster) == []


def test_each_fit_may_have_arguments_of_its_own(cluster: Client) -> None:
    made = (named(name) for name in "abc")
    fits = cp.map(
        made,
        arguments=[{"random_seed": seed} for seed in (1, 2, 3)],
        cluster=cluster,
        cache=False,
        **{**SHORT, "draws": 5},
    )
    for name, seed, fit in zip("abc", (1, 2, 3), fits, strict=True):
        assert_same(fit, plain(named(name), **{**SHORT, "draws": 5, "random_seed": seed}))


@pytest.mark.parametrize("on_cluster", [True, False], ids=["on a cluster", "here"])
def test_callbacks_are_told_of_each_fit(
    on_cluster: bool, cluster: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "_SEGMENTS_S", 0.0)
    heard, breaks, cache = Heard(), Raises(RuntimeError("no"), "on_start"), MemoryCache()
    options = {**SHORT, "cluster": cluster if on_cluster else None, "cache": cache, "cores": 1}
    first = cp.sample(named("kept"), **options)
    with pytest.warns(cp.CallbackWarning, match="on_start failed"):
        fits = cp.map(
            [named("kept"), broken(), named("new"), named("new")],
            callbacks=[breaks, heard],
            on_error="return",
            **options,
        )
    assert_same(fits[0], first)
    told = {
        model: [name for name, run, _ in heard.calls if run.model == model and "seg" not in name]
        for model in ("kept", "broken", "new")
    }
    assert told["kept"] == ["on_start", "on_finish"]
    assert told["broken"] == ["on_start", "on_error"]
    assert sorted(told["new"]) == ["on_finish"] * 2 + ["on_start"] * 2
    assert next(run.from_cache for name, run, _ in heard.calls if name == "on_start")
    (error,) = (error for name, _, error in heard.calls if name == "on_error")
    assert type(error) is type(fits[1])
    segments = {run.model for name, run, _ in heard.calls if name == "on_segment"}
    assert ("new" in segments) == on_cluster
    assert "kept" not in segments


def test_callbacks_of_a_single_fit_are_refused() -> None:
    with pytest.raises(TypeError, match="notify= is for all fits: pass it to cp.map itself"):
        cp.map([named("a")], arguments=[{"notify": "ntfy://topic"}], cluster=None, **SHORT)
    with pytest.raises(TypeError, match="callbacks= takes a list of objects"):
        cp.map([named("a")], callbacks=7, **SHORT)


def test_generator_is_asked_when_there_is_room(
    cluster: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, most, fetched = itertools.count(), [], []
    fetch = many._Mapping._fetch

    def fetching(self: Any, of: Any) -> None:
        most.append(len(asked) - len(fetched))
        fetch(self, of)
        fetched.append(of)

    asked: list[int] = []

    def making() -> Iterator[pm.Model]:
        for _ in range(9):
            asked.append(next(made))
            yield named(f"m{asked[-1]}")

    monkeypatch.setattr(many._Mapping, "_fetch", fetching)
    fits = cp.map(making(), cluster=cluster, cache=False, **SHORT)
    # two threads, and two more
    assert len(fits) == 9 and max(most) == 4


def test_error_stands_in_its_place(cluster: Client) -> None:
    fits = cp.map(
        {"good": named("a"), "bad": broken(), "as good": named("c")},
        cluster=cluster,
        cache=False,
        on_error="return",
        **SHORT,
    )
    assert isinstance(fits["bad"], Exception)
    assert "while sampling model 'bad' (broken)" in fits["bad"].__notes__
    assert_same(fits["as good"], plain(named("c")))


def test_error_is_raised_and_the_same_call_does_what_is_missing(
    cluster: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = cp.MemoryCache()
    made: dict[str, Callable[[], pm.Model]] = {
        "first": lambda: named("first"),
        "bad": broken,
        "last": lambda: named("last"),
    }
    with pytest.raises(Exception, match=r"\S") as failed:
        cp.map({k: f() for k, f in made.items()}, cluster=cluster, cache=cache, **SHORT)
    assert "while sampling model 'bad' (broken)" in failed.value.__notes__
    made["bad"] = lambda: named("mended")
    fits = cp.map({k: f() for k, f in made.items()}, cluster=cluster, cache=cache, **SHORT)
    capsys.readouterr()
    again = cp.map({k: f() for k, f in made.items()}, cluster=cluster, cache=cache, **SHORT)
    assert capsys.readouterr().out.count("cached result") == 3
    for name in made:
        assert_same(fits[name], plain(made[name]()))
        assert_same(again[name], fits[name])


def test_equal_requests_are_one_run(cluster: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    result = cp.SubmittedRun.result
    monkeypatch.setattr(
        cp.SubmittedRun, "result", lambda self: (fetched.append(self.id), result(self))[1]
    )
    one, other = cp.map([named("a"), named("a")], cluster=cluster, cache=False, **SHORT)
    assert len(fetched) == 1
    assert_same(one, other)
    to_tree(one)["posterior"]["a::mu"][:] = 0.0
    assert_same(other, plain(named("a")))


def test_without_a_cluster_one_comes_after_the_other() -> None:
    cache = cp.MemoryCache()
    fits = cp.map([named("a"), named("b")], cache=cache, progress=False, **SHORT)
    assert_same(fits[1], plain(named("b")))
    assert len(list(cache.entries())) == 2
    one, error = cp.map(
        [named("a"), broken()], cache=cache, on_error="return", progress=False, **SHORT
    )
    assert_same(one, fits[0])
    assert isinstance(error, Exception)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"models": named("a")}, "several models"),
        ({"on_error": "ignore"}, "'raise' or 'return': got 'ignore'"),
        ({"models": [named("a"), 5]}, "1 is a int"),
        ({"arguments": [{}]}, "there is none for 'b'"),
        ({"arguments": [{}, {}, {}]}, "more sets of arguments"),
        ({"arguments": {"c": {}}}, "names that models= has not: 'c'"),
    ],
)
def test_what_cannot_be_mapped_is_said(
    arguments: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "sample", lambda model, **_: None)
    call = {"models": {"a": named("a"), "b": named("b")}, "progress": False, **arguments}
    with pytest.raises((TypeError, ValueError), match=match):
        cp.map(call.pop("models"), **call)


def test_bar_says_how_many_are_done_running_and_failed() -> None:
    out = io.StringIO()
    with FitsBar(3, console=Console(file=out, width=100)) as bar:
        bar.show(running=2)
        bar.done()
        bar.failed()
        bar.show(running=1)
    # where nothing can be drawn in place, only how it ends
    assert "2/3 0 running, 1 failed" in out.getvalue()


def test_bar_of_a_notebook_leaves_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(file=io.StringIO(), width=100)
    with FitsBar(3, console=console) as bar:
        bar.done()
        bar.failed()
        # of which nothing is kept that is drawn in place
        console.is_jupyter = True
    assert capsys.readouterr().out.endswith("\nfits: 2 of 3 done, 1 of them failed\n")


def test_bar_that_breaks_ends_nothing() -> None:
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError("no terminal")

    with (
        pytest.warns(cp.DisplayWarning, match="no more: OSError"),
        FitsBar(1, console=Console(file=Broken(), force_terminal=True)) as bar,
    ):
        bar.done()
