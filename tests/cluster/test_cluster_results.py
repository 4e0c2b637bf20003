"""What `pm.sample` returns, records, calls and says: the same from a cluster."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytest
from distributed import Client
from pymc.backends import NDArray
from pymc.backends import zarr as pymc_zarr

from cloudposterior.posterior import to_tree

from . import models
from .sameness import (
    TIMES,
    Options,
    assert_same_result,
    on_cluster,
    plain,
    same_values,
)

pytestmark = [
    pytest.mark.usefixtures("quick_compiling", "cut_small"),
    # PyMC 6 warns of what its users should do instead
    pytest.mark.filterwarnings("ignore:`return_inferencedata=False` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Passing `log_likelihood` via:FutureWarning"),
]

Sample = Callable[..., Any]


@pytest.fixture
def cluster(two_workers: Client) -> Sample:
    """Sample on the cluster."""
    return lambda model, **options: on_cluster(model, two_workers, **options)


RESULTS: dict[str, Options] = {
    "tuning discarded": {"discard_tuned_samples": True},
    "log-likelihood": {"idata_kwargs": {"log_likelihood": True}},
    "log-likelihood without tuning": {
        "idata_kwargs": {"log_likelihood": ["y"]},
        "discard_tuned_samples": True,
    },
    "log-prior": {"idata_kwargs": {"log_prior": True}},
    "transformed variables": {"idata_kwargs": {"include_transformed": True}},
    "coords and dims": {
        "idata_kwargs": {"coords": {"half": [10, 20]}, "dims": {"both": ["half"]}},
    },
    "no tuning in the groups": {"idata_kwargs": {"save_warmup": False}},
    "some variables": {"var_names": ["twice", "slope"]},
    "one variable without its transform": {"var_names": ["spread"]},
    "checks": {"compute_convergence_checks": True, "draws": 30},
    "warnings kept": {"keep_warning_stat": True},
}


def several() -> pm.Model:
    """Data, a deterministic vector, a transformed variable."""
    with pm.Model(coords={"obs": ["a", "b", "c", "d", "e"]}) as model:
        x = pm.Data("x", np.arange(5.0), dims="obs")
        slope = pm.Normal("slope")
        spread = pm.HalfNormal("spread")
        pm.Deterministic("twice", 2 * slope)
        pm.Deterministic("both", pm.math.stack([slope, spread]))
        pm.Normal("y", slope * x, spread, observed=models.Y, dims="obs")
    return model


@pytest.mark.parametrize("name", RESULTS)
def test_result_is_that_of_plain(name: str, cluster: Sample) -> None:
    ours, theirs = (run(several(), **RESULTS[name]) for run in (cluster, plain))
    if name == "warnings kept":
        kept = [r["sample_stats"]["warning"].to_numpy() for r in (ours, theirs)]
        assert np.vectorize(str)(kept[0]).tolist() == np.vectorize(str)(kept[1]).tolist()
        ours, theirs = (without_warnings(result) for result in (ours, theirs))
    assert_same_result(ours, theirs)


def without_warnings(result: Any) -> Any:
    tree = to_tree(result)
    for group in ("sample_stats", "warmup_sample_stats"):
        tree[group] = tree[group].to_dataset().drop_vars("warning")
    return tree


def test_result_of_a_model_with_a_name_is_that_of_plain(cluster: Sample) -> None:
    options = {"var_names": ["named::mu"], "discard_tuned_samples": True}
    ours, theirs = (run(models.normal("named"), **options) for run in (cluster, plain))
    assert_same_result(ours, theirs)


def test_variable_that_is_unknown_raises_as_in_plain(cluster: Sample) -> None:
    for run in (cluster, plain):
        with pytest.raises(Exception, match="Not all var_names were found"):
            run(several(), var_names=["nobody"])


@pytest.mark.filterwarnings("ignore:Tuning samples will be included:UserWarning")
@pytest.mark.parametrize("discard", [True, False])
def test_multitrace_is_that_of_plain(discard: bool, cluster: Sample) -> None:
    options = {"return_inferencedata": False, "discard_tuned_samples": discard}
    ours, theirs = (run(models.changepoint(), **options) for run in (cluster, plain))
    assert_same_traces(ours, theirs)


def assert_same_traces(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    assert ours.chains == theirs.chains
    assert ours.varnames == theirs.varnames
    assert len(ours) == len(theirs)
    assert ours.stat_names == theirs.stat_names
    assert ours.nchains == theirs.nchains
    assert ours.report.n_tune == theirs.report.n_tune
    assert ours.report.n_draws == theirs.report.n_draws
    assert ours.report.t_sampling > 0
    for name in theirs.varnames:
        values = [trace.get_values(name, combine=False) for trace in (ours, theirs)]
        for one, other in zip(*values, strict=True):
            assert one.dtype == other.dtype
            assert same_values(one, other), name
    for name in theirs.stat_names - TIMES - {"warning"}:
        one, other = (np.asarray(t.get_sampler_stats(name)) for t in (ours, theirs))
        assert one.dtype == other.dtype
        assert same_values(one, other), name
    for one, other in zip(ours.points(), theirs.points(), strict=True):
        assert one.keys() == other.keys()
    assert ours.point(3).keys() == theirs.point(3).keys()


def test_multitrace_can_be_sliced_and_made_a_posterior(cluster: Sample) -> None:
    model = several()
    trace = cluster(model, return_inferencedata=False, discard_tuned_samples=True)
    expected = plain(several(), discard_tuned_samples=True)
    posterior = pm.to_inference_data(trace[2:], model=model)["posterior"]
    for name, values in expected["posterior"].data_vars.items():
        assert np.array_equal(posterior[name].to_numpy(), values.to_numpy()[:, 2:])


def test_trace_of_the_users_is_filled_as_in_plain(cluster: Sample) -> None:
    results = []
    for run in (cluster, plain):
        model = several()
        backend = NDArray(model=model)
        # of several chains PyMC's own come out mixed: they share the arrays of the backend
        results.append(run(model, trace=backend, chains=1))
        assert len(backend) == 0
    assert_same_result(*results)


@pytest.mark.filterwarnings("ignore:.*zarr.*")
def test_trace_in_zarr_is_filled_as_in_plain(cluster: Sample, tmp_path: Path) -> None:
    if not getattr(pymc_zarr, "_zarr_available", False):
        pytest.skip("PyMC cannot use the zarr that is installed, if any")
    import zarr

    traces = []
    for run in (cluster, plain):
        store = zarr.storage.DirectoryStore(str(tmp_path / str(len(traces))))
        trace = pymc_zarr.ZarrTrace(store=store, include_transformed=True)
        # as the newer releases of xarray cannot read it
        returned = run(several(), trace=trace, return_inferencedata=False)
        assert returned is trace
        traces.append(trace)
    ours, theirs = traces
    assert ours.groups() == theirs.groups()
    for group in (g for g in theirs.groups() if g != "_sampling_state"):
        for name, values in theirs.root[group].arrays():
            # there they bear the number of the step method
            if name.split("__")[-1] not in TIMES:
                assert same_values(ours.root[group][name][:], values[:]), f"{group}/{name}"
    assert np.array_equal(ours._sampling_state.draw_idx[:], theirs._sampling_state.draw_idx[:])


Seen = dict[int, list[tuple[Any, ...]]]


def watching(seen: Seen) -> Callable[..., None]:
    def callback(*, trace: Any, draw: Any) -> None:
        point = {name: np.array(value) for name, value in draw.point.items()}
        stats = [{k: v for k, v in one.items() if k not in TIMES} for one in draw.stats]
        seen[draw.chain].append((draw.draw_idx, draw.tuning, draw.is_last, point, stats))
        assert len(trace) == draw.draw_idx + 1
        assert trace.chain == draw.chain

    return callback


@pytest.mark.parametrize("var_names", [None, ["year"]])
def test_callback_is_called_as_in_plain(var_names: Any, cluster: Sample) -> None:
    calls: list[Seen] = [defaultdict(list), defaultdict(list)]
    results = [
        run(models.changepoint(), callback=watching(seen), var_names=var_names)
        for run, seen in zip((cluster, plain), calls, strict=True)
    ]
    assert_same_result(*results)
    ours, theirs = calls
    assert ours.keys() == theirs.keys()
    for chain, expected in theirs.items():
        for one, other in zip(ours[chain], expected, strict=True):
            assert one[:3] == other[:3]
            assert one[3].keys() == other[3].keys()
            assert all(same_values(one[3][k], other[3][k]) for k in one[3])
            for mine, its in zip(one[4], other[4], strict=True):
                assert mine.keys() == its.keys()
                assert all(same_values(np.asarray(mine[k]), np.asarray(its[k])) for k in its)


def test_callback_that_interrupts_leaves_what_was_drawn(cluster: Sample) -> None:
    def interrupt(*, trace: Any, draw: Any) -> None:
        if draw.draw_idx == 20:
            raise KeyboardInterrupt

    options = {"draws": 40, "random_seed": 4}
    partial = cluster(several(), callback=interrupt, **options)
    whole = plain(several(), **options)
    assert 0 < partial["posterior"].sizes["draw"] < 40
    for chain, values in zip(*chains_that_match(partial, whole), strict=True):
        assert np.array_equal(chain, values)
    # and everything goes on
    assert_same_result(cluster(several(), **options), whole)


def chains_that_match(partial: Any, whole: Any) -> tuple[list[Any], list[Any]]:
    """Give the chains of a result that was cut short, and as much of each of the whole one."""
    mine = partial["posterior"]["slope"].to_numpy()
    all_of = whole["posterior"]["slope"].to_numpy()[:, : mine.shape[1]]
    firsts = [chain[0] for chain in all_of]
    return list(mine), [all_of[firsts.index(chain[0])] for chain in mine]


def test_callback_that_fails_raises_its_error(cluster: Sample) -> None:
    def fail(*, trace: Any, draw: Any) -> None:
        raise LookupError("of the user's")

    for run in (cluster, plain):
        with pytest.raises(LookupError, match="of the user's"):
            run(several(), callback=fail)


LINES_OF_WHERE = ("Multiprocess sampling", "Sampling 2 chains on", "Sampling 2 chains for")


def said(caplog: pytest.LogCaptureFixture, run: Sample, *args: Any, **options: Any) -> list[Any]:
    """Give what PyMC logs in a run, but where it runs and how long it takes."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "pymc"):
        run(*args, **options)
    return [
        (record.levelno, record.getMessage())
        for record in caplog.records
        if record.name.startswith("pymc") and not record.getMessage().startswith(LINES_OF_WHERE)
    ]


def funnel() -> pm.Model:
    """A model that no step size fits."""
    with pm.Model() as model:
        z = pm.Normal("z", 0.0, 4.0)
        pm.Normal("x", 0.0, pm.math.exp(z), shape=3)
    return model


def test_messages_are_those_of_plain(cluster: Sample, caplog: pytest.LogCaptureFixture) -> None:
    options = {"compute_convergence_checks": True, "draws": 100, "tune": 5, "max_treedepth": 3}
    ours, theirs = (said(caplog, run, funnel(), **options) for run in (cluster, plain))
    assert sorted(ours) == sorted(theirs)
    text = " ".join(message for _, message in ours)
    assert "divergences after tuning" in text
    assert "rhat" in text
    assert "maximum tree depth" in text


def test_messages_of_step_methods_are_those_of_plain(
    cluster: Sample, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = (said(caplog, run, models.mixture()) for run in (cluster, plain))
    assert ours == theirs


def test_checks_that_are_not_asked_for_say_nothing(
    cluster: Sample, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = (said(caplog, run, funnel(), draws=100, tune=5) for run in (cluster, plain))
    assert ours == theirs
    assert not [message for level, message in ours if level >= logging.WARNING]


def test_quiet_prints_nothing(
    cluster: Sample, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = said(caplog, cluster, funnel(), quiet=True, compute_convergence_checks=True)
    assert lines == []
    assert capfd.readouterr() == ("", "")


def test_warning_statistic_is_dropped_as_in_plain(cluster: Sample) -> None:
    result = cluster(funnel(), tune=5)
    assert "warning" not in result["sample_stats"]


def test_result_may_be_changed_by_its_owner(cluster: Sample) -> None:
    result = cluster(several())
    values = result["posterior"]["slope"].values
    values[:] = 0.0
    assert not result["posterior"]["slope"].values.any()
