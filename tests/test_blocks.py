"""Which calls a block answers, and that `pymc.sample` is put back whatever happens to blocks."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pymc as pm
import pytest
from pymc.model.fgraph import clone_model
from pymc.model.transform.optimization import freeze_dims_and_data

import cloudposterior as cp
from cloudposterior import blocks

Build = Callable[..., pm.Model]
Options = dict[str, Any]

SAMPLE = pm.sample
PLACES = (pm, pm.sampling, pm.sampling.mcmc)


@pytest.fixture(autouse=True)
def restored(in_tmp_path: Any) -> Iterator[None]:
    """Check after each test that nothing is swapped, no block and no context is open."""
    yield
    try:
        assert [place.sample is SAMPLE for place in PLACES] == [True] * 3
        with pytest.raises(TypeError):
            pm.modelcontext(None)
    finally:
        for place in PLACES:
            place.sample = SAMPLE  # type: ignore[attr-defined]
        for name in ("_open", "_replaced", "_around"):
            getattr(blocks, name, {}).clear()
        leave_all_contexts()


def leave_all_contexts() -> None:
    """Leave what contexts a failed test has left open."""
    with contextlib.suppress(TypeError):
        while True:
            pm.modelcontext(None).__exit__(None, None, None)


@pytest.fixture
def plain() -> Iterator[list[pm.Model]]:
    """The models of the calls that came to what stood in the place of `pymc.sample`."""
    calls: list[pm.Model] = []

    @functools.wraps(SAMPLE)
    def sample(*args: Any, model: pm.Model | None = None, **kwargs: Any) -> str:
        calls.append(pm.modelcontext(model))
        return "plain"

    for place in PLACES:
        place.sample = sample  # type: ignore[attr-defined]
    yield calls
    after = [place.sample for place in PLACES]
    for place in PLACES:
        place.sample = SAMPLE  # type: ignore[attr-defined]
    assert after == [sample] * 3


@pytest.fixture
def nothing_said() -> Iterator[None]:
    """Check that no block has said anything of calls that it did not answer."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", cp.BlockWarning)
        yield
    assert [str(each.message) for each in said if each.category is cp.BlockWarning] == []


def is_answered(result: Any) -> bool:
    """Tell whether a result came from a block."""
    return result != "plain" and "cloudposterior_token" in result.attrs


def test_block_answers_for_its_model_only(
    build: Build, stub_runs: list[pm.Model], plain: list[pm.Model]
) -> None:
    model, other = build(), build("other")
    with cp.cloud(model):
        assert is_answered(pm.sample())
        with other:
            assert pm.sample() == "plain"
        assert pm.sample(model=other) == "plain"
        assert is_answered(pm.sample())
    assert (stub_runs, plain) == ([model], [other, other])


def test_block_answers_a_call_that_names_its_model(
    build: Build, stub_runs: list[pm.Model], plain: list[pm.Model]
) -> None:
    model, other = build(), build("other")
    with cp.cloud(model):
        assert is_answered(pm.sample(model=model))
        with other:
            assert is_answered(pm.sample(model=model))
    assert (stub_runs, plain) == ([model], [])


def test_block_passes_calls_outside_of_any_model_to_pymc(build: Build) -> None:
    with cp.cloud(build()) as model:
        model.__exit__(None, None, None)
        try:
            with pytest.raises(TypeError, match="context"):
                pm.sample()
        finally:
            model.__enter__()


@pytest.mark.parametrize(
    "copied",
    [clone_model, freeze_dims_and_data, lambda model: model.copy()],
    ids=["clone_model", "freeze_dims_and_data", "copy"],
)
def test_block_answers_for_a_copy_of_its_model(
    copied: Callable[[pm.Model], pm.Model],
    build_radon: Build,
    stub_runs: list[pm.Model],
    plain: list[pm.Model],
) -> None:
    model = build_radon()
    copy = copied(model)
    with cp.cloud(model):
        with copy:
            assert is_answered(pm.sample())
        assert is_answered(pm.sample(model=copy))
        assert is_answered(cp.sample(copy))
    # that one is sampled, and once
    assert (stub_runs, plain) == ([copy], [])


def test_block_answers_for_its_model_built_again(
    build: Build, stub_runs: list[pm.Model], plain: list[pm.Model]
) -> None:
    model, equal = build(), build()
    with cp.cloud(model):
        assert is_answered(pm.sample())
        with equal:
            assert is_answered(pm.sample())
    assert (stub_runs, plain) == ([model], [])


@pytest.mark.usefixtures("plain")
def test_block_is_not_for_a_copy_that_differs_in_one_value(build_radon: Build) -> None:
    model = build_radon()
    copy = clone_model(model)
    copy.set_data("radon::county_idx", np.roll(copy["radon::county_idx"].get_value(), 1))
    with pytest.warns(cp.BlockWarning), cp.cloud(model), copy:
        assert pm.sample() == "plain"


@pytest.mark.usefixtures("plain")
def test_block_for_a_model_without_a_token_is_for_no_copy(build: Build, tmp_path: Path) -> None:
    model, copy = build(), build()
    with (tmp_path / "log.txt").open("w") as log:
        model.log = copy.log = log
        with pytest.warns(cp.BlockWarning), cp.cloud(model), copy:
            assert pm.sample() == "plain"


def test_block_gives_the_draws_of_the_copy_that_is_sampled(
    build_radon: Build, short: Options, assert_same_draws: Callable[[Any, Any], None]
) -> None:
    model = build_radon()
    copy = freeze_dims_and_data(model)
    with copy:
        before = pm.sample(**short)
    with cp.cloud(model), copy:
        inside = pm.sample(**short)
    assert is_answered(inside)
    assert_same_draws(before, inside)


@pytest.mark.filterwarnings("ignore:Passing `log_likelihood`:FutureWarning")
def test_block_that_answers_nothing_says_what_was_sampled_instead(
    build: Build, short: Options
) -> None:
    block, other = cp.cloud(build()), build("other")

    def called_in_it() -> None:
        with block, other:
            pm.sample(**short, idata_kwargs={"log_likelihood": True})
            pm.sample_prior_predictive(draws=2, random_seed=1)

    with pytest.warns(cp.BlockWarning) as said:
        called_in_it()
    (warning,) = (each for each in said if each.category is cp.BlockWarning)
    assert str(warning.message) == (
        "this cp.cloud block answered no call: `pymc.sample` was called on the model 'other' "
        "(with other::mu, other::y), not on the model 'small' (with small::mu, small::y). So "
        "plain PyMC ran it, without this block's cluster and cache. Pass cp.cloud the model that "
        "is sampled; if another package makes that model itself, pass it to cp.sample"
    )
    assert warning.filename == __file__


def called_on(model: pm.Model) -> None:
    """Leave a call to PyMC."""
    with model:
        assert pm.sample() == "plain"


@pytest.mark.usefixtures("nothing_said", "stub_runs", "plain")
def test_block_that_answers_a_call_says_nothing_of_others(build: Build) -> None:
    model, other = build(), build("other")
    with cp.cloud(model):
        called_on(other)
        pm.sample()


@pytest.mark.usefixtures("nothing_said", "stub_runs", "plain")
def test_block_without_a_call_that_was_left_to_pymc_says_nothing(build: Build) -> None:
    model, other = build(), build("other")
    with cp.cloud(model):
        pass
    with cp.cloud(model):
        cp.sample(other)
    with contextlib.suppress(ZeroDivisionError), cp.cloud(model):
        called_on(other)
        _ = 1 / 0
    with cp.cloud(model), pytest.raises(KeyError, match="method"):
        pm.fit(method="none", model=other)
    with cp.cloud(model):
        thread = threading.Thread(target=called_on, args=(other,))
        thread.start()
        thread.join()


@pytest.mark.usefixtures("nothing_said", "stub_runs", "plain")
def test_block_around_or_inside_one_that_answers_says_nothing(build: Build) -> None:
    outer, inner = build("outer"), build("inner")
    for answered in (outer, inner):
        with cp.cloud(outer), cp.cloud(inner):
            assert is_answered(pm.sample(model=answered))


@pytest.mark.usefixtures("stub_runs", "plain")
def test_block_inside_another_says_what_was_left_in_it(build: Build) -> None:
    outer, inner, other = build("outer"), build("inner"), build("other")

    def called_in_it() -> None:
        with cp.cloud(outer), cp.cloud(inner):
            called_on(other)

    with pytest.warns(cp.BlockWarning, match="not on the model 'inner'") as said:
        called_in_it()
    assert len(said) == 1


@pytest.mark.usefixtures("plain")
def test_block_that_is_entered_again_begins_anew(build: Build) -> None:
    block, other = cp.cloud(build()), build("other")
    with pytest.warns(cp.BlockWarning), block:
        called_on(other)
    with warnings.catch_warnings(record=True) as said, block:
        pass
    assert said == []


@pytest.mark.usefixtures("plain")
def test_block_that_answers_nothing_names_a_few_variables(build: Build) -> None:
    with pm.Model() as many:
        for number in range(9):
            pm.Normal(f"x{number}")
    named = r"without a name \(with x0, x1, x2, x3, x4, x5, \.\.\.\), not on .*no random var"
    with pytest.warns(cp.BlockWarning, match=named), cp.cloud(pm.Model()):
        called_on(many)


@pytest.mark.usefixtures("plain")
def test_block_that_answers_nothing_ends_no_program(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = build(), build("other")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with cp.cloud(model):
            called_on(other)
    assert "answered no call" in capsys.readouterr().err


def test_block_results_for_other_models_are_those_of_pymc(
    build: Build, short: Options, assert_same_draws: Callable[[Any, Any], None]
) -> None:
    with build("other"):
        before = pm.sample(**short)
    other = build("other")
    with pytest.warns(cp.BlockWarning), cp.cloud(build()), other:
        inside = pm.sample(**short)
    assert_same_draws(before, inside)
    assert not is_answered(inside)


def test_block_enters_the_context_of_its_model_and_gives_it(build: Build) -> None:
    model = build()
    with cp.cloud(model) as given:
        assert given is model
        assert pm.modelcontext(None) is model
        pm.Normal("late")
    assert "small::late" in model.named_vars


def test_block_answers_for_variables_added_inside_of_it(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    with cp.cloud(build()):
        pm.sample()
        pm.Normal("late")
        pm.sample()
    assert len(stub_runs) == 2


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_block_answers_at_every_place_of_the_function(
    place: ModuleType, build: Build, stub_runs: list[pm.Model]
) -> None:
    with cp.cloud(build()):
        assert is_answered(place.sample())
    assert place.sample is SAMPLE


def test_block_swaps_every_place_of_the_function_in_pymc() -> None:
    holders = {
        name
        for name, module in list(sys.modules.items())
        if name.split(".")[0] == "pymc" and vars(module).get("sample") is SAMPLE
    }
    assert holders == {place.__name__ for place in PLACES}


def test_function_imported_inside_a_block_is_plain_after_it(
    build: Build, stub_runs: list[pm.Model], short: Options
) -> None:
    with cp.cloud(build()) as model:
        from pymc import sample

        assert is_answered(sample())
    with model:
        after = sample(**short)
    assert not is_answered(after)
    assert stub_runs == [model]
    with cp.cloud(model):
        assert is_answered(sample())


def test_function_imported_before_a_block_is_that_of_pymc(
    build: Build, short: Options, stub_runs: list[pm.Model]
) -> None:
    from pymc import sample

    with cp.cloud(build()):
        assert not is_answered(sample(**short))
    assert stub_runs == []


def test_function_in_a_block_looks_like_that_of_pymc(build: Build) -> None:
    with cp.cloud(build()):
        assert inspect.signature(pm.sample) == inspect.signature(SAMPLE)
        assert pm.sample.__doc__ == SAMPLE.__doc__
        assert pm.sample.__name__ == "sample"


def test_block_answers_for_bambi(
    runs: list[Any], short: Options, assert_same_draws: Callable[[Any, Any], None]
) -> None:
    bambi = pytest.importorskip("bambi")
    import pandas as pd

    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"x": rng.normal(size=30), "y": rng.normal(size=30)})
    fits = []
    for _ in range(2):
        model = bambi.Model("y ~ x", frame)
        model.build()
        with cp.cloud(model.backend.model):
            fits.append(model.fit(**_for_bambi(short)))
    assert len(runs) == 1
    assert_same_draws(*fits)
    plain = bambi.Model("y ~ x", frame).fit(**_for_bambi(short))
    assert_same_draws(fits[0], plain)


def _for_bambi(short: Options) -> Options:
    return {name: value for name, value in short.items() if name != "nuts_sampler"}


def test_cloud_tells_what_to_pass_for_a_bambi_model() -> None:
    bambi = pytest.importorskip("bambi")
    import pandas as pd

    model = bambi.Model("y ~ x", pd.DataFrame({"x": [1.0, 2.0], "y": [0.0, 1.0]}))
    with pytest.raises(TypeError, match=r"model\.backend\.model"):
        cp.cloud(model)


def test_blocks_nested_for_two_models_answer_for_both(
    build: Build, stub_runs: list[pm.Model], plain: list[pm.Model]
) -> None:
    outer, inner = build("outer"), build("inner")
    with cp.cloud(outer):
        with cp.cloud(inner):
            assert is_answered(pm.sample())
            assert is_answered(pm.sample(model=outer))
        assert pm.modelcontext(None) is outer
        assert is_answered(pm.sample())
        assert pm.sample(model=inner) == "plain"
    assert (stub_runs, plain) == ([inner, outer], [inner])


def test_blocks_nested_for_one_model_let_the_inner_one_answer(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    model = build()
    with cp.cloud(model, cache="outer"):
        with cp.cloud(model, cache=False):
            pm.sample()
            pm.sample()
        assert len(stub_runs) == 2
        pm.sample()
        pm.sample()
    assert len(stub_runs) == 3


def test_block_inside_the_models_own_context_leaves_it_open(build: Build) -> None:
    with build() as model:
        with cp.cloud(model):
            pass
        assert pm.modelcontext(None) is model


def test_block_restores_after_an_exception(build: Build) -> None:
    with pytest.raises(KeyError, match="mine"), cp.cloud(build()):
        raise KeyError("mine")
    assert pm.sample is SAMPLE


def test_block_restores_after_an_interrupt(build: Build) -> None:
    with pytest.raises(KeyboardInterrupt), cp.cloud(build()):
        raise KeyboardInterrupt
    assert pm.sample is SAMPLE


def test_block_restores_after_a_failed_run(build: Build, short: Options) -> None:
    with pytest.raises(ValueError), cp.cloud(build()):
        pm.sample(**{**short, "random_seed": -1})
    assert pm.sample is SAMPLE


def test_block_object_serves_again_after_its_exit(build: Build, stub_runs: list[pm.Model]) -> None:
    block = cp.cloud(build())
    for _ in range(3):
        with block:
            pm.sample()
        assert pm.sample is SAMPLE
    assert len(stub_runs) == 1


def test_block_entered_twice_is_refused_and_the_first_goes_on(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    block = cp.cloud(build())
    with block as model:
        with pytest.raises(cp.BlockError, match="open already"):
            block.__enter__()
        assert pm.modelcontext(None) is model
        assert is_answered(pm.sample())


def test_block_entered_twice_by_nested_with_is_refused(build: Build) -> None:
    block = cp.cloud(build())
    with pytest.raises(cp.BlockError, match="open already"), block, block:
        pytest.fail("the inner block was entered")


def test_block_left_twice_is_refused(build: Build) -> None:
    block = cp.cloud(build())
    with block:
        pass
    with pytest.raises(cp.BlockError, match="not open"):
        block.__exit__(None, None, None)


def test_block_left_twice_inside_another_leaves_that_one_open(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    block = cp.cloud(build("inner"))
    with cp.cloud(build("outer")) as outer:
        with block:
            pass
        with pytest.raises(cp.BlockError, match="not open"):
            block.__exit__(None, None, None)
        assert pm.modelcontext(None) is outer
        assert is_answered(pm.sample())


def test_block_never_entered_cannot_be_left(build: Build) -> None:
    with pytest.raises(cp.BlockError, match="not open"):
        cp.cloud(build()).__exit__(None, None, None)


def test_blocks_left_out_of_order_are_refused_and_closed(
    build: Build, stub_runs: list[pm.Model], plain: list[pm.Model]
) -> None:
    first, second = cp.cloud(build("first")), cp.cloud(build("second"))
    first.__enter__()
    second.__enter__()
    with pytest.raises(cp.BlockError, match="left before"):
        first.__exit__(None, None, None)
    # the second is still open, with its context
    assert pm.modelcontext(None) is second.model
    assert is_answered(pm.sample())
    assert pm.sample(model=first.model) == "plain"
    second.__exit__(None, None, None)


def test_blocks_left_out_of_order_among_three(build: Build) -> None:
    opened = [cp.cloud(build(name)) for name in ("one", "two", "three")]
    for block in opened:
        block.__enter__()
    for block in opened[:2]:
        with pytest.raises(cp.BlockError, match="left before"):
            block.__exit__(None, None, None)
    assert pm.modelcontext(None) is opened[2].model
    opened[2].__exit__(None, None, None)


def test_block_error_keeps_the_exception_that_was_under_way(build: Build) -> None:
    first, second = cp.cloud(build("first")), cp.cloud(build("second"))
    with pytest.raises(cp.BlockError) as caught, first:
        second.__enter__()
        raise KeyError("mine")
    assert isinstance(caught.value.__cause__, KeyError)
    second.__exit__(None, None, None)


def test_block_whose_model_context_was_left_inside_is_refused(build: Build) -> None:
    with pytest.raises(cp.BlockError, match="context of the model"), cp.cloud(build()) as model:
        model.__exit__(None, None, None)
    assert pm.sample is SAMPLE


def test_block_whose_model_context_was_left_inside_leaves_outer_contexts(build: Build) -> None:
    with build("outer") as outer, build("next") as following:
        with (
            pytest.raises(cp.BlockError, match="context of the model"),
            cp.cloud(build()) as model,
        ):
            model.__exit__(None, None, None)
        assert pm.modelcontext(None) is following
        following.__exit__(None, None, None)
        assert pm.modelcontext(None) is outer
        following.__enter__()


def test_block_with_a_context_left_open_inside_leaves_that_open(build: Build) -> None:
    other = build("other")
    with cp.cloud(build()):
        other.__enter__()
    assert pm.modelcontext(None) is other
    other.__exit__(None, None, None)


def in_a_block(model: pm.Model) -> Iterator[Any]:
    """Sample in a block, and pause in it."""
    with cp.cloud(model):
        while True:
            yield pm.sample()


def test_generator_run_to_its_end_restores(build: Build, stub_runs: list[pm.Model]) -> None:
    def once(model: pm.Model) -> Iterator[Any]:
        with cp.cloud(model):
            yield pm.sample()

    assert [is_answered(result) for result in once(build())] == [True]
    assert pm.sample is SAMPLE


def test_generator_closed_restores(build: Build, stub_runs: list[pm.Model]) -> None:
    paused = in_a_block(build())
    next(paused)
    assert pm.sample is not SAMPLE
    paused.close()  # type: ignore[attr-defined]
    assert pm.sample is SAMPLE


def test_generator_collected_restores(build: Build, stub_runs: list[pm.Model]) -> None:
    paused = in_a_block(build())
    next(paused)
    del paused
    gc.collect()
    assert pm.sample is SAMPLE


def test_generator_in_a_cycle_collected_restores(build: Build, stub_runs: list[pm.Model]) -> None:
    class Holder:
        pass

    holder = Holder()
    holder.paused = in_a_block(build())  # type: ignore[attr-defined]
    holder.itself = holder  # type: ignore[attr-defined]
    next(holder.paused)  # type: ignore[attr-defined]
    del holder
    gc.collect()
    assert pm.sample is SAMPLE


def test_generator_never_started_swaps_nothing(build: Build) -> None:
    paused = in_a_block(build())
    assert pm.sample is SAMPLE
    paused.close()  # type: ignore[attr-defined]


def test_generators_interleaved_are_refused_and_restore(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    one, two = in_a_block(build("one")), in_a_block(build("two"))
    next(one)
    next(two)
    with pytest.raises(cp.BlockError, match="left before"):
        one.close()  # type: ignore[attr-defined]
    two.close()  # type: ignore[attr-defined]


def test_generator_that_throws_restores(build: Build, stub_runs: list[pm.Model]) -> None:
    paused = in_a_block(build())
    next(paused)
    with pytest.raises(ZeroDivisionError):
        paused.throw(ZeroDivisionError())  # type: ignore[attr-defined]
    assert pm.sample is SAMPLE


def test_thread_without_the_block_has_plain_pymc(
    build: Build, stub_runs: list[pm.Model], plain: list[pm.Model]
) -> None:
    model = build()

    def elsewhere() -> list[Any]:
        with model:
            return [pm.sample(), pm.sample(model=model)]

    with cp.cloud(model), ThreadPoolExecutor(1) as pool:
        assert pool.submit(elsewhere).result() == ["plain", "plain"]
        assert is_answered(pm.sample())
    assert stub_runs == [model]


def test_thread_that_takes_over_the_number_of_a_dead_one_has_plain_pymc(
    build: Build, stub_runs: list[pm.Model], plain: list[pm.Model]
) -> None:
    # systems give the numbers of threads that have ended to new ones
    model = build()
    paused: list[Iterator[Any]] = []
    answers: dict[int, list[Any]] = {}

    def begin() -> None:
        numbers.add(threading.get_ident())
        paused.append(in_a_block(model))
        next(paused[-1])

    def elsewhere() -> None:
        with model:
            answers.setdefault(threading.get_ident(), []).append(pm.sample())

    numbers: set[int] = set()
    for _ in range(20):
        for target in (begin, elsewhere):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    for generator in paused:
        with contextlib.suppress(cp.BlockError):
            generator.close()  # type: ignore[attr-defined]
    assert numbers & answers.keys(), "no number was given twice: this test shows nothing here"
    assert {is_answered(answer) for each in answers.values() for answer in each} == {False}


def test_block_left_in_another_thread_is_refused_and_closed(build: Build) -> None:
    block = cp.cloud(build())
    with ThreadPoolExecutor(1) as pool:
        pool.submit(block.__enter__).result()
        assert pm.sample is not SAMPLE
        with pytest.raises(cp.BlockError, match="entered in one thread and left in another"):
            block.__exit__(None, None, None)
        assert pm.sample is SAMPLE


def test_block_open_in_one_thread_cannot_be_entered_in_another(build: Build) -> None:
    block = cp.cloud(build())
    with block, ThreadPoolExecutor(1) as pool, pytest.raises(cp.BlockError, match="open already"):
        pool.submit(block.__enter__).result()


def test_threads_that_outlive_each_other_restore_at_the_last(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay() -> bool:
        with cp.cloud(build("stays")):
            inside.set()
            leave.wait(60)
            return is_answered(pm.sample())

    with ThreadPoolExecutor(1) as pool:
        with cp.cloud(build("leaves")):
            staying = pool.submit(stay)
            assert inside.wait(60)
        assert pm.sample is not SAMPLE
        leave.set()
        assert staying.result()
    assert pm.sample is SAMPLE


def test_threads_in_one_model_each_have_their_own_block(
    build: Build, stub_runs: list[pm.Model]
) -> None:
    model = build()
    together = threading.Barrier(4)

    def sample(number: int) -> Any:
        with cp.cloud(model, cache=f"of-{number}"):
            together.wait(60)
            return pm.sample(draws=10 + number)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(sample, range(4)))
    assert len({result.attrs["cloudposterior_token"] for result in results}) == 4
    assert len(stub_runs) == 4


class Answering:
    """The least that a block must be."""

    def __init__(self, model: pm.Model) -> None:
        self.model = model

    def answer(self, model: pm.Model, name: str, args: Any, kwargs: Any) -> Answering:
        """Answer with the block itself."""
        return self


@pytest.fixture
def fast_switches() -> Iterator[None]:
    """Let the interpreter change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("fast_switches")
def test_threads_opening_and_closing_blocks_at_once_are_never_mixed_up(
    build: Build, plain: list[pm.Model]
) -> None:
    outside = build("outside")
    together = threading.Barrier(8)

    def open_and_close(number: int) -> list[str]:
        model = build(f"of{number}")
        wrong = []
        together.wait(60)
        for _ in range(300):
            block = Answering(model)
            blocks.open_block(block)
            if pm.sample(model=model) is not block:
                wrong.append("its own block did not answer")
            if pm.sample(model=outside) != "plain":
                wrong.append("another block answered")
            blocks.close_block(block)
            if pm.sample(model=model) != "plain":
                wrong.append("a closed block answered")
        return wrong

    with ThreadPoolExecutor(8) as pool:
        wrong = [line for lines in pool.map(open_and_close, range(8)) for line in lines]
    assert wrong == []


def test_wrapper_made_inside_a_block_works_after_it(
    build: Build, short: Options, stub_runs: list[pm.Model]
) -> None:
    model, other = build(), build("other")
    with cp.cloud(model):
        inner = pm.sample
        pm.sample = lambda *args, **kwargs: inner(*args, **kwargs)
        assert is_answered(pm.sample())
    try:
        with model:
            assert not is_answered(pm.sample(**short))
        # a second block, with the wrapper still in place
        with cp.cloud(model):
            assert is_answered(pm.sample())
            with other:
                assert not is_answered(pm.sample(**short))
        with model:
            assert not is_answered(pm.sample(**short))
    finally:
        pm.sample = SAMPLE


def test_call_that_the_last_block_closes_under_goes_where_it_would_have_gone(
    build: Build, plain: list[pm.Model]
) -> None:
    model = build()
    with cp.cloud(model):
        on_its_way = pm.sample
    assert on_its_way(model=model) == "plain"
    assert plain == [model]


def test_function_of_a_block_put_back_after_it_does_no_harm(
    build: Build, short: Options, stub_runs: list[pm.Model]
) -> None:
    # as `unittest.mock.patch` does, when it was entered inside the block and left after it
    model, other = build(), build("other")
    with cp.cloud(model):
        inner = pm.sample
    pm.sample = inner
    with model:
        assert not is_answered(pm.sample(**short))
    with cp.cloud(model):
        assert is_answered(pm.sample())
        with other:
            assert not is_answered(pm.sample(**short))
    assert pm.sample is SAMPLE


def test_function_swapped_by_somebody_else_is_put_back(
    build: Build, plain: list[pm.Model], stub_runs: list[pm.Model]
) -> None:
    theirs = [place.sample for place in PLACES]
    with cp.cloud(build()):
        assert [place.sample is before for place, before in zip(PLACES, theirs, strict=True)] == [
            False
        ] * 3
        assert is_answered(pm.sample())
    assert [place.sample for place in PLACES] == theirs


def test_wrapper_made_before_the_package_was_imported_is_answered_for(build: Build) -> None:
    """In a process of its own, where it is imported late."""
    code = """
import pymc as pm
own = pm.sample
pm.sample = lambda *args, **kwargs: own(*args, **kwargs)
wrapper = pm.sample
import cloudposterior as cp
with pm.Model(name="late") as model:
    x = pm.Normal("x")
cache = cp.MemoryCache()
with cp.cloud(model, cache=cache):
    pm.sample(5, tune=5, chains=2, cores=1, nuts_sampler="pymc", progressbar=False)
assert len(cache.entries()) == 1
assert pm.sample is wrapper
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
