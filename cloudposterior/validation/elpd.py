"""Expected log predictive densities as the installed ArviZ knows them."""

from __future__ import annotations

from typing import Any

import arviz
import numpy as np
from xarray import DataArray

__all__ = ["IS_LEGACY", "kfold_elpd"]

IS_LEGACY = "InferenceData" in vars(arviz)
"""Whether ArviZ is 0.x."""


def kfold_elpd(elpd_i: DataArray, p_i: DataArray, *, samples: int, folds: int) -> Any:
    """Make the object that `arviz.compare` takes.

    Parameters
    ----------
    elpd_i : xarray.DataArray
        The log predictive density of each row, held out.
    p_i : xarray.DataArray
        What each is less than that of the fit to all rows.
    samples : int
        How many draws a fit has.
    folds : int
        How many folds there are.

    Returns
    -------
    arviz_stats.ELPDData or arviz.stats.stats_utils.ELPDData
        With the standard error as that ArviZ's `loo` computes it.
    """
    make = _legacy if IS_LEGACY else _present
    return make(elpd_i, p_i, samples, folds)


def _legacy(elpd_i: DataArray, p_i: DataArray, samples: int, folds: int) -> Any:
    from arviz.stats.stats_utils import ELPDData

    # ArviZ 0.x compares results of "loo" and "waic" only, and reads which it is from these names
    values = {
        "elpd_loo": float(elpd_i.sum()),
        "se": _standard_error(elpd_i, ddof=0),
        "p_loo": float(p_i.sum()),
        "n_samples": samples,
        "n_data_points": elpd_i.size,
        "warning": False,
        "loo_i": elpd_i.rename("loo_i"),
        "scale": "log",
        "n_folds": folds,
    }
    return ELPDData(data=list(values.values()), index=list(values))


def _present(elpd_i: DataArray, p_i: DataArray, samples: int, folds: int) -> Any:
    from arviz_stats.utils import ELPDDataLOOKFold

    return ELPDDataLOOKFold(
        elpd=float(elpd_i.sum()),
        se=_standard_error(elpd_i, ddof=1),
        p=float(p_i.sum()),
        n_samples=samples,
        n_data_points=elpd_i.size,
        scale="log",
        warning=False,
        good_k=None,
        elpd_i=elpd_i,
        n_folds=folds,
        p_kfold_i=p_i,
    )


def _standard_error(elpd_i: DataArray, *, ddof: int) -> float:
    """Give the standard error of the sum (Vehtari et al. 2017, equation 23)."""
    return float(np.sqrt(elpd_i.size * np.var(elpd_i.values, ddof=ddof)))
