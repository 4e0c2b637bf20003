"""`cp.submit` and `cp.attach`: runs that go on without whoever asked for them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
import pymc as pm
import pytensor
import pytest
from distributed import Client, LocalCluster

import cloudposterior as cp
from cloudposterior import submission
from cloudposterior.cluster import driver, keeping, plugin, reach
from cloudposterior.cluster.sealed import opened
from cloudposterior.config import cluster_setting, settings_here, settings_of_client
from cloudposterior.posterior import to_tree

from . import models
from .conftest import NO_DASHBOARD, PATIENCE_S, Commands, until
from .held import Held, Script
from .sameness import SHORT, assert_same, on_cluster, plain

pytestmark = [
    pytest.mark.once,
    pytest.mark.usefixtures("in_tmp_path", "quick_compiling"),
]

ROOT = Path(__file__).parents[2]
WHOLE = SHORT["draws"] + SHORT["tune"]
LONG = {**SHORT, "draws": 10_000_000}


def submit(cluster: Any, model: pm.Model | None = None, **options: Any) -> cp.SubmittedRun:
    return cp.submit(model or models.normal(), cluster=cluster, **{**SHORT, **options})


def mu(result: Any) -> np.ndarray[Any, Any]:
    return to_tree(result)["posterior"]["small::mu"].to_numpy()


def differ(one: Any, other: Any) -> bool:
    return not np.array_equal(mu(one), mu(other))


def everything_of(client: Client, run: cp.SubmittedRun) -> list[str]:
    """List what is on a cluster of a run: names of data sets, and tasks."""
    # what failed earlier may hold futures in cycles, here and where runs are driven
    gc.collect()
    client.run(gc.collect)
    return client.run_on_scheduler(_everything_of, run.id)


def _everything_of(run: str, dask_scheduler: Any) -> list[str]:
    names = map(str, dask_scheduler.extensions["publish"].datasets)
    tasks_there = map(str, dask_scheduler.tasks)
    # of tasks those that scatter made have no name
    ours = [key for key in tasks_there if "small" in key or key.startswith("Sealed-")]
    return [name for name in names if run in name] + ours


def begun(run: cp.SubmittedRun, draws: int = 1) -> bool:
    """Tell whether all chains of a long run have got so far."""
    rows = run.status().rows
    return bool(rows) and all(row.drawn >= draws for row in rows)


def program(text: str, *arguments: str) -> list[str]:
    """Give the command that runs a program with the models of these tests."""
    before = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    return [sys.executable, "-c", before + textwrap.dedent(text), *arguments]


def same_flags() -> dict[str, str]:
    """Give the environment in which a process compiles as this one does."""
    return {**os.environ, "PYTENSOR_FLAGS": "mode=FAST_COMPILE,numba__fastmath=False"}


@pytest.fixture
def script(cluster: Client, tmp_path: Path) -> Iterator[Script]:
    """Two workers that do what the test says."""
    yield from scripted(cluster, tmp_path)


def scripted(client: Client, directory: Path) -> Iterator[Script]:
    script = Script(directory)
    client.register_plugin(Held(str(directory)))
    yield script
    script.mend()
    script.go_on()
    client.unregister_worker_plugin("held")


@pytest.fixture(scope="module")
def mortal() -> Iterator[Client]:
    """A cluster whose workers may be killed: others take their place."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def mortal_script(mortal: Client, tmp_path: Path) -> Iterator[Script]:
    """The same, which do what the test says."""
    mortal.wait_for_workers(2, timeout=PATIENCE_S)
    yield from scripted(mortal, tmp_path)


# from the call to the result ---------------------------------------------------------------------


def test_submit_returns_before_the_run_is_done_and_gives_what_pymc_gives(
    cluster: Client, script: Script
) -> None:
    script.hold()
    run = submit(cluster)
    assert not run.done()
    with pytest.raises(TimeoutError, match="has not ended within 0.1 s; it goes on"):
        run.result(timeout=0.1)
    assert run.status().phase != "finished"
    script.go_on()
    result = run.result()
    assert run.done()
    assert run.status().phase == "finished"
    assert [row.drawn for row in run.status().rows] == [WHOLE, WHOLE]
    assert "small" in repr(run)
    assert run.result() is result
    assert_same(result, plain(models.normal()))
    assert result.attrs["cloudposterior_random_seed"] == SHORT["random_seed"]


def test_nutpie_gives_what_it_gives_on_a_cluster(cluster: Client) -> None:
    pytest.importorskip("nutpie")
    options = {"nuts_sampler": "nutpie", "draws": 20}
    assert_same(
        submit(cluster, **options).result(), on_cluster(models.normal(), cluster, **options)
    )


def a_step(model: pm.Model) -> dict[str, Any]:
    with model:
        return {"step": pm.Metropolis([model["year"]], scaling=0.5)}


@pytest.mark.parametrize(
    ("build", "more"),
    [
        (models.regression, lambda model: {}),
        (models.custom, lambda model: {"nuts": {"max_treedepth": 4}}),
        (models.changepoint, a_step),
        (models.regression, lambda model: {"random_seed": np.random.default_rng(3)}),
        (models.regression, lambda model: {"initvals": {"slope": 0.3}, "var_names": ["slope"]}),
    ],
    ids=["data", "custom", "step", "generator", "arguments"],
)
def test_what_a_call_is_made_of_travels(
    build: Callable[[], pm.Model], more: Callable[[pm.Model], dict[str, Any]], cluster: Client
) -> None:
    model, other = build(), build()
    assert_same(submit(cluster, model, **more(model)).result(), plain(other, **more(other)))


@pytest.mark.filterwarnings("ignore:(.|\n)*return_inferencedata=False:FutureWarning")
def test_result_without_inference_data_is_pymcs_trace(cluster: Client) -> None:
    options = {"return_inferencedata": False, "discard_tuned_samples": True}
    with pytest.warns(cp.TokenWarning, match="return_inferencedata=False"):
        run = submit(cluster, **options)
    theirs = plain(models.normal(), **options)
    ours = run.result()
    assert type(ours) is type(theirs)
    assert np.array_equal(ours["small::mu"], theirs["small::mu"])


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_settings_of_pytensor_travel(cluster: Client) -> None:
    with pytensor.config.change_flags(floatX="float32"):
        ours, theirs = submit(cluster).result(), plain(models.normal())
    assert mu(ours).dtype == np.float32
    assert_same(ours, theirs)
    assert "floatX=float32" in ours.attrs["cloudposterior_pytensor_flags"]


def test_settings_of_the_client_travel_and_leave_the_workers_alone(
    cluster: Client, script: Script
) -> None:
    script.hold()
    with dask.config.set({"cloudposterior.cluster.keep-results": "2 hours"}):
        run = submit(cluster)
    until(lambda: run.status().rows)
    # meanwhile, in the thread of another task
    assert set(cluster.run(cluster_setting, "keep-results").values()) == {"1 day"}
    script.go_on()
    until(run.done)
    assert cluster.run_on_scheduler(_seconds_left, run.id) > 3600
    assert set(cluster.run(cluster_setting, "keep-results").values()) == {"1 day"}


def _seconds_left(run: str, dask_scheduler: Any) -> float:
    due = dask_scheduler.plugins["cloudposterior-expiry"]._due[run]
    return float(due.when() - asyncio.get_running_loop().time())


def test_settings_of_clients_do_not_mix() -> None:
    own = cluster_setting("segment")
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def read(segment: str) -> str:
        with dask.config.set({"cloudposterior.cluster.segment": segment}):
            carried = settings_here()
        with settings_of_client({"cloudposterior": {"cluster": {"segment": segment}}}):
            both.wait()
            assert carried["cloudposterior"]["cluster"]
            return str(cluster_setting("segment"))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(read, ["1s", "2s"])) == ["1s", "2s"]
    assert cluster_setting("segment") == own


def test_what_pymc_says_arrives_with_the_result(
    cluster: Client, caplog: pytest.LogCaptureFixture
) -> None:
    run = submit(cluster, compute_convergence_checks=True)
    until(run.done)
    with caplog.at_level(logging.INFO, logger="pymc"):
        assert caplog.text == ""
        run.result()
    for text in ("Sampling 2 chains on tcp", "draw iterations", "too small to check convergence"):
        assert caplog.text.count(text) == 1, text


def test_quiet_run_says_nothing(cluster: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pymc"):
        submit(cluster, quiet=True).result()
    assert [record for record in caplog.records if record.name == "pymc"] == []


def test_warning_of_a_worker_arrives_and_ends_nothing(cluster: Client, tmp_path: Path) -> None:
    before = cluster.run(os.getpid)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "small").touch()  # where a directory is wanted
    run = submit(cluster, cache=tmp_path / "cache")
    until(run.done)
    # it is raised here, where warnings are errors, and costs no result
    with pytest.raises(cp.CacheWarning, match="could not be saved"):
        run.result()
    assert mu(run.result()).shape == (2, SHORT["draws"], 2)
    assert cluster.run(os.getpid) == before


def test_result_does_not_pass_through_the_scheduler(cluster: Client) -> None:
    run = submit(cluster)
    cluster.run_on_scheduler(_close_way)
    try:
        assert mu(run.result()).shape == (2, SHORT["draws"], 2)
    finally:
        cluster.run_on_scheduler(_open_way)


def _close_way(dask_scheduler: Any) -> None:
    dask_scheduler._own_gather = dask_scheduler.handlers.pop("gather")


def _open_way(dask_scheduler: Any) -> None:
    dask_scheduler.handlers["gather"] = dask_scheduler._own_gather


# who asks ----------------------------------------------------------------------------------------


SUBMITS = """
    import sys
    import cloudposterior as cp
    from tests.cluster.models import normal
    from tests.cluster.sameness import SHORT
    if __name__ == "__main__":
        run = cp.submit(normal(), **SHORT, cluster=sys.argv[1])
        print(run.id, flush=True)
        sys.stdin.read()
"""


def test_run_outlives_the_process_that_submitted_it(cluster: Client, script: Script) -> None:
    """Another process finds it, by its id and by the same request; nothing is drawn twice."""
    script.hold(15)
    address = cluster.scheduler.address
    with subprocess.Popen(
        program(SUBMITS, address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=same_flags(),
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        found = cp.attach(name, cluster=address)
        until(lambda: script.reached(15))
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    again = submit(cluster)
    assert again.id == found.id == name
    script.go_on()
    theirs = plain(models.normal())
    assert_same(found.result(), theirs)
    # it was fetched, and whoever had found it before gets it all the same
    with pytest.raises(cp.ClusterError, match=rf"no run '{name}'.*\n?.*Runs there: none"):
        cp.attach(name, cluster=cluster)
    assert_same(again.result(), theirs)
    assert set(script.drawn().values()) == {1}
    until(lambda: not everything_of(cluster, again))


def test_all_who_ask_without_a_seed_get_the_same_draws(
    cluster: Client, script: Script, tmp_path: Path
) -> None:
    """By `cp.submit`, and by `cp.sample`, which shows the run; each keeps it in its own cache."""
    script.hold(15)
    caches = [cp.MemoryCache(), cp.DiskCache(tmp_path / "one"), cp.DiskCache(tmp_path / "two")]
    unseeded = {"random_seed": None}
    first = submit(cluster, **unseeded, cache=caches[0])
    until(lambda: script.reached(15))
    second = submit(cluster, **unseeded, cache=caches[1])
    with ThreadPoolExecutor(1) as pool, Client(cluster.scheduler.address) as other:
        sampling = pool.submit(
            cp.sample, models.normal(), cluster=other, cache=caches[2], **{**SHORT, **unseeded}
        )
        (shown,) = until(cp.runs)
        until(lambda: shown.status().detail == "this run was submitted before")
        script.go_on()
        third = sampling.result()
    # what `cp.sample` has seen is there for those who submitted
    results = [first.result(), second.result()]
    for result in results:
        assert_same(result, third)
    assert set(script.drawn().values()) == {1}
    assert len(script.drawn()) == 2 * WHOLE
    seeds = {one.attrs["cloudposterior_random_seed"] for one in (*results, third)}
    assert len(seeds) == 1
    for cache in caches:
        (entry,) = cache.entries()
        assert entry.record.random_seed == third.attrs["cloudposterior_random_seed"]
    assert len({cache.entries()[0].record.token for cache in caches}) == 1
    # and knows where its chains ended, for a longer run
    for cache in caches:
        before = sum(script.drawn().values())
        cp.sample(
            models.normal(), cluster=cluster, cache=cache, **{**SHORT, **unseeded, "draws": 20}
        )
        assert sum(script.drawn().values()) == before + 2 * (20 - 12)
        cache.clear()


@pytest.mark.parametrize("ended", [False, True], ids=["under way", "ended"])
def test_connection_that_breaks_and_comes_back_loses_no_run(
    cluster: Client, script: Script, ended: bool
) -> None:
    """As that of a laptop that was closed: Dask lets go of all tasks of its client."""
    script.hold(15)
    with Client(cluster.scheduler.address, set_as_default=False) as client:
        run = submit(client, cache=False)
        until(lambda: script.reached(15))
        if ended:
            script.go_on()
            until(run.done)
        task = run._future
        assert task is not None
        client.loop.add_callback(client.scheduler_comm.comm.abort)
        until(task.cancelled)
        script.go_on()
        assert_same(run.result(), plain(models.normal()))
        until(lambda: not keeping.runs_kept(cluster))


def test_connection_that_breaks_while_somebody_waits_loses_no_run(
    cluster: Client, script: Script
) -> None:
    script.hold(15)
    with (
        Client(cluster.scheduler.address, set_as_default=False) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        run = submit(client, cache=False)
        waiting = pool.submit(run.result)
        until(lambda: script.reached(15))
        task = run._future
        assert task is not None
        client.loop.add_callback(client.scheduler_comm.comm.abort)
        until(task.cancelled)
        until(lambda: run._future is not task)
        script.go_on()
        assert_same(waiting.result(PATIENCE_S), plain(models.normal()))


def test_stop_of_one_who_has_joined_stops_the_run(cluster: Client) -> None:
    run = submit(cluster, **LONG)
    until(lambda: begun(run, 11))

    def stop() -> None:
        (joined,) = until(cp.runs)
        until(lambda: joined.status().rows and joined.status().rows[0].drawn)
        joined.stop()

    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop)
        with pytest.warns(cp.CacheWarning, match="not cached"):
            short = cp.sample(models.normal(), **LONG, cluster=cluster)
        stopping.result()
    assert 0 < mu(short).shape[1] < LONG["draws"]
    with pytest.warns(cp.CacheWarning, match="not cached"):
        assert_same(run.result(), short)


def test_interrupt_of_one_who_has_joined_leaves_the_run_alone(
    cluster: Client, script: Script
) -> None:
    script.hold(15)
    run = submit(cluster)
    until(lambda: script.reached(15))

    def interrupt() -> None:
        (joined,) = until(cp.runs)
        until(lambda: joined.status().detail == "this run was submitted before")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt) as told:
        pool.submit(interrupt)
        cp.sample(models.normal(), **SHORT, cluster=cluster)
    assert run.id in told.value.__notes__[0]
    script.go_on()
    assert_same(run.result(), plain(models.normal()))


def test_cached_request_asks_no_cluster(
    cluster: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = submit(cluster, cache="memory").result()
    run = submit("tcp://127.0.0.1:1", cache="memory")
    assert run.done()
    assert "cached result" in capsys.readouterr().out
    assert_same(run.result(), kept)
    # with nothing to end
    run.cancel()
    run.close()


def test_overwrite_joins_nothing_and_replaces_the_entry(
    cluster: Client, script: Script, tmp_path: Path
) -> None:
    """With a cache that workers reach, and with one that they do not."""
    caches = [cp.MemoryCache(), cp.DiskCache(tmp_path / "cache")]
    request = {"random_seed": None}
    script.hold(15)
    first = submit(cluster, **request, cache=caches[1])
    until(lambda: script.reached(15))
    anew = [submit(cluster, **request, cache=cache, overwrite=True) for cache in caches]
    assert len({run.id for run in (first, *anew)}) == 3
    script.go_on()
    first_result = first.result()
    for run, cache in zip(anew, caches, strict=True):
        result = run.result()
        assert differ(result, first_result)
        (entry,) = cache.entries()
        assert entry.record.random_seed == result.attrs["cloudposterior_random_seed"]
        assert entry.record.token == first_result.attrs["cloudposterior_token"]
        assert result.attrs["cloudposterior_token"] == entry.record.token
        assert not differ(submit(cluster, **request, cache=cache).result(), result)


@pytest.mark.parametrize("name", ["a/b", "../x", "дом", "", "a b\n"])
def test_any_name_of_a_model_will_do(cluster: Client, name: str) -> None:
    with pm.Model() as model:
        pm.Normal("x")
    # newer PyMC refuses some of them
    model._name = model.name = name
    run = submit(cluster, model)
    assert cp.attach(run.id, cluster=cluster).id == run.id
    assert keeping.runs_kept(cluster) == [run.id]
    assert to_tree(run.result())["posterior"].sizes["draw"] == SHORT["draws"]
    assert keeping.runs_kept(cluster) == []


def test_model_without_a_key_runs_and_is_found_by_its_id(cluster: Client) -> None:
    def logp(value: Any) -> Any:
        return -(value**2) + 0.0 * len(eval("'x'"))

    with pm.Model(name="small") as model:
        pm.CustomDist("mu", logp=logp, shape=2)
    with pytest.warns(cp.TokenWarning, match="nobody else can join it.*eval"):
        runs = [submit(cluster, model, cache="disk") for _ in range(2)]
    assert runs[0].id != runs[1].id
    found = cp.attach(runs[0].id, cluster=cluster)
    assert_same(found.result(), runs[1].result())
    assert cp.DiskCache(".cloudposterior").entries() == []


def test_call_without_a_cache_can_be_joined(cluster: Client, script: Script) -> None:
    script.hold()
    runs = [submit(cluster, cache=False) for _ in range(2)]
    assert runs[0].id == runs[1].id
    script.go_on()
    assert_same(*(run.result() for run in runs))
    assert set(script.drawn().values()) == {1}


def test_attached_run_is_kept_where_that_is_said(cluster: Client, tmp_path: Path) -> None:
    run = submit(cluster, cache=False)
    found = cp.attach(run.id, cluster=cluster, cache=tmp_path / "here")
    found.result()
    (entry,) = cp.DiskCache(tmp_path / "here").entries()
    assert entry.record.model == "small"


# stop, cancel, expire ----------------------------------------------------------------------------


def test_stop_in_the_middle_gives_what_was_drawn(cluster: Client) -> None:
    run = submit(cluster, **LONG)
    until(lambda: begun(run, 15))
    run.stop()
    with pytest.warns(cp.CacheWarning, match="sampling was interrupted.*not cached"):
        result = run.result()
    assert 0 < mu(result).shape[1] < LONG["draws"]
    assert result.attrs["cloudposterior_stopped"] == "before all draws were made"
    assert run.status().phase == "stopped"


def test_stop_before_the_first_draw_is_an_error_that_says_so(
    cluster: Client, script: Script
) -> None:
    """At once, when nobody has begun to drive it yet; the same request then runs anew."""
    script.hold()
    run = submit(cluster)
    run.stop()
    with pytest.raises(cp.ClusterError, match=f"run {run.id} ended: stopped before the first draw"):
        run.result()
    script.go_on()
    assert_same(submit(cluster).result(), plain(models.normal()))


def test_run_is_not_stopped_by_what_stopped_an_earlier_one(cluster: Client, script: Script) -> None:
    script.hold(15)
    earlier = submit(cluster, cache=False)
    until(lambda: script.reached(15))
    earlier.stop()
    with pytest.warns(cp.CacheWarning, match="not cached"):
        earlier.result()
    run = submit(cluster, cache=False)
    assert run.status().phase != "stopped"
    script.go_on()
    assert_same(run.result(), plain(models.normal()))


@pytest.mark.parametrize("draws", [0, 15])
def test_cancel_leaves_nothing(cluster: Client, script: Script, draws: int) -> None:
    script.hold(draws)
    with dask.config.set({"cloudposterior.cluster.keep-every": "0s"}):
        run = submit(cluster)
    other = cp.attach(run.id, cluster=cluster)
    until(lambda: draws_kept(cluster, run) == 2 * draws)
    run.cancel()
    assert run.done()
    until(
        lambda: not everything_of(cluster, run),
        failed=lambda: str(everything_of(cluster, run)),
    )
    until(lambda: not any(cluster.run(_driving).values()))
    assert not everything_of(cluster, run)
    with pytest.raises(cp.ClusterError, match="left, or cancelled"):
        run.result()
    with pytest.raises(cp.ClusterError, match="not there any more: it was cancelled"):
        other.result()
    run.cancel()
    # and anew
    script.go_on()
    assert_same(submit(cluster).result(), plain(models.normal()))


def _driving() -> bool:
    """Tell whether a thread of this process drives a run."""
    frames = [outer for frame in sys._current_frames().values() for outer in _outwards(frame)]
    return any(frame.f_code is driver.drive.__code__ for frame in frames)


def _outwards(frame: Any) -> Iterator[Any]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def test_run_that_nobody_fetches_is_let_go_of_after_its_end(
    cluster: Client, script: Script
) -> None:
    script.hold(15)
    with dask.config.set({"cloudposterior.cluster.keep-results": "50ms"}):
        run = submit(cluster)
        until(lambda: script.reached(15))
        # many times over, while it is under way
        until(lambda: cluster.run_on_scheduler(_rounds) > 3)
        assert keeping.runs_kept(cluster) == [run.id]
        script.go_on()
        until(lambda: not keeping.runs_kept(cluster))
    # what somebody holds stays
    assert_same(run.result(), plain(models.normal()))
    until(
        lambda: not everything_of(cluster, run),
        failed=lambda: str(everything_of(cluster, run)),
    )


def _rounds(dask_scheduler: Any) -> int:
    """Count how often the time of a run has passed."""
    expiry = dask_scheduler.plugins["cloudposterior-expiry"]
    if not hasattr(expiry, "rounds"):
        expiry.rounds, own = 0, expiry._let_go

        def counted(*arguments: Any) -> None:
            expiry.rounds += 1
            own(*arguments)

        expiry._let_go = counted
    return int(expiry.rounds)


def test_time_to_fetch_a_result_begins_with_its_end(
    cluster: Client, script: Script, tmp_path: Path
) -> None:
    """Also where nothing is put on the cluster in between."""
    script.hold(15)
    run = submit(cluster, cache=tmp_path / "cache")
    until(lambda: script.reached(15))
    before = cluster.run_on_scheduler(_due, run.id)
    script.go_on()
    until(run.done)
    assert cluster.run_on_scheduler(_due, run.id) > before
    run.cancel()


def _due(run: str, dask_scheduler: Any) -> float:
    return float(dask_scheduler.plugins["cloudposterior-expiry"]._due[run].when())


def test_scheduler_whose_datasets_are_elsewhere_is_refused() -> None:
    """Dask has no public way to let go of one without a client; this tells when it changes."""
    with (
        LocalCluster(n_workers=0, processes=False, **NO_DASHBOARD) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(plugin.Expiry())
        extension = cluster.scheduler.extensions["publish"]
        future = client.submit(sum, [1, 2], key="a-task")
        assert keeping.keep(client, "a-run", "a-part", future)
        assert list(extension.datasets) == ["cloudposterior/a-run/a-part"]
        future.release()
        assert keeping.key_of(client, "a-run", "a-part") == "a-task"
        client.run_on_scheduler(_let_go_now, "a-run")
        until(lambda: not cluster.scheduler.tasks)
        client.unregister_scheduler_plugin("cloudposterior-expiry")
        del extension.datasets
        with pytest.raises(cp.ClusterError, match="cannot keep runs"):
            submit(client)


def _let_go_now(run: str, dask_scheduler: Any) -> None:
    expiry = dask_scheduler.plugins["cloudposterior-expiry"]
    # nothing runs there, so it would be under way for ever
    expiry._is_under_way = lambda key: False
    expiry._let_go(run, 1.0)


# what fails --------------------------------------------------------------------------------------


def test_error_of_a_chain_arrives_and_the_next_try_draws_what_is_missing(
    cluster: Client, script: Script
) -> None:
    script.fail()
    run = submit(cluster)
    with pytest.raises(cp.ChainError, match="chain 1 failed on tcp://.*scripted") as told:
        run.result()
    notes = "".join(told.value.__notes__)
    assert "in _draw" in notes
    assert "the same call draws only what is missing" in notes
    with pytest.raises(cp.ClusterError, match="left, or cancelled"):
        run.result()
    script.mend()
    before = script.drawn()
    again = submit(cluster)
    assert again.id == run.id
    assert_same(again.result(), plain(models.normal()))
    # all that chain 0 had is there
    assert script.drawn()[0, 0] == before[0, 0] == 1
    until(
        lambda: not everything_of(cluster, run),
        failed=lambda: str(everything_of(cluster, run)),
    )


def test_run_that_failed_is_not_joined(cluster: Client, script: Script) -> None:
    script.fail()
    failed = submit(cluster)
    until(failed.done)
    script.mend()
    assert_same(cp.sample(models.normal(), **SHORT, cluster=cluster), plain(models.normal()))
    again = submit(cluster, cache=False)
    assert again.id == failed.id
    assert_same(again.result(), plain(models.normal()))
    with pytest.raises(cp.ChainError):
        failed.result()


def test_what_needs_this_process_is_refused(cluster: Client) -> None:
    for argument in ("callback", "trace"):
        with pytest.raises(TypeError, match=f"{argument}= .*cp.cloud or cp.sample"):
            submit(cluster, **{argument: lambda **_: None})
    with pytest.raises(TypeError, match="takes a cluster"):
        submit(None)
    with pytest.raises(TypeError, match="is no cluster"):
        submit(5)
    with pytest.raises(TypeError, match="takes a pymc.Model"):
        cp.submit("model", cluster=cluster)
    with pytest.raises(cp.ClusterError, match="no run 'nothing'.*Runs there: none"):
        cp.attach("nothing", cluster=cluster)


def test_what_cannot_travel_is_refused(cluster: Client) -> None:
    lock = threading.Lock()

    def logp(value: Any) -> Any:
        return -(value**2) + 0.0 * lock.locked()

    with pm.Model(name="small") as model:
        pm.CustomDist("mu", logp=logp)
    with (
        pytest.warns(cp.TokenWarning),
        pytest.raises(cp.ShippingError),
        # closed by then, as nothing came of it
        Client(cluster.scheduler.address, set_as_default=False) as client,
    ):
        submit(client, model)
    assert keeping.runs_kept(cluster) == []


def test_workers_are_checked_before_anything_is_sent(
    cluster: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.1")
    with (
        Client(cluster.scheduler.address, set_as_default=False) as client,
        pytest.raises(cp.ClusterError, match="nothing was sampled.*\n.*Python 3.*here 3.99"),
    ):
        submit(client)
    # and by themselves, where they come later
    monkeypatch.setattr(submission, "check_workers", lambda *_: None)
    with pytest.raises(cp.ClusterError, match="differs from the client.*\n.*here 3.99"):
        submit(cluster).result()


def test_scheduler_without_this_package_is_named(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "lacks" / "cloudposterior").mkdir(parents=True)
    (tmp_path / "lacks" / "cloudposterior" / "__init__.py").write_text("raise ImportError('gone')")
    address = commands.scheduler(PYTHONPATH=str(tmp_path / "lacks"))
    with pytest.raises(cp.ClusterError, match=f"{address} cannot keep runs.*install cloudpost"):
        submit(address)


# workers that die --------------------------------------------------------------------------------


def driving(client: Client) -> str:
    """Find the worker that drives a run."""

    def find() -> str | None:
        for worker, keys in client.processing().items():
            if any(str(key).endswith("-driver") for key in keys):
                return str(worker)
        return None

    return str(until(find))


def kill(client: Client, *workers: str) -> None:
    pids = client.run(os.getpid, workers=list(workers))
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not pids.keys() & client.scheduler_info(n_workers=-1)["workers"].keys())
    client.wait_for_workers(2, timeout=PATIENCE_S)


def draws_kept(client: Client, run: cp.SubmittedRun) -> int:
    """Count the draws of a run, tuning included, that lie on its cluster."""
    found = 0
    for part in keeping.parts_kept(client, run.id):
        if part == keeping.RUN or not keeping.key_of(client, run.id, part):
            continue
        future = keeping.kept(client, run.id, part)
        if future is not None:
            tree, _ = opened(client.gather(future))
            found += tree["stats_0"].sizes["draw"]
    return found


def test_draws_outlive_the_worker_that_drives_the_run(
    mortal: Client, mortal_script: Script
) -> None:
    """And the one that keeps them, one after the other; no draw that was kept is made again."""
    mortal_script.hold(12)
    with dask.config.set({"cloudposterior.cluster.keep-every": "0s"}):
        run = submit(mortal)
    until(lambda: draws_kept(mortal, run) == 2 * 12)
    own = driving(mortal)
    others = set(mortal.scheduler_info(n_workers=-1)["workers"]) - {own}
    kill(mortal, *others)
    mortal_script.hold(15)
    until(lambda: draws_kept(mortal, run) == 2 * 15)
    kill(mortal, own)
    assert not run.done()
    assert not run.status().ended
    mortal_script.go_on()
    assert_same(run.result(), plain(models.normal()))
    assert run.status().phase == "finished"
    # a task that nobody wanted any more may have made one after them
    again = [draw for (_, draw), times in mortal_script.drawn().items() if times > 1]
    assert all(draw >= 15 for draw in again)
    until(lambda: not everything_of(mortal, run))


def test_result_outlives_the_worker_that_drove_the_run(
    mortal: Client, mortal_script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    mortal_script.hold()
    run = submit(mortal)
    own = driving(mortal)
    mortal_script.go_on()
    until(run.done)
    kill(mortal, own)
    with caplog.at_level(logging.INFO, logger="pymc"):
        assert_same(run.result(), plain(models.normal()))
    assert caplog.text.count("Sampling 2 chains on tcp") == 1
    assert set(mortal_script.drawn().values()) == {1}


def test_run_whose_driver_dies_too_often_for_dask_goes_on(
    mortal: Client, mortal_script: Script
) -> None:
    mortal_script.hold()
    mortal.run_on_scheduler(_allow_failures, 0)
    try:
        run = submit(mortal, chains=1)
        kill(mortal, driving(mortal))
        until(run.done)
        mortal_script.go_on()
        assert_same(run.result(), plain(models.normal(), chains=1))
    finally:
        mortal.run_on_scheduler(_allow_failures, 3)


def _allow_failures(number: int, dask_scheduler: Any) -> None:
    dask_scheduler.allowed_failures = number


# where results are kept --------------------------------------------------------------------------


def test_cache_that_workers_reach_has_the_result_though_nobody_fetches_it(
    cluster: Client, script: Script, tmp_path: Path
) -> None:
    cache = cp.DiskCache(tmp_path / "cache")
    script.hold(15)
    with dask.config.set({"cloudposterior.cluster.keep-every": "0s"}):
        run = submit(cluster, cache=cache)
    until(lambda: len(cache.entries()) >= 2)
    assert {entry.record.part_of for entry in cache.entries()} == {run.id.rpartition("-")[2]}
    assert draws_kept(cluster, run) == 0
    script.go_on()
    until(run.done)
    (entry,) = cache.entries()
    assert entry.record.part_of is None
    written = os.stat(entry.path or "").st_mtime_ns
    fetched = run.result()
    # once is enough
    assert os.stat(cache.entries()[0].path or "").st_mtime_ns == written
    assert_same(fetched, cp.sample(models.normal(), **SHORT, cluster=cluster, cache=cache))


def test_cache_that_workers_do_not_reach_is_filled_when_the_result_is_fetched(
    cluster: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "_writes_beside", nowhere)
    cache = cp.DiskCache(tmp_path / "cache")
    run = submit(cluster, cache=cache)
    until(run.done)
    assert cache.entries() == []
    result = run.result()
    (entry,) = cache.entries()
    assert entry.record.token == result.attrs["cloudposterior_token"]
    assert entry.record.part_of is None


def nowhere(path: str) -> bool:
    return False


# clusters and clients ----------------------------------------------------------------------------


def clients_of(client: Client) -> int:
    return client.run_on_scheduler(_count_clients)


def _count_clients(dask_scheduler: Any) -> int:
    # Dask keeps one for each name that was ever published
    return sum(not name.startswith("published-") for name in dask_scheduler.clients)


def test_client_is_closed_after_the_fetch_if_it_was_opened_for_the_run(cluster: Client) -> None:
    submit(cluster, cache=False).result()
    assert cluster.status == "running"
    before = clients_of(cluster)
    run = submit(cluster.scheduler.address, cache=False)
    assert clients_of(cluster) == before + 1
    run.result()
    until(lambda: clients_of(cluster) == before)
    run = submit(cluster.cluster, cache=False)
    run.close()
    until(lambda: clients_of(cluster) == before)
    with pytest.raises(cp.ClusterError, match="cp.attach"):
        run.result()
    assert_same(cp.attach(run.id, cluster=cluster).result(), plain(models.normal()))


def test_awaited_run_does_not_hold_up_the_event_loop(cluster: Client, script: Script) -> None:
    script.hold()

    async def main() -> tuple[Any, Any]:
        run = submit(cluster)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_awaited(run), 0.2)
        waiting = asyncio.gather(_awaited(run), _awaited(run))
        # the loop goes round meanwhile
        await asyncio.sleep(0)
        script.go_on()
        return tuple(await waiting)  # type: ignore[return-value]

    one, other = asyncio.run(main())
    assert_same(one, other)
    assert_same(one, plain(models.normal()))


async def _awaited(run: cp.SubmittedRun) -> Any:
    return await run


def test_threads_of_this_process_are_a_cluster_too() -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, **NO_DASHBOARD) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert_same(submit(client).result(), plain(models.normal()))
    with pytest.raises(cp.ClusterError, match="cannot be used, it is closed"):
        submit(client)


LEAVES = """
    import gc, sys
    import cloudposterior as cp
    from tests.cluster.models import normal
    from tests.cluster.sameness import SHORT
    if __name__ == "__main__":
        for seed in range(2):
            cp.submit(normal(), **{**SHORT, "random_seed": seed}, cluster=sys.argv[1])
        gc.collect()
        left = cp.submit(normal(), **{**SHORT, "random_seed": 2}, cluster=sys.argv[1])
        print(left.id)
"""


def test_handles_that_are_left_alone_end_with_their_process(cluster: Client) -> None:
    left = subprocess.run(
        program(LEAVES, cluster.scheduler.address),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**same_flags(), "PYTHONWARNINGS": "default::ResourceWarning"},
    )
    assert left.returncode == 0, left.stderr
    assert left.stderr == ""
    assert len(keeping.runs_kept(cluster)) == 3
    run = cp.attach(left.stdout.strip(), cluster=cluster)
    assert_same(run.result(), plain(models.normal(), random_seed=2))
