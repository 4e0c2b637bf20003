"""Callbacks: what they are told and when, and that nothing that they do costs a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pytest

import cloudposterior as cp
from cloudposterior.callbacks import Telling
from cloudposterior.operations.sample import SampleCall
from cloudposterior.posterior import group

pytestmark = pytest.mark.usefixtures("in_tmp_path", "exact")

Build = Callable[..., pm.Model]
Check = Callable[[Any, Any], None]
Options = dict[str, Any]

METHODS = ("on_start", "on_segment", "on_finish", "on_error")


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Any]] = []

    def on_start(self, run: cp.RunInfo) -> None:
        self.calls.append(("on_start", run, None))

    def on_segment(self, run: cp.RunInfo, status: Any) -> None:
        self.calls.append(("on_segment", run, status))

    def on_finish(self, run: cp.RunInfo, summary: cp.RunSummary) -> None:
        self.calls.append(("on_finish", run, summary))

    def on_error(self, run: cp.RunInfo, error: BaseException) -> None:
        self.calls.append(("on_error", run, error))

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]


class Raises(Heard):
    """Fails in one method, or in all of them."""

    def __init__(self, error: BaseException, method: str = "") -> None:
        super().__init__()
        self._error, self._methods = error, (method,) if method else METHODS

    def __getattribute__(self, name: str) -> Any:
        if name not in METHODS or name not in self._methods:
            return super().__getattribute__(name)
        error, calls = self._error, self.calls

        def fail(*args: Any) -> None:
            calls.append((name, *args, None)[:3])
            raise error

        return fail


def fails(**_: Any) -> None:
    raise RuntimeError("disk full\nsecond line")


def test_run_is_told_at_its_start_and_its_end(build: Build, short: Options) -> None:
    heard = Heard()
    result = cp.sample(build(), callbacks=[heard], **short)
    assert heard.names == ["on_start", "on_finish"]
    (_, run, _), (_, same, summary) = heard.calls
    assert run == same == cp.RunInfo("small", "sample", chains=2, draws=20, tune=20)
    assert run.title == "small: sampling 2 chains"
    assert summary.result is result
    assert not summary.from_cache and summary.missing == "" and summary.elapsed_s > 0


def test_summary_has_the_figures_of_arviz(short: Options) -> None:
    with pm.Model() as model:
        pm.Normal("x", shape=(2, 3))
        pm.Gamma("g", 2, 2)
        pm.Deterministic("constant", model["g"] * 0)
    heard = Heard()
    cp.sample(model, callbacks=[heard], **{**short, "draws": 40})
    summary = heard.calls[-1][2]
    posterior = group(summary.result, "posterior")
    assert posterior is not None and "constant" in posterior
    data = posterior[["x", "g"]]
    r_hat, bulk, tail = az.rhat(data), az.ess(data), az.ess(data, method="tail")
    assert summary.r_hat == pytest.approx(max(float(r_hat[v].max()) for v in ("x", "g")))
    assert summary.ess_bulk == pytest.approx(min(float(bulk[v].min()) for v in ("x", "g")))
    assert summary.ess_tail == pytest.approx(min(float(tail[v].min()) for v in ("x", "g")))
    assert summary.divergences == int(summary.result["sample_stats"]["diverging"].sum())
    assert "result" not in repr(summary)


def test_summary_of_one_chain_has_no_r_hat(build: Build, short: Options) -> None:
    heard = Heard()
    cp.sample(build(), callbacks=[heard], **{**short, "chains": 1})
    summary = heard.calls[-1][2]
    assert summary.r_hat is None and summary.ess_bulk > 0 and summary.divergences == 0


@pytest.mark.filterwarnings("ignore:`find_MAP` will:FutureWarning")
def test_summary_of_few_draws_and_of_predictions_has_no_figures(
    build: Build, short: Options
) -> None:
    heard, model = Heard(), build()
    with cp.cloud(model, callbacks=[heard]):
        idata = pm.sample(**{**short, "draws": 3})
        pm.sample_posterior_predictive(
            idata, progressbar=False, random_seed=1, extend_inferencedata=True
        )
        pm.find_MAP(progressbar=False)
    summaries = [summary for name, _, summary in heard.calls if name == "on_finish"]
    assert [run.function for name, run, _ in heard.calls if name == "on_start"] == [
        "sample",
        "sample_posterior_predictive",
        "find_MAP",
    ]
    assert [(s.r_hat, s.ess_bulk, s.ess_tail) for s in summaries] == [(None, None, None)] * 3
    assert [s.divergences for s in summaries] == [0, None, None]


def test_cached_result_is_told_as_one(
    build: Build, short: Options, runs: list[Any], assert_identical: Check
) -> None:
    heard = Heard()
    first = cp.sample(build(), cache="disk", **short)
    second = cp.sample(build(), cache="disk", callbacks=[heard], **short)
    assert len(runs) == 1
    assert_identical(first, second)
    assert heard.names == ["on_start", "on_finish"]
    assert [run.from_cache for _, run, _ in heard.calls] == [True, True]
    summary = heard.calls[-1][2]
    assert summary.from_cache and summary.ess_bulk > 0


@pytest.mark.parametrize("cache", ["memory", False])
def test_failed_run_is_told_with_its_error(cache: Any, build: Build, short: Options) -> None:
    heard = Heard()
    with pytest.raises(RuntimeError, match="disk full") as raised:
        cp.sample(build(), cache=cache, callbacks=[heard], **short, callback=fails)
    assert heard.names == ["on_start", "on_error"]
    assert heard.calls[-1][2] is raised.value


def test_call_that_is_none_is_not_told(build: Build, short: Options) -> None:
    heard = Heard()
    with cp.cloud(build(), callbacks=[heard]), pytest.raises(TypeError):
        pm.sample(1, 2, 3, 4, 5, **short)
    assert heard.calls == []


def test_stopped_run_says_what_is_missing(build: Build, short: Options) -> None:
    heard = Heard()

    def stop(*, draw: Any, **_: Any) -> None:
        if draw.chain == 0 and draw.draw_idx == 30:
            raise KeyboardInterrupt

    with pytest.warns(cp.CacheWarning, match="interrupted"):
        cp.sample(build(), callbacks=[heard], **short, callback=stop)
    assert heard.names == ["on_start", "on_finish"]
    assert "of 2 chains" in heard.calls[-1][2].missing


def test_several_are_told_in_their_order(build: Build, stub_runs: list[pm.Model]) -> None:
    order: list[str] = []

    class Says:
        def __init__(self, name: str) -> None:
            self._name = name

        def on_finish(self, run: cp.RunInfo, summary: cp.RunSummary) -> None:
            order.append(self._name)

    cp.sample(build(), callbacks=(Says(name) for name in "abc"))
    assert order == ["a", "b", "c"]


@pytest.mark.parametrize("method", ["on_start", "on_finish", ""])
def test_callback_that_raises_costs_a_warning_and_no_run(
    method: str, build: Build, short: Options, assert_same_draws: Check
) -> None:
    with build():
        plain = pm.sample(**short)
    broken, heard = Raises(ValueError("no such table"), method), Heard()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = cp.sample(build(), callbacks=[broken, heard], **short)
    ours = [w for w in caught if w.category is cp.CallbackWarning]
    methods = [method] if method else ["on_start", "on_finish"]
    assert [str(w.message).split(" failed")[0] for w in ours] == [
        f"the callback Raises.{name}" for name in methods
    ]
    assert all("ValueError: no such table" in str(w.message) for w in ours)
    assert all(w.filename == __file__ for w in ours)
    assert_same_draws(result, plain)
    assert heard.names == broken.names == ["on_start", "on_finish"]


def test_callback_that_raises_while_it_hears_of_an_error_hides_it_not(
    build: Build, short: Options
) -> None:
    broken = Raises(ValueError("no such table"), "on_error")
    with (
        pytest.warns(cp.CallbackWarning, match=r"Raises\.on_error .*no such table"),
        pytest.raises(RuntimeError, match="disk full"),
    ):
        cp.sample(build(), callbacks=[broken], **short, callback=fails)


def test_filter_that_raises_warnings_costs_no_run(
    build: Build, stub_runs: list[pm.Model], capsys: pytest.CaptureFixture[str]
) -> None:
    # warnings are errors in these tests
    assert cp.sample(build(), callbacks=[Raises(ValueError("no such table"))]) is not None
    assert capsys.readouterr().err.count("no such table") == 2


def test_error_that_cannot_be_shown_costs_no_run(build: Build, stub_runs: list[pm.Model]) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.warns(cp.CallbackWarning, match="which goes on: Mute"):
        cp.sample(build(), callbacks=[Raises(Mute(), "on_start")])


def test_method_that_failed_is_left_alone_for_the_rest_of_the_run(build: Build) -> None:
    broken = Raises(ValueError("no such table"), "on_segment")
    telling = Telling((broken,), SampleCall(build(), (), {}))
    telling.start()
    listener: Any = telling.listener
    with pytest.warns(cp.CallbackWarning, match="not called again"):
        listener("status")
    # warnings are errors in these tests
    listener("status")
    assert broken.names == ["on_start", "on_segment"]


def test_interrupt_passes_before_the_run_and_costs_no_result_after_it(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        cp.sample(build(), callbacks=[Raises(KeyboardInterrupt(), "on_start")])
    with pytest.warns(cp.CallbackWarning, match="interrupted"):
        result = cp.sample(build(), callbacks=[Raises(KeyboardInterrupt(), "on_finish")])
    assert "posterior" in result


def test_callback_may_call_pymc_itself(build: Build, short: Options) -> None:
    model = build()
    made: list[Any] = []

    class Predicts:
        def on_finish(self, run: cp.RunInfo, summary: cp.RunSummary) -> None:
            made.append(
                pm.sample_posterior_predictive(
                    summary.result, model=model, progressbar=False, random_seed=1
                )
            )

    with cp.cloud(model, callbacks=[Predicts()]):
        pm.sample(**short)
    assert len(made) == 1


def test_base_class_does_nothing(build: Build, stub_runs: list[pm.Model]) -> None:
    class Mine(cp.Callback):
        pass

    assert cp.sample(build(), callbacks=[Mine()]) is not None


class Asynchronous:
    async def on_start(self, run: cp.RunInfo) -> None:
        pass


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        (Heard(), "takes a list of objects.*got an object of type Heard"),
        ("ntfy://user:secret@host", "takes a list.*got an object of type str"),
        ([print], "on_start, on_segment, on_finish, on_error.*has none of them"),
        ([Heard], r"Heard is a class, pass Heard\(\)"),
        ([Asynchronous()], "not awaited"),
    ],
)
def test_what_is_no_callback_is_refused(callbacks: Any, words: str, build: Build) -> None:
    with pytest.raises(TypeError, match=words) as raised:
        cp.cloud(build(), callbacks=callbacks)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("name", ["callbacks", "notify"])
def test_run_that_needs_no_client_takes_none(name: str, build: Build) -> None:
    given: Any = {name: "ntfy://user:secret@host"}
    with pytest.raises(TypeError, match=f"{name}= .*use cp.cloud or cp.sample") as raised:
        cp.submit(build(), cluster="tcp://127.0.0.1:1", **given)
    assert "secret" not in str(raised.value)


def test_callbacks_are_in_no_key(build: Build, stub_runs: list[pm.Model]) -> None:
    cp.sample(build())
    cp.sample(build(), callbacks=[Heard()])
    assert len(stub_runs) == 1


def test_posterior_of_no_use_gives_no_figures(build: Build, stub_runs: list[pm.Model]) -> None:
    heard = Heard()
    cp.sample(build(), callbacks=[heard])
    summary = heard.calls[-1][2]
    # what the stand-in made has neither the variable nor statistics
    assert (summary.r_hat, summary.ess_bulk, summary.divergences) == (None, None, None)
    assert np.isfinite(summary.elapsed_s)
