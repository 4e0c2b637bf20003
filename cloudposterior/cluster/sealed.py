"""Tasks and results that only those take apart who use them.

Dask's scheduler unpickles functions and arguments of the tasks that it is given, and a worker does
so in its event loop with results that come from other workers. Both would import PyMC for ours. The
scheduler could not do without it. A worker would be deaf meanwhile, and could fail: a module of a
package is imported even while another thread, such as that of a task, is halfway through the
package. So all of this comes to them as bytes.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client, Future

__all__ = ["Sealed", "opened", "submit"]

_OPEN = (bytes, str, int, float, type(None))

_LARGE_BYTES = 64 * 1024
"""Buffers from this size on need not be copied, smaller ones are sooner copied than sent apart."""


class Sealed:
    """A value that stays as it was pickled until somebody needs it.

    Parameters
    ----------
    value : Any
        The value.
    copied : bool, default True
        Whether large arrays are copied. Those that are not are the value's own, which nobody may
        change any more.
    """

    def __init__(self, value: Any, *, copied: bool = True) -> None:
        self._buffers: list[Any] = []

        def keep(buffer: pickle.PickleBuffer) -> bool:
            if copied or buffer.raw().nbytes < _LARGE_BYTES:
                return True
            self._buffers.append(buffer)
            return False

        self._pickled = cloudpickle.dumps(value, buffer_callback=keep)

    def opened(self) -> Any:
        """Give the value; its large arrays are shared by all who open it."""
        return cloudpickle.loads(self._pickled, buffers=self._buffers)

    def __getstate__(self) -> tuple[bytes, list[Any]]:
        # what came over a wire is no buffer that pickle knows
        return self._pickled, list(map(pickle.PickleBuffer, self._buffers))

    def __setstate__(self, state: tuple[bytes, list[Any]]) -> None:
        self._pickled, self._buffers = state

    def __sizeof__(self) -> int:
        # for Dask, which looks after the memory of workers
        buffers = sum(memoryview(buffer).nbytes for buffer in self._buffers)
        return sys.getsizeof(self._pickled) + buffers


def opened(value: Any) -> Any:
    """Give what a task gave; anything else as it is."""
    return value.opened() if isinstance(value, Sealed) else value


def submit(client: Client, function: Callable[..., Any], *args: Any, **options: Any) -> Future:
    """Submit a task, as `distributed.Client.submit` does; `opened` gives what its future holds.

    Parameters
    ----------
    client : distributed.Client
        The client.
    function : callable
        The function.
    *args
        Its arguments; a future is one of them, and in no container.
    **options
        As for `distributed.Client.submit`: ``key``, ``workers``, ``priority``...
    """
    from distributed import Future

    sealed = [arg if isinstance(arg, (*_OPEN, Future)) else Sealed(arg) for arg in args]
    return client.submit(_call, Sealed(function), *sealed, **options)


def _call(function: Sealed, *args: Any) -> Any:
    # whole, and first: its modules do not wait for another thread that is halfway through
    importlib.import_module("pymc")
    result = function.opened()(*map(opened, args))
    return result if isinstance(result, _OPEN) else Sealed(result, copied=False)
