"""Cross-validation agrees with the closed form, and does only what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pytest
from distributed import Client
from scipy import stats
from sklearn.model_selection import GroupKFold, KFold, RepeatedKFold, StratifiedKFold

import cloudposterior as cp
from cloudposterior.validation import kfold as module
from cloudposterior.validation.elpd import IS_LEGACY
from cloudposterior.validation.folds import pairs_of

RNG = np.random.default_rng(4)
X = np.linspace(-1.0, 1.0, 8)
Y = 0.5 + 2 * X + RNG.normal(size=8)
DESIGN = np.column_stack([np.ones(8), X])


def line(rows: Any) -> pm.Model:
    with pm.Model() as model:
        a = pm.Normal("a", 0.0, 2.0)
        b = pm.Normal("b", 0.0, 2.0)
        pm.Normal("y", a + b * X[rows], 1.0, observed=Y[rows])
    return model


def flat(rows: Any) -> pm.Model:
    with pm.Model() as model:
        a = pm.Normal("a", 0.0, 2.0)
        pm.Normal("y", a, 1.0, observed=Y[rows])
    return model


def exact(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The log predictive density of each held-out row of `line`."""
    design = DESIGN[train]
    covariance = np.linalg.inv(np.eye(2) / 4.0 + design.T @ design)
    mean = DESIGN[test] @ covariance @ design.T @ Y[train]
    variance = 1.0 + np.einsum("ij,jk,ik->i", DESIGN[test], covariance, DESIGN[test])
    return np.asarray(stats.norm.logpdf(Y[test], mean, np.sqrt(variance)))


def pointwise(elpd: Any) -> np.ndarray:
    return np.asarray(elpd["loo_i" if IS_LEGACY else "elpd_i"])


def total(elpd: Any) -> float:
    return float(elpd["elpd_loo" if IS_LEGACY else "elpd"])


@pytest.mark.slow
def test_as_many_folds_as_rows_are_exact_leave_one_out(options: dict[str, Any]) -> None:
    elpd = cp.kfold(line, folds=8, cache=False, **options)
    rows = np.arange(8)
    wanted = np.concatenate([exact(np.delete(rows, i), rows[[i]]) for i in rows])
    # the error of a mean of some hundred independent draws, on the log scale
    np.testing.assert_allclose(pointwise(elpd), wanted, atol=0.1)
    assert total(elpd) == pytest.approx(wanted.sum(), abs=0.3)
    # two parameters, and priors that say little
    assert 1.0 < float(elpd["p_loo" if IS_LEGACY else "p"]) < 3.5
    assert (elpd["n_samples"], elpd["n_data_points"], elpd["n_folds"]) == (400, 8, 8)


def test_folds_of_a_splitter_are_exact_and_can_be_compared(options: dict[str, Any]) -> None:
    splitter = KFold(2, shuffle=True, random_state=0)
    folds = list(splitter.split(X))
    both = {
        "line": cp.kfold(line, folds=splitter, cache=False, **options),
        "flat": cp.kfold(flat, folds=folds, cache=False, **options),
    }
    for train, test in folds:
        np.testing.assert_allclose(pointwise(both["line"])[test], exact(train, test), atol=0.1)
    compared = az.compare(both)
    assert list(compared.index) == ["line", "flat"]
    assert "elpd" in str(both["line"])


def test_second_call_does_only_what_is_missing(
    options: dict[str, Any], runs: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    cache = cp.MemoryCache()
    options |= {"draws": 20, "tune": 20}

    def breaking(rows: Any) -> pm.Model:
        if len(runs) == 2 and np.array_equal(rows, [0, 1, 2, 3]):
            raise RuntimeError("power cut")
        return line(rows)

    with pytest.raises(RuntimeError, match="power cut"):
        cp.kfold(breaking, folds=KFold(2), cache=cache, **options)
    assert len(runs) == 2
    first = cp.kfold(line, folds=KFold(2), cache=cache, **options)
    assert len(runs) == 3
    second = cp.kfold(line, folds=KFold(2), cache=cache, **options)
    assert len(runs) == 3
    np.testing.assert_array_equal(pointwise(first), pointwise(second))
    assert "cached result" in capsys.readouterr().out


def test_cluster_gives_the_same(two_workers: Client, options: dict[str, Any]) -> None:
    options |= {"draws": 30, "tune": 30}
    here = cp.kfold(line, folds=2, cache=False, **options)
    there = cp.kfold(line, folds=2, cluster=two_workers, cache=False, **options)
    np.testing.assert_allclose(pointwise(here), pointwise(there), rtol=1e-12)


def test_elements_of_a_row_are_predicted_together(options: dict[str, Any]) -> None:
    outcomes = np.column_stack([Y, -Y])

    def two(rows: Any) -> pm.Model:
        with pm.Model(coords={"row": np.arange(8)[rows] + 100, "side": [0, 1]}) as model:
            a = pm.Normal("a", 0.0, 2.0)
            pm.Normal("y", a, 1.0, observed=outcomes[rows], dims=("row", "side"))
            pm.Normal("other", a, 1.0, observed=0.0)
        return model

    options |= {"draws": 20, "tune": 20}
    elpd = cp.kfold(two, folds=2, var_name="y", cache=False, **options)
    values = elpd["loo_i" if IS_LEGACY else "elpd_i"]
    assert values.dims == ("row",) and list(values["row"].values) == list(range(100, 108))
    assert np.isfinite(values).all()
    with pytest.raises(ValueError, match=r"\['y', 'other'\]"):
        cp.kfold(two, folds=2, cache=False, **options)


def test_parameter_for_each_row_is_refused(options: dict[str, Any]) -> None:
    def effects(rows: Any) -> pm.Model:
        with pm.Model() as model:
            a = pm.Normal("a", shape=len(Y[rows]))
            pm.Normal("y", a, 1.0, observed=Y[rows])
        return model

    options |= {"draws": 5, "tune": 5}
    with pytest.raises(ValueError, match=r"'a' has shape \(5,\) in one fit and \(3,\) for"):
        cp.kfold(
            effects,
            folds=[(np.arange(3, 8), np.arange(3)), (np.arange(3), np.arange(3, 8))],
            cache=False,
            **options,
        )


def test_likelihood_of_all_rows_at_once_is_refused(options: dict[str, Any]) -> None:
    def together(rows: Any) -> pm.Model:
        with pm.Model() as model:
            a = pm.Normal("a")
            size = len(Y[rows])
            pm.MvNormal("y", a + np.zeros(size), np.eye(size), observed=Y[rows])
        return model

    options |= {"draws": 5, "tune": 5}
    with pytest.raises(ValueError, match="one value for each row"):
        cp.kfold(together, folds=2, cache=False, **options)


LABELS = np.repeat([0, 1], 6)
GROUPS = np.repeat([0, 1, 2, 3], 3)


@pytest.mark.parametrize(
    ("folds", "given", "same_as"),
    [
        (3, {}, KFold(3, shuffle=True, random_state=7)),
        (3, {"y": LABELS}, StratifiedKFold(3, shuffle=True, random_state=7)),
        (4, {"groups": GROUPS}, GroupKFold(4)),
    ],
)
def test_number_of_folds_is_random_stratified_or_grouped(
    folds: Any, given: dict[str, Any], same_as: Any
) -> None:
    ours = pairs_of(folds, lambda: 12, seed=7, **given)
    theirs = same_as.split(LABELS, given.get("y"), given.get("groups"))
    for (train, test), (train_too, test_too) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(train, train_too)
        np.testing.assert_array_equal(test, test_too)


def test_stratified_groups_stay_together() -> None:
    pairs = pairs_of(2, lambda: 0, y=LABELS, groups=GROUPS, seed=0)
    for train, test in pairs:
        assert not set(GROUPS[train]) & set(GROUPS[test])
        assert set(LABELS[test]) == {0, 1}


@pytest.mark.parametrize(
    ("folds", "match"),
    [
        (RepeatedKFold(n_splits=2, n_repeats=2), "held out once: the folds hold out 24 rows"),
        ([], "has no fold"),
        ([([1], [0]), ([0], [2])], "the last is 2"),
        ([([0, 1], [0]), ([0], [1])], "fold 0 holds out rows that it also fits"),
        ([(np.array([True, False]), np.array([False, True]))], "fold 0 has an array of bool"),
        ([([], [0])], r"fold 0 has an array of float64 of shape \(0,\)"),
    ],
)
def test_folds_that_are_none_are_refused(folds: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        pairs_of(folds, lambda: 12, seed=0)


def test_lack_of_scikit_learn_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        pairs_of(3, lambda: 12, seed=0)
    assert len(pairs_of([([1], [0]), ([0], [1])], lambda: 2, seed=0)) == 2


def test_rows_are_counted_by_the_factory() -> None:
    asked: list[Any] = []

    def noting(rows: Any) -> pm.Model:
        asked.append(rows)
        return line(rows)

    counting: Callable[..., int] = module._rows
    assert counting(noting, None) == 8
    assert asked == [slice(None)]
