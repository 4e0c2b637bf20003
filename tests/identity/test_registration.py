"""What Dask makes of models, variables, ops, types and graphs once the package is imported."""

import subprocess
import sys

import dask
import numpy as np
import pymc as pm
import pytensor.tensor as pt
from dask.base import tokenize
from pytensor.graph.fg import FunctionGraph

import cloudposterior  # noqa: F401


def model(sigma=1.0, cls=pm.Model):
    with cls() as made:
        pm.Normal("x", 0.0, sigma)
    return made


def test_tokens_hold_for_classes_that_dask_has_met_before():
    program = """
import pymc as pm
from dask.base import tokenize

class Mine(pm.Model):
    pass

def build(cls):
    with cls() as model:
        pm.Normal("x")
    return model

for cls in (pm.Model, Mine):
    tokenize(build(cls), build(cls)["x"], build(cls)["x"].owner.op, build(cls)["x"].type)
import cloudposterior
for cls in (pm.Model, Mine):
    for part in (lambda m: m, lambda m: m["x"], lambda m: m["x"].owner.op, lambda m: m["x"].type):
        assert tokenize(part(build(cls))) == tokenize(part(build(cls))), (cls, part)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_tokens_of_a_subclass_made_later_are_those_of_its_content():
    class Later(pm.Model):
        pass

    assert tokenize(model(cls=Later)) == tokenize(model(cls=Later))
    assert tokenize(model(cls=Later)) != tokenize(model(2.0, cls=Later))
    assert tokenize(model(cls=Later)) != tokenize(model())


def test_models_within_other_objects_are_read_too():
    assert tokenize({"models": [model(), 1]}) == tokenize({"models": [model(), 1]})
    assert tokenize({"models": [model(), 1]}) != tokenize({"models": [model(2.0), 1]})


def test_tokens_pass_when_dask_insists_on_determinism():
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        assert tokenize(model()) == tokenize(model())


def test_variables_ops_types_and_graphs_have_tokens_in_their_own_right():
    def parts():
        x = pt.vector("x")
        y = pt.exp(x) + np.arange(3.0)
        return x, y, y.owner, y.owner.op, y.type, FunctionGraph([x], [y], clone=True)

    tokens = [tokenize(part) for part in parts()]
    assert tokens == [tokenize(part) for part in parts()]
    assert len(set(tokens)) == len(tokens)


def test_graph_tells_its_inputs_apart():
    x, y = pt.vectors("x", "y")
    one = FunctionGraph([x, y], [x - y], clone=True)
    other = FunctionGraph([x, y], [y - x], clone=True)
    assert tokenize(one) != tokenize(other)
    assert tokenize(x - y) != tokenize(y - x)
