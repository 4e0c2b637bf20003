"""Threads of one process do not take PyTensor's compiler away from each other."""

from __future__ import annotations

import inspect
import threading

import pytensor.tensor as pt
from pytensor.tensor.basic import infer_static_shape

from cloudposterior.samplers.compiling import COMPILING, guard_compiler


def test_pytensor_hides_its_compiler_from_all_threads() -> None:
    """Else there is nothing to guard any more."""
    assert 'config.change_flags(optdb__max_use_ratio=10, cxx="")' in inspect.getsource(
        infer_static_shape
    )


def test_shapes_are_inferred_by_one_thread_at_a_time() -> None:
    guard_compiler()
    thread = threading.Thread(target=lambda: pt.alloc(0.0, 2 * pt.lscalar("size")))
    with COMPILING:
        pt.alloc(0.0, 2 * pt.lscalar("size"))
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive()
    thread.join(timeout=60)
    assert not thread.is_alive()
