"""What two plain objects have to do to share a digest."""

import functools
import types
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import cloudposterior  # noqa: F401
from cloudposterior.errors import TokenError
from cloudposterior.identity.walk import Stream, Walk


def digest(obj):
    stream = Stream(Walk())
    stream.write(obj)
    return stream.digest()


square = np.arange(9.0).reshape(3, 3)
records = np.array([(1, 2.5)], dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True))

DIFFERENT = {
    "transpose": (square, square.T),
    "int and float": (1, 1.0),
    "int and bool": (1, True),
    "int and text": (1, "1"),
    "zero and minus zero": (0.0, -0.0),
    "0-d and 1-d": (np.array(1.0), np.array([1.0])),
    "dtype": (np.zeros(2, "f4"), np.zeros(2, "f8")),
    "byte order": (np.zeros(2, "<f8"), np.zeros(2, ">f8")),
    "shape of nothing": (np.zeros((0, 2)), np.zeros((2, 0))),
    "text joined": (np.array(["a-b", "c"], object), np.array(["a", "b-c"], object)),
    "text split": (["ab", "c"], ["a", "bc"]),
    "text and number objects": (np.array(["1"], object), np.array([1], object)),
    "list and tuple": ([1], (1,)),
    "nesting": ([[1], 2], [[1, 2]]),
    "order of keys": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "set": ({1, 2}, {1, 3}),
    "set and frozenset": ({1}, frozenset({1})),
    "slice": (slice(1, None), slice(None, 1)),
    "masked": (np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([1.0, 2.0], mask=[1, 0])),
    "array subclass": (square.view(np.recarray), square),
    "numpy scalar": (np.float64(1), 1.0),
    "index names": (pd.Index([1, 2], name="a"), pd.Index([1, 2], name="b")),
    "frame": (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]})),
    "frame columns": (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
    "categories": (pd.Categorical(["a"], ["a", "b"]), pd.Categorical(["a"], ["a"])),
    "sparse format": (scipy.sparse.csr_matrix(square), scipy.sparse.csc_matrix(square)),
    "sparse value": (scipy.sparse.csr_matrix(square), scipy.sparse.csr_matrix(2 * square)),
    "partial": (functools.partial(max, 1), functools.partial(max, 2)),
    "fraction": (Fraction(1, 3), Fraction(1, 4)),
    "generator state": (np.random.default_rng(1), np.random.default_rng(2)),
    "namespace": (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2)),
    "long double": (np.longdouble(1) + np.finfo(np.longdouble).eps, np.longdouble(1)),
    "library functions": (np.sin, np.cos),
    "bound methods": ("a".upper, "b".upper),
}
SAME = {
    "strides": (square.T, np.ascontiguousarray(square.T)),
    "view": (np.arange(10)[::2], np.array([0, 2, 4, 6, 8])),
    "padding": (records, np.frombuffer(records.tobytes(), records.dtype)),
    "set order": ({"a", "b", "c"}, {"c", "b", "a"}),
    "frame": (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 2]})),
    "attribute order": (types.SimpleNamespace(a=1, b=2), types.SimpleNamespace(b=2, a=1)),
    "shared and equal": ([(1, 2)] * 2, [(1, 2), (1, 2)]),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_walk_tells_apart(name):
    left, right = DIFFERENT[name]
    assert digest(left) != digest(right)


@pytest.mark.parametrize("name", SAME)
def test_walk_does_not_tell_apart(name):
    left, right = SAME[name]
    assert digest(left) == digest(right)


def test_walk_ends_in_a_circle():
    circle = [1]
    circle.append(circle)
    other = [1, [1]]
    assert digest(circle) == digest(circle)
    assert digest(circle) != digest(other)


def test_walk_refuses_what_is_nested_too_deep():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TokenError, match="deep"):
        Walk().digest(deep)
    while deep:  # an iterative end: freeing it at once would recurse as well
        deep = deep.pop()


def test_walk_refuses_an_open_file_and_says_where(tmp_path):
    with (
        (tmp_path / "file").open("w") as file,
        pytest.raises(TokenError, match=r"'log'.*TextIOWrapper"),
    ):
        digest({"log": file})
