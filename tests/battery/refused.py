"""What has no value that could be read: no token is made, and none is guessed."""

from __future__ import annotations

import atexit
import ctypes
import os
import queue
import socket
import sqlite3
import sys
import threading
from typing import Any

import numpy as np
import pymc as pm

from tests.battery.custom import with_logp, with_potential
from tests.battery.functions import Likelihood, scaled, with_default
from tests.battery.globals import reading
from tests.battery.ops import Calling, Plain, applying
from tests.battery.pairs import Pair, namespace, refuse

# They are opened once and stay open until the end, so that none is collected while open.
OPEN_FILE = open(os.devnull)  # noqa: SIM115
OPEN_SOCKET = socket.socket()
CONNECTION = sqlite3.connect(":memory:")
for opened in (OPEN_FILE, OPEN_SOCKET, CONNECTION):
    atexit.register(opened.close)

OPAQUE: dict[str, Any] = {
    "open file": OPEN_FILE,
    "socket": OPEN_SOCKET,
    "database connection": CONNECTION,
    "generator": (i for i in range(3)),
    "lock": threading.Lock(),
    "queue, which holds locks": queue.Queue(),
    "storage of a thread": threading.local(),
    "pointer": ctypes.pointer(ctypes.c_int(1)),
    "frame": sys._getframe(),
    "ufunc made from a function": np.frompyfunc(lambda x: x + 1, 1, 1),
}


def calling(expression: str) -> pm.Model:
    """A likelihood that returns the expression, given as text."""
    text = f"import builtins\nSCALE = 1.0\ndef logp(value, mu):\n    return {expression}\n"
    return with_logp(namespace(text).logp)


def labelled(label: Any) -> pm.Model:
    """A dimension with one label."""
    labels = np.empty(1, dtype=object)
    labels[0] = label
    with pm.Model(coords={"group": labels}) as model:
        pm.Normal("x", dims="group")
    return model


PAIRS: tuple[Pair, ...] = (
    *refuse("refused in an op", lambda value: applying(Plain(value)), OPAQUE),
    *refuse(
        "refused deep in an op",
        lambda value: applying(Plain({"a": [1.0, (value,)]})),
        {name: OPAQUE[name] for name in ("open file", "generator", "lock")},
    ),
    *refuse(
        "refused in a closure",
        lambda value: with_logp(scaled(value)),
        {name: OPAQUE[name] for name in ("open file", "generator", "pointer")},
    ),
    *refuse(
        "refused in a default",
        lambda value: with_logp(with_default(value)),
        {"lock": OPAQUE["lock"]},
    ),
    *refuse(
        "refused in an instance",
        lambda value: with_logp(Likelihood(value).method),
        {"socket": OPAQUE["socket"]},
    ),
    *refuse(
        "refused as a global",
        reading,
        {name: OPAQUE[name] for name in ("open file", "generator", "ufunc made from a function")},
    ),
    *refuse(
        "refused as a computation",
        with_potential,
        {"ufunc made from a function": OPAQUE["ufunc made from a function"]},
    ),
    *refuse(
        "refused as a function of an op",
        lambda function: applying(Calling(function)),
        {"ufunc made from a function": OPAQUE["ufunc made from a function"]},
    ),
    *refuse(
        "refused body",
        calling,
        {
            "eval": "eval('value * SCALE')",
            "exec": "exec('SCALE = 2.0')",
            "globals": "value * globals()['SCALE']",
            "eval under a module": "builtins.eval('value * SCALE')",
            "eval in a function within": "(lambda x: eval('x * SCALE'))(value)",
        },
    ),
    *refuse("refused label", labelled, {"lock": OPAQUE["lock"]}),
)
