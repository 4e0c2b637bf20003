"""Constants: every byte, the dtype and the shape of an array count, its memory layout does not."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.sparse
import pytensor.tensor as pt
import scipy.sparse

from tests.battery.pairs import Pair, changed, contrast, vary

N = 3000
RANDOM = np.random.default_rng(20260)
COUNTY = RANDOM.integers(0, 85, N)
FLOOR = RANDOM.normal(size=N)
LOG_RADON = RANDOM.normal(size=N)
MATRIX = RANDOM.normal(size=(4, 4))
MILLION = np.linspace(-1.0, 1.0, 1_000_000)


def radon(
    county: Any = COUNTY, floor: Any = FLOOR, log_radon: Any = LOG_RADON, scale: float = 1.0
) -> pm.Model:
    """Varying intercepts over counties, with index and covariate as plain constants."""
    with pm.Model() as model:
        mu_a = pm.Normal("mu_a", 0.0, 10.0)
        a = pm.Normal("a", mu_a, scale, shape=85)
        b = pm.Normal("b", 0.0, 10.0)
        sigma = pm.HalfNormal("sigma", 5.0)
        pm.Normal("y", a[county] + b * floor, sigma, observed=log_radon)
    return model


def holding(value: Any) -> pm.Model:
    """A model whose one potential holds the value as a constant."""
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Potential("held", pt.sum(pt.as_tensor_variable(value) * x))
    return model


def observing(value: Any) -> pm.Model:
    """A model that observes the value; missing entries are imputed, with PyMC's warning unheard."""
    with pm.Model() as model, warnings.catch_warnings():
        warnings.simplefilter("ignore", pm.exceptions.ImputationWarning)
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=value)
    return model


def counting(value: Any) -> pm.Model:
    """A model that observes counts, some of which may be missing."""
    with pm.Model() as model, warnings.catch_warnings():
        warnings.simplefilter("ignore", pm.exceptions.ImputationWarning)
        pm.Poisson("y", pm.HalfNormal("rate"), observed=value)
    return model


def sharing(value: Any) -> pm.Model:
    """A model that reads a shared variable which is no ``pm.Data``."""
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Potential("shared", pt.sum(pytensor.shared(value) * x))
    return model


def sparse_design(
    middle: float = 2.0, column: int = 1, layout: str = "csr", shape: tuple[int, int] = (3, 3)
) -> pm.Model:
    """A regression on a sparse matrix with three entries."""
    entries = ([1.0, middle, 3.0], ([0, 1, 2], [0, column, 2]))
    design = scipy.sparse.coo_matrix(entries, shape=shape).asformat(layout)
    with pm.Model() as model:
        b = pm.Normal("b", shape=(shape[1], 1))
        mu = pytensor.sparse.structured_dot(pytensor.sparse.as_sparse_variable(design), b)
        pm.Normal("y", mu, 1.0, observed=np.zeros((shape[0], 1)))
    return model


def masked(at: int = 1, beneath: float = 0.0, seen: float = 3.0) -> np.ma.MaskedArray:
    """Five values, one of them masked."""
    values = np.array([1.0, 2.0, seen, 4.0, 5.0])
    values[at] = beneath
    return np.ma.masked_array(values, mask=np.arange(5) == at)


def constant(value: Any) -> pt.TensorVariable:
    """A bare PyTensor constant, outside any model."""
    return pt.constant(value)


PAIRS: tuple[Pair, ...] = (
    *vary(
        "radon",
        radon,
        {
            "index entry in the middle": dict(
                county=changed(COUNTY, 1500, (COUNTY[1500] + 1) % 85)
            ),
            "first index entry": dict(county=changed(COUNTY, 0, (COUNTY[0] + 1) % 85)),
            "last index entry": dict(county=changed(COUNTY, -1, (COUNTY[-1] + 1) % 85)),
            "index dtype": dict(county=COUNTY.astype("int32")),
            "index reversed": dict(county=COUNTY[::-1]),
            "covariate entry in the middle": dict(floor=changed(FLOOR, 1500, 7.0)),
            "covariate entry by 1e-9": dict(floor=changed(FLOOR, 1501, FLOOR[1501] + 1e-9)),
            "covariate entries swapped": dict(
                floor=changed(FLOOR, [1500, 1501], FLOOR[[1501, 1500]])
            ),
            "covariate dtype": dict(floor=FLOOR.astype("float32")),
            "covariate reversed": dict(floor=FLOOR[::-1]),
            "observation by 1e-9": dict(log_radon=changed(LOG_RADON, 77, LOG_RADON[77] + 1e-9)),
            "observation by one unit in the last place": dict(
                log_radon=changed(LOG_RADON, 1500, np.nextafter(LOG_RADON[1500], np.inf))
            ),
            "observations swapped": dict(
                log_radon=changed(LOG_RADON, [10, 2000], LOG_RADON[[2000, 10]])
            ),
            "observations cut by one": dict(
                county=COUNTY[:-1], floor=FLOOR[:-1], log_radon=LOG_RADON[:-1]
            ),
            "prior scale": dict(scale=1.0 + 1e-12),
        },
    ),
    *vary(
        "radon",
        radon,
        {
            "built again": {},
            "copies of all arrays": dict(
                county=COUNTY.copy(), floor=FLOOR.copy(), log_radon=LOG_RADON.copy()
            ),
            "covariate strided in memory": dict(floor=np.repeat(FLOOR, 2)[::2]),
            "observations as a read-only view": dict(
                log_radon=np.frombuffer(LOG_RADON.tobytes(), dtype="float64")
            ),
        },
        "same",
    ),
    *contrast(
        "constant",
        holding,
        {
            "square matrix and its transpose": (MATRIX, MATRIX.T),
            "transpose in memory only": (MATRIX, np.asfortranarray(MATRIX.T)),
            "off-diagonal entries swapped": (
                np.array([[1.0, 2.0], [3.0, 4.0]]),
                np.array([[1.0, 3.0], [2.0, 4.0]]),
            ),
            "no dimension and one dimension": (np.array(1.5), np.array([1.5])),
            "a row and a column": (np.ones((1, 3)), np.ones((3, 1))),
            "shape of the same bytes": (np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2)),
            "flat and square": (np.arange(4.0), np.arange(4.0).reshape(2, 2)),
            "empty arrays of other shapes": (np.zeros((0, 2)), np.zeros((2, 0))),
            "negative zero": (np.array([0.0, 1.0]), np.array([-0.0, 1.0])),
            "nan and zero": (np.array([1.0, np.nan]), np.array([1.0, 0.0])),
            "place of a nan": (np.array([1.0, np.nan]), np.array([np.nan, 1.0])),
            "nan and infinity": (np.array([np.nan]), np.array([np.inf])),
            "sign of infinity": (np.array([np.inf]), np.array([-np.inf])),
            "a subnormal number": (np.array([0.0]), np.array([5e-324])),
            "integers and floats": (np.array([1, 2]), np.array([1.0, 2.0])),
            "booleans and bytes": (np.array([True, False]), np.array([1, 0], dtype="uint8")),
            "signed and unsigned": (np.array([1, 2], "int8"), np.array([1, 2], "uint8")),
            "one bit pattern, two dtypes": (np.array([1.0]), np.array([1.0]).view("int64")),
            "real and complex": (np.array([1.0, 2.0]), np.array([1.0, 2.0], dtype="complex128")),
            "imaginary part": (np.array([1.0 + 2.0j]), np.array([1.0 + 3.0j])),
            "a million entries, one in the middle": (
                MILLION,
                changed(MILLION, 500_001, MILLION[500_001] + 1e-12),
            ),
            "a million entries, one 0.1 before the end": (MILLION, changed(MILLION, -100_000, 0.5)),
        },
    ),
    *contrast(
        "constant",
        holding,
        {
            "nan equals itself": (np.array([1.0, np.nan]), np.array([1.0, np.nan])),
            "memory order of a matrix": (MATRIX, np.asfortranarray(MATRIX)),
            "every other entry of a longer array": (np.arange(5.0), np.arange(0.0, 5.0, 0.5)[::2]),
            "a list and an array": ([1.0, 2.5], np.array([1.0, 2.5])),
            "a million entries": (MILLION, MILLION.copy()),
        },
        "same",
    ),
    *contrast(
        "bare constant",
        constant,
        {
            "value": (1.5, 1.5 + 1e-15),
            "transpose": (MATRIX, MATRIX.T),
            "dtype": (np.float64(0.5), np.float32(0.5)),
        },
    ),
    Pair("bare constant: equal values", partial(constant, 1.5), partial(constant, 1.5), "same"),
    *contrast(
        "shared variable",
        sharing,
        {
            "entry in the middle": (FLOOR, changed(FLOOR, 1500, 7.0)),
            "dtype": (np.zeros(3), np.zeros(3, dtype="float32")),
            "transpose": (MATRIX, MATRIX.T),
            "negative zero": (np.array([0.0]), np.array([-0.0])),
        },
    ),
    *vary(
        "sparse constant",
        sparse_design,
        {
            "value": dict(middle=2.5),
            "index": dict(column=2),
            "format": dict(layout="csc"),
            "shape": dict(shape=(3, 4)),
        },
    ),
    *vary("sparse constant", sparse_design, {"built again": {}}, "same"),
    *contrast(
        "observed",
        observing,
        {
            "which value is masked": (masked(at=1), masked(at=3)),
            "value beside the mask": (masked(), masked(seen=3.5)),
            "masked and not masked": (masked(beneath=2.0), masked(beneath=2.0).data),
            "which value is nan": (np.array([1.0, np.nan, 1.0]), np.array([1.0, 1.0, np.nan])),
            "one more nan": (np.array([1.0, np.nan, 1.0]), np.array([1.0, np.nan, np.nan])),
            "value beside a nan": (np.array([1.0, np.nan, 1.0]), np.array([1.0, np.nan, 2.0])),
            "permuted beside a nan": (np.array([1.0, np.nan, 2.0]), np.array([2.0, np.nan, 1.0])),
            "rounded to float32": (np.array([0.1]), np.array([0.1], dtype="float32")),
        },
    ),
    *contrast(
        "observed",
        observing,
        {
            "masked alike": (masked(), masked()),
            "a list and an array": ([0.5, 1.5], np.array([0.5, 1.5])),
            "nan alike": (np.array([1.0, np.nan]), np.array([1.0, np.nan])),
        },
        "same",
    ),
    *contrast(
        "observed counts",
        counting,
        {
            "one count": (np.array([1, 0, 3]), np.array([1, 0, 4])),
            "zero moved": (np.array([0, 1]), np.array([1, 0])),
            "which count is masked": (
                np.ma.masked_array([1, 2, 3], [True, False, False]),
                np.ma.masked_array([1, 2, 3], [False, False, True]),
            ),
        },
    ),
)
