"""From what is given as folds to pairs of row numbers."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any

import numpy as np

__all__ = ["Pair", "pairs_of"]

Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""The rows to fit, and the rows that are held out."""


def pairs_of(
    folds: Any, rows: Callable[[], int], *, y: Any = None, groups: Any = None, seed: int
) -> list[Pair]:
    """Give the rows to fit and the rows to hold out, fold by fold.

    Parameters
    ----------
    folds : int, scikit-learn splitter or iterable of pairs
        As for `kfold`.
    rows : callable
        Tells how many rows there are, where neither `y` nor `groups` do.
    y, groups : array-like, optional
        As for `kfold`.
    seed : int
        Shuffles the rows where `folds` is a number.

    Raises
    ------
    ImportError
        If scikit-learn is needed and is not installed.
    ValueError
        If a row is held out more than once, or never, or is held out of a fit that has it.
    """
    if isinstance(folds, int | np.integer):
        folds = _splitter(
            int(folds), stratified=y is not None, grouped=groups is not None, seed=seed
        )
    if hasattr(folds, "split"):
        known = next((each for each in (y, groups) if isinstance(each, Sized)), None)
        number = rows() if known is None else len(known)
        folds = folds.split(np.zeros((number, 1)), y, groups)
    pairs = [(np.asarray(train), np.asarray(test)) for train, test in folds]
    _check(pairs)
    return pairs


def _splitter(number: int, *, stratified: bool, grouped: bool, seed: int) -> Any:
    try:
        from sklearn import model_selection
    except ImportError as error:
        raise ImportError(
            "scikit-learn makes the folds: pip install scikit-learn, or give "
            "folds= as (train, test) pairs of row numbers"
        ) from error
    if grouped and stratified:
        return model_selection.StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    if grouped:
        return model_selection.GroupKFold(number)
    if stratified:
        return model_selection.StratifiedKFold(number, shuffle=True, random_state=seed)
    return model_selection.KFold(number, shuffle=True, random_state=seed)


def _check(pairs: list[Pair]) -> None:
    if not pairs:
        raise ValueError("folds= has no fold")
    for number, (train, test) in enumerate(pairs):
        for rows in (train, test):
            if rows.ndim != 1 or rows.dtype.kind not in "iu":
                raise ValueError(
                    f"folds= are pairs of row numbers: fold {number} has an array of {rows.dtype} "
                    f"of shape {rows.shape}"
                )
        if np.intersect1d(train, test).size:
            raise ValueError(f"fold {number} holds out rows that it also fits")
    held_out = np.concatenate([test for _, test in pairs])
    if not np.array_equal(np.sort(held_out), np.arange(held_out.size)):
        raise ValueError(
            f"each row has to be held out once: the folds hold out {held_out.size} rows, of which "
            f"{np.unique(held_out).size} are different and the last is {held_out.max(initial=-1)}"
        )
