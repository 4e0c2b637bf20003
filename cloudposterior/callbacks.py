"""The user's own code that is told of a run: the protocol, and the telling, which breaks none."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

from cloudposterior.errors import CallbackWarning, tell
from cloudposterior.events import literal
from cloudposterior.operations.call import Call
from cloudposterior.progress.table import Table
from cloudposterior.summary import RunSummary, summary_of

__all__ = ["Callback", "RunInfo", "Telling", "checked_callbacks"]

_METHODS = ("on_start", "on_segment", "on_finish", "on_error")


@dataclass(frozen=True)
class RunInfo:
    """A call that callbacks are told of.

    Attributes
    ----------
    model : str
        The name of its model; ``"model"`` where it has none.
    function : str
        PyMC's function: ``"sample"``, ``"sample_posterior_predictive"``...
    chains, draws, tune : int or None
        What it was called with; None where it was not told, or has no such thing.
    from_cache : bool
        Whether the cache answers it, so that nothing runs.

    Examples
    --------
    >>> cp.RunInfo("radon", "sample", chains=4).title
    'radon: sampling 4 chains'
    """

    model: str
    function: str
    chains: int | None = None
    draws: int | None = None
    tune: int | None = None
    from_cache: bool = False

    @property
    def title(self) -> str:
        """What it does, in words, e.g. ``"radon: sampling 4 chains"``."""
        what = self.function
        if what == "sample":
            what = f"sampling {self.chains} chain{'s' * (self.chains != 1)}"
        # a name may be anybody's, and this is shown elsewhere
        return literal(f"{self.model}: {what}")


class Callback(Protocol):
    """What may be told of a run. An object needs only those of the four methods that it uses.

    A class of your own may have this one as its base: what it leaves out does nothing then. All
    methods are called in the thread that samples. What they raise becomes one `CallbackWarning`,
    and a method that failed is not called again in that run; the run goes on in any case. Nobody
    ends a method that hangs: the run waits for it.

    Examples
    --------
    >>> class Log:
    ...     def on_finish(self, run, summary):
    ...         self.line = f"{run.title}: {summary.divergences} divergences"
    >>> log = Log()
    >>> with cp.cloud(model, cluster=client, callbacks=[log]):
    ...     idata = pm.sample(draws=100, tune=100, chains=2, random_seed=1)
    >>> log.line
    'model: sampling 2 chains: 0 divergences'
    """

    def on_start(self, run: RunInfo) -> None:
        """Learn that a call begins: after the look into the cache, before anything runs.

        Parameters
        ----------
        run : RunInfo
            The call.
        """

    def on_segment(self, run: RunInfo, status: Table) -> None:
        """Learn how a run on a cluster stands, once a second at most; not of runs here.

        Parameters
        ----------
        run : RunInfo
            The call.
        status : cloudposterior.progress.table.Table
            A row for each chain: ``drawn``, ``total``, ``divergences``...
        """

    def on_finish(self, run: RunInfo, summary: RunSummary) -> None:
        """Learn that a call has a result, that of the cache or of a stopped run included.

        Parameters
        ----------
        run : RunInfo
            The call.
        summary : RunSummary
            What came of it.
        """

    def on_error(self, run: RunInfo, error: BaseException) -> None:
        """Learn that a call has none.

        Parameters
        ----------
        run : RunInfo
            The call.
        error : BaseException
            What the caller gets to see, `KeyboardInterrupt` included.
        """


def checked_callbacks(callbacks: Iterable[Any] | None) -> tuple[Any, ...]:
    """Give callbacks as they were given; None are none.

    Parameters
    ----------
    callbacks : iterable, optional
        As `cloudposterior.cloud` takes them.

    Raises
    ------
    TypeError
        If one of them has none of the methods, or is a class, or they are no list.
    """
    if callbacks is None:
        return ()
    allowed = f"objects with some of the methods {', '.join(_METHODS)}"
    if isinstance(callbacks, str | bytes) or not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks= takes a list of {allowed}: got {_kind(callbacks)}")
    found = tuple(callbacks)
    for one in found:
        if isinstance(one, type):
            raise TypeError(
                f"callbacks= takes {allowed}: {one.__name__} is a class, pass {one.__name__}()"
            )
        methods = [getattr(one, method, None) for method in _METHODS]
        if not any(map(callable, methods)):
            raise TypeError(f"callbacks= takes {allowed}: {_kind(one)} has none of them")
        if any(map(inspect.iscoroutinefunction, methods)):
            raise TypeError(f"callbacks= are called, and not awaited: {_kind(one)} is asynchronous")
    return found


class Telling:
    """Tells callbacks of one call; whatever they raise is a warning.

    Parameters
    ----------
    callbacks : tuple
        Whom to tell, in order.
    call : Call
        The call.
    clock : callable
        Gives the time in seconds.
    """

    def __init__(
        self,
        callbacks: tuple[Any, ...],
        call: Call,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._callbacks = callbacks
        self._call = call
        self._clock = clock
        self._began = clock()
        self._run: RunInfo | None = None
        # those that failed are left alone: a flood of warnings helps nobody
        self._failed: set[tuple[int, str]] = set()

    @property
    def listener(self) -> Callable[[Table], None] | None:
        """What is to be called while it is drawn; None where nobody wants to know."""
        wanted = any(callable(getattr(one, "on_segment", None)) for one in self._callbacks)
        return self._segment if wanted else None

    def start(self, *, from_cache: bool = False) -> None:
        """Tell that it begins.

        Parameters
        ----------
        from_cache : bool
            Whether the cache answers it.
        """
        if self._callbacks:
            self._run = _info(self._call, from_cache=from_cache)
            self._tell("on_start", self._run)

    def _segment(self, status: Table) -> None:
        self._tell("on_segment", self._run, status)

    def finish(self, result: Any) -> None:
        """Tell that it has a result.

        An interrupt ends the telling only: by now it would cost the draws.
        """
        if self._run is None:
            return
        elapsed_s = self._clock() - self._began
        from_cache = self._run.from_cache
        try:
            summary = summary_of(self._call, result, elapsed_s=elapsed_s, from_cache=from_cache)
            self._tell("on_finish", self._run, summary)
        except KeyboardInterrupt:
            tell(CallbackWarning, "callbacks were interrupted; the result is returned")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Tell of whatever ends the block, and raise it."""
        try:
            yield
        except BaseException as error:
            self.fail(error)
            raise

    def fail(self, error: BaseException) -> None:
        """Tell what it ended with.

        Parameters
        ----------
        error : BaseException
            What the caller gets to see.
        """
        if self._run is not None:
            self._tell("on_error", self._run, error)

    def _tell(self, method: str, *args: Any) -> None:
        for number, one in enumerate(self._callbacks):
            if (number, method) in self._failed:
                continue
            try:
                told = getattr(one, method, None)
                if told is not None:
                    told(*args)
            except Exception as error:  # noqa: BLE001  (whatever it is, it is said)
                self._failed.add((number, method))
                _warn_of(one, method, error)


def _info(call: Call, *, from_cache: bool) -> RunInfo:
    numbers = {name: _number(call.arguments.get(name)) for name in ("chains", "draws", "tune")}
    return RunInfo(call.model.name or "model", call.name, **numbers, from_cache=from_cache)


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, Integral) else None


def _kind(value: object) -> str:
    # not the value itself, which may be a URL with credentials
    return f"an object of type {type(value).__name__}"


def _warn_of(callback: object, method: str, error: Exception) -> None:
    tell(
        CallbackWarning,
        f"the callback {type(callback).__name__}.{method} failed, and is not called again in this "
        f"run, which goes on: {_words(error)}",
    )


def _words(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  (an error that cannot be shown is one all the same)
        return type(error).__name__
