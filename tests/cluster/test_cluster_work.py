"""What runs on a model beside `pymc.sample`, on clusters."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pymc as pm
import pytest
from distributed import Client, LocalCluster
from threadpoolctl import ThreadpoolController

import cloudposterior as cp
from cloudposterior.cache import MemoryCache
from cloudposterior.cluster import tasks, work
from cloudposterior.operations.given import BLOCK_DRAWS
from cloudposterior.posterior import from_tree, to_tree
from cloudposterior.progress.view import RunView
from tests.operations.results import PYMC_5, line, posterior_group, posterior_of, same
from tests.operations.test_calls import QUIET, WORK, drawn_from

from .faults import pool_of_workers

pytestmark = [
    pytest.mark.usefixtures("quick_compiling"),
    pytest.mark.filterwarnings("ignore:.*find_MAP:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*merge_dataset:FutureWarning"),
    pytest.mark.filterwarnings("ignore:More chains:UserWarning"),
]

BY_BLOCKS = {
    "prior": lambda p: pm.sample_prior_predictive(250, random_seed=1),
    **{name: WORK[name] for name in WORK if name.startswith(("predict", "variables"))},
}
"""Those whose numbers depend on a seed, and so on where blocks begin."""
AS_PLAIN = [name for name in WORK if not name.startswith(("prior", "predict", "variables"))]


def here(work: Callable[[Any], Any]) -> Any:
    with line() as model:
        return work(posterior_of(model))


def there(work: Callable[[Any], Any], client: Any, *, cache: Any = False) -> Any:
    with cp.cloud(line(), cluster=client, cache=cache, progress=False) as model:
        return work(posterior_of(model))


@pytest.mark.parametrize("name", AS_PLAIN)
def test_what_has_no_stream_of_its_own_is_what_pymc_gives(name: str, two_workers: Client) -> None:
    assert same(there(WORK[name], two_workers), here(WORK[name]))


def test_chains_of_smc_have_the_statistics_of_pymcs(two_workers: Client) -> None:
    """Of more chains than workers, with another kernel, from no seed at all."""

    def draw(p: Any, seed: Any = None) -> Any:
        options = {"kernel": pm.smc.MH, "chains": 3, "cores": 1, "random_seed": seed}
        return pm.sample_smc(40, **options, **QUIET)

    ours = there(draw, two_workers)
    seed = int(ours.attrs["cloudposterior_random_seed"])
    theirs = here(lambda p: draw(p, seed))
    assert same(ours, theirs)
    one, other = (to_tree(each)["sample_stats"] for each in (ours, theirs))
    for name in set(other.data_vars) - {"_t_sampling"}:
        # lists of other lengths, with NaN in them
        assert repr(one[name].to_numpy().tolist()) == repr(other[name].to_numpy().tolist())


@pytest.fixture(scope="module")
def one_thread() -> Any:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.parametrize("name", BY_BLOCKS)
def test_seed_gives_the_same_numbers_on_any_number_of_workers(
    name: str, two_workers: Client, one_thread: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = there(BY_BLOCKS[name], two_workers)
    # all that are left in one task
    monkeypatch.setattr(work, "_size", lambda computed: 100)
    assert same(there(BY_BLOCKS[name], one_thread), first)


def groups_and_dims(result: Any) -> dict[str, dict[str, tuple[Any, ...]]]:
    return {
        group: {
            str(name): (values.dims, values.shape, values.dtype)
            for name, values in child.to_dataset().variables.items()
        }
        for group, child in to_tree(result).children.items()
    }


@pytest.mark.parametrize("name", BY_BLOCKS)
def test_result_in_blocks_has_the_form_of_pymcs(name: str, two_workers: Client) -> None:
    ours, theirs = there(BY_BLOCKS[name], two_workers), here(BY_BLOCKS[name])
    assert type(ours) is type(theirs)
    assert groups_and_dims(ours) == groups_and_dims(theirs)


def test_each_block_is_what_pymc_gives_of_its_draws_and_its_seed(two_workers: Client) -> None:
    found = to_tree(there(BY_BLOCKS["predictive"], two_workers))["posterior_predictive"]
    model = line()
    tree = to_tree(posterior_of(model))
    groups = {name: child.to_dataset() for name, child in tree.children.items()}
    for chain in range(2):
        for block, start in enumerate(range(0, 230, BLOCK_DRAWS)):
            where = {"chain": [chain], "draw": slice(start, min(start + BLOCK_DRAWS, 230))}
            sequence = np.random.SeedSequence(1, spawn_key=(chain, block))
            part = {**groups, "posterior": groups["posterior"].isel(where)}
            with line():
                alone = pm.sample_posterior_predictive(
                    from_tree(type(tree).from_dict(part)),
                    random_seed=int(sequence.generate_state(1, np.uint64)[0] >> 2),
                    **QUIET,
                )
            expected = to_tree(alone)["posterior_predictive"]["line::y"].to_numpy()
            assert np.array_equal(found["line::y"].isel(where).to_numpy(), expected)


def test_streams_of_blocks_are_a_request_of_their_own(two_workers: Client) -> None:
    """A cache that both share gives each what it would have computed."""
    cache = MemoryCache()
    ours = there(BY_BLOCKS["predictive"], two_workers, cache=cache)
    with cp.cloud(line(), cache=cache) as model:
        plain = BY_BLOCKS["predictive"](posterior_of(model))
    assert not same(ours, plain)
    assert same(plain, here(BY_BLOCKS["predictive"]))
    assert same(there(BY_BLOCKS["predictive"], two_workers, cache=cache), ours)
    assert len(cache.entries()) == 2


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the tasks that calls were cut into."""
    keys: list[str] = []
    submit = work.WorkOnCluster._submit

    def noting(self: Any, *args: Any, key: str, **where: Any) -> Any:
        keys.append(key)
        return submit(self, *args, key=key, **where)

    monkeypatch.setattr(work.WorkOnCluster, "_submit", noting)
    return keys


@pytest.mark.parametrize("name", ["predictive", "log-likelihood", "SMC"])
def test_second_call_is_answered_from_the_cache(
    name: str, two_workers: Client, submitted: list[str]
) -> None:
    cache = MemoryCache()
    first = there(WORK[name], two_workers, cache=cache)
    assert submitted
    submitted.clear()
    assert same(there(WORK[name], two_workers, cache=cache), first)
    assert not submitted


def test_short_blocks_share_tasks(two_workers: Client, submitted: list[str]) -> None:
    with cp.cloud(line(), cluster=two_workers, cache=False) as model:
        given = posterior_of(model, chains=4, draws=2000)
        pm.compute_log_likelihood(given, **QUIET)
    assert 4 <= len(submitted) < 20
    with line() as model:
        plain = pm.compute_log_likelihood(posterior_of(model, chains=4, draws=2000), **QUIET)
    assert same(given, plain)


def test_worker_compiles_once_for_all_blocks(one_thread: Client) -> None:
    compiled = []
    own = pm.sampling.forward.compile_forward_sampling_function

    def counting(*args: Any, **kwargs: Any) -> Any:
        compiled.append(1)
        return own(*args, **kwargs)

    pm.sampling.forward.compile_forward_sampling_function = counting
    try:
        # one that no other test has had
        with cp.cloud(line(7.0), cluster=one_thread, cache=False) as model:
            given = posterior_of(model, draws=500)
            pm.sample_posterior_predictive(given, random_seed=1, **QUIET)
            pm.sample_posterior_predictive(given, random_seed=2, **QUIET)
    finally:
        pm.sampling.forward.compile_forward_sampling_function = own
    assert len(compiled) == 1


def test_generator_moves_on_as_it_does_in_pymc(two_workers: Client) -> None:
    ours, theirs = np.random.default_rng(4), np.random.default_rng(4)
    there(lambda p: pm.sample_posterior_predictive(p, random_seed=ours, **QUIET), two_workers)
    here(lambda p: pm.sample_posterior_predictive(p, random_seed=theirs, **QUIET))
    assert ours.bit_generator.state == theirs.bit_generator.state


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (KeyError, lambda p: pm.sample_posterior_predictive(p, var_names=["nobody"], **QUIET)),
        (KeyError, lambda p: pm.compute_log_likelihood(p, var_names=["nobody"], **QUIET)),
        (TypeError, lambda p: pm.compute_log_likelihood(p, colour="red")),
    ],
    ids=["predictive", "log-likelihood", "argument"],
)
def test_wrong_arguments_are_told_as_pymc_tells_them(
    error: type[Exception], call: Any, two_workers: Client
) -> None:
    with pytest.raises(error, match="nobody|colour"):
        there(call, two_workers)


def test_arrays_without_names_are_computed_here(two_workers: Client, submitted: list[str]) -> None:
    def draw(p: Any) -> Any:
        return pm.sample_posterior_predictive(p, random_seed=1, return_inferencedata=False, **QUIET)

    assert same(there(draw, two_workers), here(draw))
    assert not submitted


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What there was to say of what runs do."""
    details: list[str] = []
    take = RunView.take

    def noting(self: Any, event: Any) -> None:
        details.append(getattr(event, "detail", ""))
        take(self, event)

    monkeypatch.setattr(RunView, "take", noting)
    return details


def test_it_is_told_how_many_blocks_are_there(one_thread: Client, told: list[str]) -> None:
    there(WORK["predictive"], one_thread)
    assert [words for words in told if "blocks" in words] == [
        f"{done} of 6 blocks" for done in range(7)
    ]


def test_losses_are_told_while_it_fits(
    one_thread: Client, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "REPORT_EVERY_S", 0.0)
    there(lambda p: drawn_from(pm.fit(50, random_seed=1, **QUIET)), one_thread)
    assert any("of 50 steps, loss" in words for words in told)


@pytest.mark.once
def test_worker_that_dies_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    with pool_of_workers(tmp_path) as pool:
        client = pool.fill(2)
        take, killed = work._InBlocks._take, []

        def kill(self: Any, one: Any) -> None:
            take(self, one)
            if not killed:
                killed.append(pool.commands.running[-1].kill())

        monkeypatch.setattr(work._InBlocks, "_take", kill)
        found = there(WORK["predictive"], client)
        assert killed
        assert same(there(WORK["predictive"], client), found)


def with_posterior(given: Any, change: Callable[[Any], Any]) -> Any:
    tree = to_tree(given)
    groups = {name: child.to_dataset() for name, child in tree.children.items()}
    return from_tree(type(tree).from_dict({**groups, "posterior": change(groups["posterior"])}))


def test_what_has_no_draws_is_drawn_anew_and_what_has_them_is_not(two_workers: Client) -> None:
    """Whatever a worker has compiled for another posterior."""
    far = {"line::a": lambda d: d["line::a"] + 1000.0}

    def mean(change: Callable[[Any], Any]) -> float:
        found = there(
            lambda p: pm.sample_posterior_predictive(
                with_posterior(p, change), random_seed=1, **QUIET
            ),
            two_workers,
        )
        return float(to_tree(found)["posterior_predictive"]["line::y"].mean())

    for _ in range(2):
        assert abs(mean(lambda d: d.drop_vars("line::a"))) < 10
        assert abs(mean(lambda d: d.assign(far)) - 1000) < 10


STACKED: dict[str, Callable[[Any], Any]] = {
    "predictive": lambda d: pm.sample_posterior_predictive(
        d, sample_dims=["sample"], random_seed=1, **QUIET
    ),
}

if not PYMC_5:
    # older PyMC refuses them
    STACKED["deterministics"] = lambda d: pm.compute_deterministics(
        d, sample_dims=["sample"], **QUIET
    )


@pytest.mark.parametrize("name", STACKED)
def test_stacked_draws_stay_stacked(name: str, two_workers: Client) -> None:
    def work(p: Any) -> Any:
        return STACKED[name](posterior_group(p).stack(sample=("chain", "draw")))

    assert same(there(work, two_workers), here(work))


def test_no_draws_give_what_pymc_gives(two_workers: Client) -> None:
    def none(p: Any) -> Any:
        return pm.compute_deterministics(posterior_group(p).isel(draw=slice(0, 0)), **QUIET)

    assert same(there(none, two_workers), here(none))


def test_generator_moves_on_with_chains_of_smc(two_workers: Client) -> None:
    ours, theirs = np.random.default_rng(4), np.random.default_rng(4)

    def draw(generator: Any) -> Callable[[Any], Any]:
        return lambda p: pm.sample_smc(20, chains=2, cores=1, random_seed=generator, **QUIET)

    for _ in range(2):
        assert same(there(draw(ours), two_workers), here(draw(theirs)))


def test_blocks_that_are_computed_here_have_one_thread(
    two_workers: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    compute = work.compute_blocks

    def noting(*args: Any) -> Any:
        blas = ThreadpoolController().select(user_api="blas").lib_controllers
        threads.extend(library.num_threads for library in blas)
        return compute(*args)

    monkeypatch.setattr(work, "_LARGE_BYTES", 1)
    monkeypatch.setattr(work, "compute_blocks", noting)
    name = "predictive"
    with monkeypatch.context() as never:
        never.setattr(work, "_TRIED", 0)
        there_alone = there(WORK[name], two_workers)
    assert not threads
    assert same(there(WORK[name], two_workers), there_alone)
    assert set(threads) == {1}


@pytest.fixture
def taken_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many draws were computed here with each call, since nothing is slower than to move."""
    many: list[int] = []
    compute = work.compute_blocks

    def noting(*args: Any) -> Any:
        many.extend(math.prod(block.sizes.values()) for block, _ in args[4])
        return compute(*args)

    monkeypatch.setattr(work, "_LARGE_BYTES", 1)
    monkeypatch.setattr(work, "_MOVED_BYTES_A_SECOND", 1)
    monkeypatch.setattr(work, "compute_blocks", noting)
    return many


AT_ONCE = {**BY_BLOCKS, **{name: WORK[name] for name in ("log-likelihood", "deterministics")}}


@pytest.mark.parametrize("name", AT_ONCE)
def test_what_is_moved_slower_than_computed_is_computed_here_in_one_call(
    name: str, two_workers: Client, taken_here: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as never:
        never.setattr(work, "_TRIED", 0)
        in_blocks = there(AT_ONCE[name], two_workers)
        assert not taken_here
    assert same(there(AT_ONCE[name], two_workers), in_blocks)
    first, second, whole = taken_here
    assert first == second == BLOCK_DRAWS
    assert whole == (250 if name == "prior" else 460)


def test_draws_whose_blocks_lie_between_each_other_are_computed_block_by_block(
    two_workers: Client, taken_here: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(p: Any) -> Any:
        dims = ["draw", "chain"]
        return pm.sample_posterior_predictive(p, sample_dims=dims, random_seed=1, **QUIET)

    with monkeypatch.context() as never:
        never.setattr(work, "_TRIED", 0)
        in_blocks = there(draw, two_workers)
    assert same(there(draw, two_workers), in_blocks)
    assert taken_here == [100, 100, 100, 100, 30, 30]


LARGE = {"chains": 2, "draws": 12_000}


def likelihood(model: pm.Model) -> Any:
    result = pm.compute_log_likelihood(posterior_of(model, **LARGE), **QUIET)
    return to_tree(result)["log_likelihood"]["line::y"]


def likelihood_there(client: Client, cache: Any) -> Any:
    with (
        dask.config.set({"cloudposterior.lazy-above": "1 MiB"}),
        cp.cloud(line(), cluster=client, cache=cache, progress=False) as model,
    ):
        return likelihood(model)


@pytest.fixture
def whole() -> Any:
    """The log-likelihood as plain PyMC gives it."""
    with line() as model:
        return likelihood(model)


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How large the files were in which results were put together."""
    made: list[int] = []
    scratch = cp.DiskCache.scratch

    def noted(self: cp.DiskCache, size: int) -> Any:
        made.append(size)
        return scratch(self, size)

    monkeypatch.setattr(cp.DiskCache, "scratch", noted)
    return made


def test_large_result_is_put_together_on_disk_and_comes_lazily(
    two_workers: Client, tmp_path: Path, whole: Any, rooms: list[int]
) -> None:
    first = likelihood_there(two_workers, tmp_path)
    assert rooms == [whole.nbytes]
    assert isinstance(first.data, da.Array)
    # of the file in which it was put together nothing is left
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.suffix == ".nc"
    again = likelihood_there(two_workers, tmp_path)
    assert isinstance(again.data, da.Array)
    assert np.array_equal(first, whole)
    assert np.array_equal(again, whole)
    # workers read what they are asked for themselves
    assert float(two_workers.compute(again.sum()).result()) == pytest.approx(float(whole.sum()))


def test_large_result_that_cannot_be_kept_is_returned(
    two_workers: Client, tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(cp.DiskCache, "put", full)
        with pytest.warns(cp.CacheWarning, match="could not be saved"):
            on_disk = likelihood_there(two_workers, tmp_path)
    assert np.array_equal(on_disk, whole)
    monkeypatch.setattr(cp.DiskCache, "scratch", full)
    with pytest.warns(cp.CacheWarning, match=f"{whole.nbytes} bytes is held in memory: .*No space"):
        in_memory = likelihood_there(two_workers, tmp_path / "other")
    assert np.array_equal(in_memory, whole)


def test_large_result_needs_no_file_where_nothing_is_kept_on_disk(
    two_workers: Client, whole: Any, rooms: list[int]
) -> None:
    assert np.array_equal(likelihood_there(two_workers, False), whole)
    assert np.array_equal(likelihood_there(two_workers, MemoryCache()), whole)
    assert rooms == []


def test_posterior_on_disk_is_sent_block_by_block(two_workers: Client, whole: Any) -> None:
    with cp.cloud(line(), cluster=two_workers, cache=False, progress=False) as model:
        posterior = posterior_of(model, **LARGE)
        lazy = from_tree(to_tree(posterior).chunk({"draw": 5000}))
        result = pm.compute_log_likelihood(lazy, **QUIET)
    assert np.array_equal(to_tree(result)["log_likelihood"]["line::y"], whole)
