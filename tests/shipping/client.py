"""The client's program: models whose parts are defined in ``__main__``, packed into a file."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
from dask.base import tokenize
from pymc.logprob.abstract import MeasurableOp, _logcdf, _logprob
from pytensor import config
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.mode import Mode
from pytensor.compile.ops import wrap_py
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch import numba_funcify
from pytensor.tensor.random.op import RandomVariable

import cloudposterior  # noqa: F401 - tokens
from cloudposterior.shipping import pack_arguments, pack_model
from tests.shipping.measure import INTERPRETED, PLAIN, PYTHON, measure, walk

DATA = np.linspace(-1.0, 1.5, 7)
SCALE = 1.5


def density(value: Any, mu: Any) -> Any:
    return -(((value - mu) / SCALE) ** 2)


def below(value: Any, mu: Any, **options: Any) -> Any:
    return pt.log(pt.sigmoid((value - mu) / SCALE))


def draw(mu: Any, rng: Any = None, size: Any = None) -> Any:
    return rng.logistic(mu, SCALE, size)


def custom(**functions: Any) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.CustomDist("x", mu, logp=density, shape=3, **functions)
        pm.CustomDist("y", mu, logp=density, observed=DATA, **functions)
    return model


def custom_lambda() -> pm.Model:
    power = np.float64(4.0)
    with pm.Model() as model:
        pm.CustomDist("x", 0.5, logp=lambda value, mu: -(abs(value - mu) ** power))
    return model


def custom_dist() -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.CustomDist(
            "y", mu, dist=lambda mu, size: pm.Normal.dist(mu, SCALE, size=size) ** 3, observed=DATA
        )
    return model


def custom_scan() -> pm.Model:
    def walked(start: Any, size: Any) -> Any:
        def step(before: Any) -> Any:
            after = pm.Normal.dist(before * 0.5, SCALE)
            return after, pm.pytensorf.collect_default_updates([after])

        values, _ = pytensor.scan(fn=step, outputs_info=[start], n_steps=5)
        return values

    with pm.Model() as model:
        pm.CustomDist("y", pm.Normal("start"), dist=walked, observed=DATA[:5])
    return model


def censored(**options: Any) -> pm.Model:
    with pm.Model() as model:
        latent = pm.CustomDist.dist(pm.Normal("mu"), logp=density, logcdf=below, random=draw)
        pm.Censored("y", latent, lower=None, upper=1.0, observed=np.minimum(DATA, 1.0))
        pm.Truncated("t", pm.Normal.dist(0.0, 2.0), lower=0.0, upper=3.0)
    return model


def mixture() -> pm.Model:
    with pm.Model() as model:
        weights = pm.Dirichlet("w", np.ones(2))
        parts = [
            pm.CustomDist.dist(0.0, logp=density, random=draw, class_name="A"),
            pm.CustomDist.dist(1.0, logp=density, random=draw, class_name="B"),
        ]
        pm.Mixture("y", weights, parts, observed=DATA)
        pm.NormalMixture("z", weights, [0.0, 1.0], [1.0, 2.0])
    return model


def wrapped() -> pm.Model:
    @wrap_py(itypes=[pt.dscalar], otypes=[pt.dscalar])
    def squared(x: Any) -> Any:
        return np.asarray(-(x**2) * SCALE)

    tripled = wrap_py([pt.dvector], [pt.dvector], infer_shape=lambda node, shapes: shapes)(
        lambda x: x * 3.0
    )
    with pm.Model() as model:
        pm.Potential("p", squared(pm.Normal("x")))
        pm.Potential("q", tripled(pm.Normal("v", shape=3)).sum())
    return model


@wrap_py(itypes=[pt.dscalar], otypes=[pt.dscalar])
def at_top(x: Any) -> Any:
    """Can be found under its name in ``__main__``, but only in the client's."""
    return np.asarray(x + SCALE)


def wrapped_at_top() -> pm.Model:
    with pm.Model() as model:
        pm.Potential("p", at_top(pm.Normal("x")))
    return model


class Scaled(Op):
    """An op of the user's, with a gradient and a form for numba."""

    __props__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def make_node(self, x: Any) -> Apply:
        x = pt.as_tensor_variable(x)
        return Apply(self, [x], [x.type()])

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        outputs[0][0] = np.asarray(inputs[0] * self.factor)

    def grad(self, inputs: Any, gradients: Any) -> Any:
        return [gradients[0] * self.factor]

    def pullback(self, inputs: Any, outputs: Any, gradients: Any) -> Any:
        return [gradients[0] * self.factor]


class Compiled(Scaled):
    """Works in numba only, by what is registered for it."""

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        raise RuntimeError("not compiled")


@numba_funcify.register(Compiled)
def compiled(op: Any, node: Any = None, **options: Any) -> Any:
    factor = op.factor

    @pytensor.link.numba.dispatch.basic.numba_njit
    def scaled(x: Any) -> Any:
        return np.asarray(x * factor)

    return scaled


class Unreducible(Scaled):
    """Says that it cannot be pickled, as `FromFunctionOp` does."""

    def __reduce__(self) -> Any:
        raise pickle.PicklingError("not found")


def own_op(cls: type = Scaled) -> pm.Model:
    with pm.Model() as model:
        pm.Potential("p", cls(2.5)(pm.Normal("x")))
    return model


class WedgeRV(RandomVariable):
    """A random variable of the user's, with rules registered by hand."""

    name = "wedge"
    signature = "()->()"
    dtype = "floatX"

    @classmethod
    def rng_fn(cls, rng: Any, mu: Any, size: Any) -> Any:
        return rng.triangular(mu - 1.0, mu, mu + 1.0, size)


@_logprob.register(WedgeRV)
def wedge_logprob(op: Any, values: Any, rng: Any, size: Any, mu: Any, **options: Any) -> Any:
    return -pt.abs(values[0] - mu) * SCALE


@_logcdf.register(WedgeRV)
def wedge_logcdf(op: Any, value: Any, rng: Any, size: Any, mu: Any, **options: Any) -> Any:
    return below(value, mu)


class DerivedRV(WedgeRV):
    """Has the rules of its base class."""

    name = "derived"


def own_rules(cls: type = WedgeRV) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu")
        rv = cls()(mu, size=3)
        model.register_rv(rv, "x", initval=np.zeros(3))
        pm.Censored("y", cls()(mu), lower=None, upper=1.0, observed=np.minimum(DATA, 1.0))
    return model


class ChangingRV(WedgeRV):
    """Has another rule each time."""

    name = "changing"


def changing(factor: float) -> pm.Model:
    @_logprob.register(ChangingRV)
    def changed(op: Any, values: Any, *inputs: Any, **options: Any) -> Any:
        return -pt.abs(values[0]) * factor

    return own_rules(ChangingRV)


class MeasuredOp(Scaled):
    """Takes part in densities, as which it is registered."""


MeasurableOp.register(MeasuredOp)


@_logprob.register(MeasuredOp)
def measured(op: Any, values: Any, x: Any, **options: Any) -> Any:
    return -(values[0] ** 2) * op.factor


def virtual() -> pm.Model:
    with pm.Model() as model:
        x = MeasuredOp(2.5)(pm.Normal.dist())
        model.register_rv(x, "x", initval=0.5)
    return model


class ShiftedRV(RandomVariable):
    name = "shifted"
    signature = "()->()"
    dtype = "floatX"

    @classmethod
    def rng_fn(cls, rng: Any, mu: Any, size: Any) -> Any:
        return rng.normal(mu, SCALE, size)


class Shifted(pm.Continuous):
    """A distribution by classes of the user's."""

    rv_op = ShiftedRV()

    @classmethod
    def dist(cls, mu: Any, **options: Any) -> Any:
        return super().dist([pt.as_tensor_variable(mu)], **options)

    def logp(value: Any, mu: Any) -> Any:
        return density(value, mu)

    def support_point(rv: Any, size: Any, mu: Any) -> Any:
        return mu + SCALE


class Adding(Op):
    """Holds the class of a distribution."""

    __props__ = ()

    def __init__(self) -> None:
        self.kind = Shifted

    make_node, perform, grad, pullback = (
        Scaled.make_node,
        Scaled.perform,
        Scaled.grad,
        Scaled.pullback,
    )
    factor = 2.0


def own_distribution() -> pm.Model:
    with pm.Model() as model:
        x = Shifted("x", 0.5)
        pm.Potential("p", Adding()(x))
    return model


def from_graph() -> pm.Model:
    x, y = pt.dscalars("x", "y")
    op = OpFromGraph([x, y], [SCALE * x - y], inline=False)
    with pm.Model() as model:
        d = pm.Deterministic("d", op(pm.Normal("a"), pm.Normal("b")))
        pm.Potential("p", -(d**2))
    return model


def used_before() -> pm.Model:
    model = from_graph()
    measure(model)
    below_view = model["d"].owner.inputs[0]
    assert below_view.owner.op.fn is not None
    return model


def labelled() -> pm.Model:
    rng = np.random.default_rng(0)
    coords = {
        "city": ["a", "b", "c"],
        "day": pd.date_range("2024-01-01", periods=7),
        "number": np.arange(3),
        "flag": np.array([True, False, True]),
        "text": np.array(["x", "yy", "zzz"]),
        "mixed": [1, 2.5, "three"],
    }
    with pm.Model(coords=coords) as model:
        x = pm.Data("x", rng.normal(size=(7, 3)), dims=("day", "city"))
        b = pm.Normal("b", dims="city", initval=np.full(3, 0.25))
        s = pm.Exponential("s", 1.0, initval="prior")
        pm.Normal("y", x @ b, s, observed=DATA, dims="day")
    return model


class Model(pm.Model):
    """A model of the user's own kind."""

    def __init__(self, name: str = "") -> None:
        super().__init__(name=name)
        self.remark = {"of": lambda x: x + SCALE}
        self.register_rv(pm.Normal.dist(SCALE), "inside")


def nested() -> pm.Model:
    with pm.Model(name="outer") as model:
        a = pm.Normal("a")
        with pm.Model(name="inner") as inner:
            b = pm.Normal("b", a, observed=DATA)
            Model("kind")
        model.register_rv(pm.Normal.dist(a), "after")
    assert inner.parent is model and b.name == "outer::inner::b"
    return model


def processes() -> pm.Model:
    with pm.Model() as model:
        length = pm.Gamma("length", 2.0, 1.0)
        covariance = pm.gp.cov.ExpQuad(1, length)
        pm.gp.Latent(cov_func=covariance).prior("f", DATA[:, None])
        pm.gp.Marginal(cov_func=covariance).marginal_likelihood("y", DATA[:, None], DATA, 0.5)
    return model


def library() -> pm.Model:
    with pm.Model() as model:
        pm.ZeroSumNormal("z", shape=4)
        pm.LKJCholeskyCov("c", n=2, eta=1.0, sd_dist=pm.Exponential.dist(1.0))
        pm.AR("ar", [0.5, 0.25], 1.0, init_dist=pm.Normal.dist(0.0, 1.0), shape=6)
        pm.GaussianRandomWalk("walk", init_dist=pm.Normal.dist(), steps=4)
        pm.Categorical("k", [0.2, 0.3, 0.5])
        pm.OrderedLogistic("o", 0.5, [-1.0, 1.0], observed=[0, 1, 2], compute_p=False)
        pm.Interpolated("i", np.arange(5.0), np.array([0.0, 1.0, 2.0, 1.0, 0.0]))
    return model


class Doubled(pm.logprob.transforms.Transform):
    """A transform of the user's."""

    name = "doubled"

    def forward(self, value: Any, *inputs: Any) -> Any:
        return value * 2.0

    def backward(self, value: Any, *inputs: Any) -> Any:
        return value / 2.0

    def log_jac_det(self, value: Any, *inputs: Any) -> Any:
        return pt.full_like(value, -np.log(2.0))


def transformed() -> pm.Model:
    with pm.Model() as model:
        pm.Normal("x", transform=Doubled())
    return model


def minibatch() -> pm.Model:
    with pm.Model() as model:
        batch = pm.Minibatch(np.arange(100.0), batch_size=10)
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=batch, total_size=100)
    return model


def simulator() -> pm.Model:
    def simulate(rng: Any, mu: Any, size: Any = None) -> Any:
        return rng.normal(mu, SCALE, size)

    with pm.Model() as model:
        pm.Simulator("y", simulate, pm.Normal("mu"), epsilon=1.0, observed=DATA)
    return model


def deep(depth: int = 200) -> pm.Model:
    with pm.Model() as model:
        total = pm.Normal("x")
        for _ in range(depth):
            total = pt.sin(total)
        pm.Normal("y", total, observed=0.5)
    return model


def frozen() -> pm.Model:
    try:
        from pymc.model.transform.optimization import freeze_model
    except ImportError:
        return from_graph()
    model = freeze_model(custom(random=draw, support_point=lambda rv, size, mu: pt.zeros(size)))
    measure(model)
    return model


def regression() -> pm.Model:
    rng = np.random.default_rng(0)
    with pm.Model() as model:
        a = pm.Normal("a")
        s = pm.HalfNormal("s")
        b = pm.CustomDist("b", a, logp=density, shape=8)
        x = pm.Data("x", rng.normal(size=50))
        pm.Normal("y", b[np.arange(50) % 8] * x, s, observed=rng.normal(size=50))
    return model


class Jump(pm.step_methods.arraystep.ArrayStep):
    """A step method of the user's."""

    def __init__(self, held: Any, model: Any = None, rng: Any = None, blocked: Any = True) -> None:
        model = pm.modelcontext(model)
        self.size = SCALE
        super().__init__(held, [model.compile_logp()], rng=rng, blocked=blocked)

    def astep(self, point: Any, logp: Any = None) -> Any:
        data = point.data + self.size * self.rng.normal(size=point.data.shape)
        return point._replace(data=data), [{}]

    @staticmethod
    def competence(var: Any, has_grad: Any = None) -> Any:
        return 1


def compiled_step() -> tuple[pm.Model, Any]:
    with regression() as model:
        return model, pm.NUTS()


def steps() -> dict[str, tuple[pm.Model, Any]]:
    model = regression()
    with model:
        made: dict[str, Any] = {
            "nuts": pm.NUTS(target_accept=0.9),
            "hmc": pm.HamiltonianMC(),
            "metropolis": pm.Metropolis(),
            "slice": pm.Slice(),
            "demetropolis": pm.DEMetropolisZ(),
            "list": [
                pm.NUTS([model["a"], model["s"]]),
                pm.Metropolis([model["b"]], tune_interval=7),
            ],
            "own": Jump([model.rvs_to_values[model["b"]]]),
            "used": pm.NUTS(),
        }
        made["compound"] = pm.CompoundStep([made["slice"].methods[0], made["demetropolis"]])
        made["untuned"] = pm.Metropolis([model["b"]])
        walk(made["used"], model)
        made["untuned"].tune = False
        made["own"].size = 0.25
    made = {name: (model, step) for name, step in made.items()}
    model = deep(150)
    with model:
        made["deep"] = model, pm.Slice()
    return made


MODELS: dict[str, Callable[[], pm.Model]] = {
    "custom": custom,
    "custom random": lambda: custom(random=draw),
    "custom all": lambda: custom(
        random=draw, logcdf=below, support_point=lambda rv, size, mu: pt.full(size, mu + 1)
    ),
    "custom lambda": custom_lambda,
    "custom dist": custom_dist,
    "custom scan": custom_scan,
    "censored": censored,
    "mixture": mixture,
    "wrapped": wrapped,
    "wrapped at top": wrapped_at_top,
    "own op": own_op,
    "own op for numba": lambda: own_op(Compiled),
    "own op that refuses": lambda: own_op(Unreducible),
    "own rules": own_rules,
    "own rules of a base": lambda: own_rules(DerivedRV),
    "own rules that change": lambda: changing(2.0),
    "own rules that changed": lambda: changing(3.0),
    "virtual base": virtual,
    "own distribution": own_distribution,
    "from graph": from_graph,
    "used before": used_before,
    "labelled": labelled,
    "nested": nested,
    "inner": lambda: Model("kind"),
    "processes": processes,
    "library": library,
    "transformed": transformed,
    "minibatch": minibatch,
    "simulator": simulator,
    "deep": deep,
    "frozen": frozen,
}


def main(path: str) -> None:
    """Pack everything, with what it computes here."""
    models: dict[str, Any] = {}
    for name, build in MODELS.items():
        mode = "NUMBA" if name.endswith("numba") else PYTHON
        with config.change_flags(**INTERPRETED):
            model = build()
            data = pack_model(model)
            models[name] = data, mode, measure(model, mode), tokenize(model)
    with config.change_flags(**PLAIN):
        sent = {"compiled": send_step(*compiled_step())}
    with config.change_flags(**INTERPRETED):
        sent |= {name: send_step(*made) for name, made in steps().items()}
    with open(path, "wb") as file:
        pickle.dump((models, sent, arguments()), file)


def send_step(model: pm.Model, step: Any) -> tuple[Any, ...]:
    """Pack a step method, with its state before it walks here."""
    data = pack_arguments({"step": step}, model)
    parts = step if isinstance(step, list) else [step]
    states = [part.sampling_state for part in parts]
    return pack_model(model), data, states, [walk(part, model) for part in parts]


def arguments() -> tuple[bytes, bytes]:
    """All sorts of arguments of a call."""
    model = labelled()
    given = {
        "draws": 10,
        "model": model,
        "initvals": {model["b"]: np.ones(3), model["s"]: model["b"].sum() ** 2},
        "value_vars": model.value_vars,
        "var_names": ["b"],
        "data": model["x"],
        "idata_kwargs": {"log_likelihood": True, "coords": {"city": ["a"]}},
        "compile_kwargs": {"mode": Mode(linker="py", optimizer="fast_run").excluding("fusion")},
        "named_mode": {"mode": "FAST_COMPILE"},
        "callback": lambda trace, draw: SCALE,
        "rng": np.random.default_rng(5),
    }
    return pack_model(model), pack_arguments(given, model)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
