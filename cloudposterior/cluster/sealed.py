"""Tasks that only workers take apart.

Dask's scheduler unpickles functions and arguments of the tasks that it is given. It would import
PyMC for ours, in its event loop, and could not do without it. So they come to it as bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client, Future

__all__ = ["Sealed", "submit"]

_OPEN = (bytes, str, int, float, type(None))


class Sealed:
    """A value that stays as it was pickled until a worker needs it.

    Parameters
    ----------
    value : Any
        The value.
    """

    def __init__(self, value: Any) -> None:
        self._pickled = cloudpickle.dumps(value)

    def opened(self) -> Any:
        """Give the value."""
        return cloudpickle.loads(self._pickled)


def submit(client: Client, function: Callable[..., Any], *args: Any, **options: Any) -> Future:
    """Submit a task, as `distributed.Client.submit` does.

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
    return function.opened()(*(arg.opened() if isinstance(arg, Sealed) else arg for arg in args))
