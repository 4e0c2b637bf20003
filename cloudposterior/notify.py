"""Messages of runs to any service that Apprise knows, and not a word of where they go.

The URLs of services hold credentials. Here they are read once, into Apprise's own objects; nothing
that is shown, logged, raised or pickled has more of them than their schemes.
"""

from __future__ import annotations

import inspect
import logging
import re
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import dask.config
from dask.utils import parse_timedelta

from cloudposterior.callbacks import RunInfo
from cloudposterior.errors import CallbackWarning, tell
from cloudposterior.events import literal
from cloudposterior.progress.table import spoken
from cloudposterior.summary import RunSummary

__all__ = ["Notifier"]

_MOST_CHARACTERS = 300
"""Of an error."""


class Notifier:
    """Sends a message when a run starts, and one when it has finished or failed.

    As one of ``callbacks=``; ``notify=url`` is short for it. Messages go out in threads of their
    own, in order; a run that has ended waits for them for the setting
    ``cloudposterior.notify-timeout`` (10 seconds) at most. One that was not sent by then, or not
    accepted, is a `CallbackWarning`.

    Parameters
    ----------
    urls : str or iterable of str
        Where to, as Apprise writes it: ``"ntfy://topic"``, ``"mailto://..."``, ``"slack://..."``.
    cached : bool, default False
        Whether a call that the cache answers is told as well, by one message at its end.

    Raises
    ------
    TypeError
        If `urls` are no text.
    ValueError
        If there are none, or Apprise does not understand one.
    ImportError
        If Apprise is not installed; it comes with the extra ``notify``.

    Examples
    --------
    >>> notifier = cp.Notifier("ntfy://my-topic", cached=True)
    >>> notifier
    <cloudposterior.Notifier ntfy://***>
    >>> with cp.cloud(model, callbacks=[notifier]):  # doctest: +SKIP
    ...     idata = pm.sample()
    """

    def __init__(self, urls: str | Iterable[str], *, cached: bool = False) -> None:
        self._services = tuple(_Service(url) for url in _listed(urls))
        self._cached = cached
        # by the identity of what is told of a run: equal ones may be under way
        self._sent: dict[int, list[_Message]] = {}

    def __repr__(self) -> str:
        return f"<cloudposterior.Notifier {', '.join(map(repr, self._services))}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Notifier holds URLs with credentials, which are neither kept nor sent")

    def on_start(self, run: RunInfo) -> None:
        """Send that it starts; of a cached result, nothing.

        Parameters
        ----------
        run : RunInfo
            The call.
        """
        if not run.from_cache:
            self._send(run, "started", _arguments(run), "INFO")

    def on_finish(self, run: RunInfo, summary: RunSummary) -> None:
        """Send what came of it, and wait until that is sent.

        Parameters
        ----------
        run : RunInfo
            The call.
        summary : RunSummary
            What came of it.
        """
        if summary.from_cache and not self._cached:
            return
        kind = "WARNING" if summary.missing else "SUCCESS"
        ended = "ended incomplete" if summary.missing else "finished"
        self._send(run, ended, _outcome(summary), kind)
        self._wait(run)

    def on_error(self, run: RunInfo, error: BaseException) -> None:
        """Send why it failed, and wait until that is sent.

        Parameters
        ----------
        run : RunInfo
            The call.
        error : BaseException
            What the caller gets to see.
        """
        what = "was interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        self._send(run, what, _first_line(error), "FAILURE")
        self._wait(run)

    def _send(self, run: RunInfo, what: str, body: str, kind: str) -> None:
        title = f"{run.title} {what}"
        sent = self._sent.setdefault(id(run), [])
        # a message without a body is none to some services
        sent.extend(service.send(title, body or title, kind) for service in self._services)

    def _wait(self, run: RunInfo) -> None:
        sent = self._sent.pop(id(run), [])
        patience_s = parse_timedelta(dask.config.get("cloudposterior.notify-timeout"), "s")
        deadline = time.monotonic() + patience_s
        for message in sent:
            message.wait(deadline)
        for service in self._services:
            wrong = [of for of in sent if of.service is service and not of.is_sent]
            if wrong:
                _warn_of(service, wrong, spoken(patience_s))


class _Service:
    """Where messages go, of which nothing but the scheme is ever shown."""

    def __init__(self, url: str) -> None:
        self.scheme = _scheme(url)
        self.is_late = False
        self._apprise = _understood(url, self.scheme)
        self._last: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"{self.scheme}://***"

    def send(self, title: str, body: str, kind: str) -> _Message:
        """Begin to send a message, after those before it."""
        message = _Message(self, self._last)
        thread = threading.Thread(
            target=message.run,
            args=(self._apprise, title, body, kind),
            name=f"cloudposterior-notify-{self.scheme}",
            # one that hangs keeps no process alive
            daemon=True,
        )
        message.thread = self._last = thread
        thread.start()
        return message


class _Message:
    """A message on its way."""

    thread: threading.Thread

    def __init__(self, service: _Service, before: threading.Thread | None) -> None:
        self.service = service
        self.is_sent = False
        self._before = before

    def run(self, service: Any, title: str, body: str, kind: str) -> None:
        """Send it."""
        import apprise

        if self._before is not None:
            self._before.join()
            self._before = None
        with _unlogged():
            try:
                self.is_sent = bool(
                    service.notify(
                        title=title,
                        body=body,
                        notify_type=getattr(apprise.NotifyType, kind),
                        body_format=apprise.NotifyFormat.TEXT,
                    )
                )
            except Exception:  # noqa: BLE001  (what it says may be the URL)
                return
        if self.is_sent:
            self.service.is_late = False

    def wait(self, deadline: float) -> None:
        """Wait until it is sent, or was not; not for a service that was late before."""
        left = 0.0 if self.service.is_late else deadline - time.monotonic()
        self.thread.join(max(0.0, left))
        self.service.is_late = self.is_late

    @property
    def is_late(self) -> bool:
        """Whether it is still on its way."""
        return self.thread.is_alive()


def _listed(urls: str | Iterable[str]) -> list[str]:
    listed = [urls] if isinstance(urls, str) or not isinstance(urls, Iterable) else list(urls)
    for url in listed:
        if not isinstance(url, str):
            raise TypeError(
                'notify= takes a URL as text, such as "ntfy://topic", or a list of them: '
                f"got an object of type {type(url).__name__}"
            )
    if not listed:
        raise ValueError("notify= has no URL in it: pass one, or None for no notifications")
    return listed


def _scheme(url: str) -> str:
    found = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]{0,31})://", url)
    return found[1].lower() if found else ""


def _understood(url: str, scheme: str) -> Any:
    """Have Apprise read a URL."""
    try:
        import apprise
    except ImportError as error:
        raise ImportError(
            "notify= sends with Apprise, which is not installed: pip install apprise"
        ) from error
    with _unlogged(), warnings.catch_warnings():
        # of old modules that services import: where warnings are errors, no URL would be understood
        warnings.simplefilter("ignore")
        asset = _asset(apprise)
        try:
            service = apprise.Apprise.instantiate(url, asset=asset)
        except Exception:  # noqa: BLE001  (what it says may be the URL)
            service = None
        sender = apprise.Apprise(asset=asset)
        if service is not None and sender.add(service):
            # it waits seconds between two messages, for those who send many
            service.request_rate_per_sec = 0
            return sender
    given = f"that begins with {scheme}://" if scheme else "without a scheme"
    raise ValueError(
        f'notify= takes URLs that Apprise understands, such as "ntfy://topic": one {given} is not. '
        "Those of all services: https://github.com/caronc/apprise/wiki (the URL is not shown here, "
        "since it may hold credentials)"
    ) from None


def _asset(apprise: Any) -> Any:
    """Have Apprise send in the thread that asks it to, and not in a pool of its own.

    In its pool those that hang would hold up all others, and the end of the process.
    """
    options: dict[str, Any] = {"app_id": "cloudposterior", "app_desc": "PyMC runs"}
    options.update(async_mode=False, secure_logging=True)
    if "service_timeout" in inspect.signature(apprise.AppriseAsset).parameters:
        # newer ones have a limit, for which they take the pool
        options["service_timeout"] = 0
    return apprise.AppriseAsset(**options)


_sending: ContextVar[bool] = ContextVar("cloudposterior_sending", default=False)


class _NotOfSending(logging.Filter):
    """Drops what is logged while a message is sent: Apprise and urllib3 log addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _sending.get()


_not_of_sending = _NotOfSending()


@contextmanager
def _unlogged() -> Iterator[None]:
    """Have nothing logged by what the block calls, whoever's logger it is."""
    # a filter of a logger does not see what its children log, so each has its own
    loggers = [logging.getLogger(), *list(logging.Logger.manager.loggerDict.values())]
    for logger in loggers:
        if isinstance(logger, logging.Logger):
            logger.addFilter(_not_of_sending)
    token = _sending.set(True)
    try:
        yield
    finally:
        _sending.reset(token)


def _arguments(run: RunInfo) -> str:
    words = [(run.tune, "draws for tuning"), (run.draws, "draws")]
    each = " of each chain" if run.chains else ""
    said = " and ".join(f"{number} {word}" for number, word in words if number is not None)
    return said and f"{said}{each}"


def _outcome(summary: RunSummary) -> str:
    took = "read" if summary.from_cache else "took"
    words = ["cached result"] if summary.from_cache else []
    words += [summary.missing] if summary.missing else []
    words.append(f"{took} {'in ' * summary.from_cache}{spoken(summary.elapsed_s)}")
    if summary.r_hat is not None:
        words.append(f"R-hat up to {summary.r_hat:.3f}")
    sizes = [size for size in (summary.ess_bulk, summary.ess_tail) if size is not None]
    if sizes:
        words.append(f"ESS from {min(sizes):.0f}")
    if summary.divergences is not None:
        words.append(f"{summary.divergences} divergence{'s' * (summary.divergences != 1)}")
    return ", ".join(words)


def _first_line(error: BaseException) -> str:
    first = next(iter(str(error).splitlines()), "")
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return literal(said)[:_MOST_CHARACTERS]


def _warn_of(service: _Service, wrong: list[_Message], patience: str) -> None:
    count = f"{len(wrong)} notification{'s' * (len(wrong) != 1)} to {service!r}"
    verb = "was" if len(wrong) == 1 else "were"
    why = "not accepted"
    if any(message.is_late for message in wrong):
        why = f"not sent in time (cloudposterior.notify-timeout is {patience})"
    tell(
        CallbackWarning,
        f"{count} {verb} {why}; that costs the run nothing. Why is not said, since it may hold "
        "credentials: `apprise -vv -b test URL` in a terminal shows it",
    )
