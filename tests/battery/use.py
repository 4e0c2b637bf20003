"""Models before and after they are used: what PyMC does with a model leaves its token as it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import collect_default_updates

from tests.battery import constants, data, functions, gp, nodes, ops, priors, structure
from tests.battery.bodies import source
from tests.battery.custom import with_dist, with_logp
from tests.battery.modules import CHAIN
from tests.battery.pairs import Builder, Pair, namespace


def advance_random_state(model: pm.Model) -> None:
    """Draw from the generators that the random variables share."""
    for variable in model.basic_RVs:
        generator = variable.owner.inputs[0].get_value(borrow=True)
        generator.normal(size=7)


def compile_logp(model: pm.Model) -> None:
    """Compile and call the log-density."""
    model.compile_logp()(model.initial_point())


def compile_gradient(model: pm.Model) -> None:
    """Compile and call the gradient, by way of a graph of it."""
    model.compile_dlogp()(model.initial_point())


def sample(model: pm.Model) -> None:
    """Sample a few draws with PyMC's own sampler."""
    pm.sample(
        draws=4, tune=4, chains=1, cores=1, nuts_sampler="pymc", progressbar=False, quiet=True,
        compute_convergence_checks=False, random_seed=1, model=model,
    )  # fmt: skip


def sample_prior(model: pm.Model) -> None:
    """Draw from the prior predictive distribution."""
    pm.sample_prior_predictive(draws=3, model=model, random_seed=1)


def show(model: pm.Model) -> None:
    """Print the graph, and the formulas of the variables."""
    pytensor.dprint(model.basic_RVs, file="str")
    for variable in model.basic_RVs:
        variable.str_repr()


def draw(model: pm.Model) -> None:
    """Draw free variables."""
    pm.draw(model.free_RVs, draws=3, random_seed=1)


def unchanged(action: Callable[[pm.Model], Any], subjects: dict[str, Builder]) -> tuple[Pair, ...]:
    """Pair each model with itself after the action."""

    def acted(build: Builder) -> pm.Model:
        model = build()
        # What PyTensor says of the machine's BLAS, or of an op without compiled code, is no matter.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action(model)
        return model

    name = action.__name__.replace("_", " ")
    return tuple(
        Pair(
            f"after {name}: {subject}", build, lambda build=build: acted(build), "same", costly=True
        )
        for subject, build in subjects.items()
    )


def pickled(build: Builder) -> Any:
    """Build, pickle by cloudpickle, and load again."""
    return cloudpickle.loads(cloudpickle.dumps(build()))


def line(count: int = 12) -> pm.Model:
    """A small regression with data, a transform and a deterministic."""
    x = np.linspace(0.0, 1.0, count)
    with pm.Model(coords={"point": np.arange(count)}) as model:
        covariate = pm.Data("covariate", x, dims="point")
        a, b = pm.Normal("a"), pm.Normal("b", initval=0.5)
        mu = pm.Deterministic("mu", a + b * covariate, dims="point")
        pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=1.0 + x, dims="point")
    return model


def with_op() -> pm.Model:
    """A model with an op of the user's, which has no gradient."""
    return ops.applying(ops.Plain(np.array(2.0)))


def with_text() -> pm.Model:
    """A model with a likelihood whose module is not registered."""
    return with_logp(source("return -((value - mu) ** 2)"))


def with_chain() -> pm.Model:
    """A model with a likelihood that reads functions and numbers of such a module."""
    return with_logp(namespace(CHAIN.format(2.0)).logp)


def with_scan() -> pm.Model:
    """A model with a distribution whose inner graph is a random recurrence."""

    def step(state: Any, rate: Any) -> Any:
        drawn = pm.Normal.dist(0.5 * state + rate, 1.0)
        return drawn, collect_default_updates(inputs=[state, rate], outputs=[drawn])

    def walk(mu: Any, size: Any) -> Any:
        states, _ = pytensor.scan(
            step, outputs_info=[pt.zeros(())], non_sequences=[mu], n_steps=3, strict=True
        )
        return states

    # Random numbers inside a scan still need the updates that PyTensor warns of.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return with_dist(walk)


EVERY: dict[str, Builder] = {
    "line": line,
    "covariance": priors.lkj,
    "mixture": priors.mixture,
    "autoregression": priors.autoregression,
    "function": with_chain,
    "scan": nodes.scanning,
    "distribution by a scan": with_scan,
    "op from a graph": ops.from_graph,
}
ONCE = {"line": line}

PAIRS: tuple[Pair, ...] = (
    *unchanged(advance_random_state, {**ONCE, "radon": constants.radon}),
    *unchanged(pm.Model.initial_point, {**EVERY, "process": gp.latent, "data": data.regression}),
    *unchanged(pm.Model.logp, {**EVERY, "potentials": structure.penalised}),
    *unchanged(draw, {**ONCE, "mixture": priors.mixture, "potentials": structure.penalised}),
    *unchanged(compile_logp, {**EVERY, "op": with_op}),
    *unchanged(compile_gradient, ONCE),
    *unchanged(sample, ONCE),
    *unchanged(sample_prior, ONCE),
    *unchanged(show, {**ONCE, "mixture": priors.mixture}),
    *(
        Pair(f"pickled: {name}", build, lambda build=build: pickled(build), "same")
        for name, build in {
            "line": line,
            "mixture": priors.mixture,
            "op": with_op,
            "interval": lambda: priors.prior(transform=priors.UNIT, initval=0.5),
        }.items()
    ),
    *(
        Pair(
            f"pickled function: {name}",
            lambda build=build: with_logp(build()),
            lambda build=build: with_logp(pickled(build)),
            "same",
        )
        for name, build in {
            "text": lambda: source("return -((value - mu) ** 2)"),
            "globals": lambda: namespace(CHAIN.format(2.0)).logp,
            "closure": lambda: functions.nested(2),
            "method": lambda: functions.Likelihood(2.0).method,
        }.items()
    ),
)
