"""On the scheduler: hears what is told of runs, and puts the page on the dashboard."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import dask.config
from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import create_hosts_allowlist
from distributed.dashboard.core import DaskBokehTornado
from distributed.dashboard.scheduler import template_variables
from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.ioloop import IOLoop

from cloudposterior.events import TOPIC, StopAsked, to_message
from cloudposterior.progress.dashboard.page import show_page
from cloudposterior.progress.dashboard.runs import Runs
from cloudposterior.progress.dashboard.send import PLUGIN_NAME

if TYPE_CHECKING:
    from bokeh.document import Document
    from distributed import Scheduler

__all__ = ["PosteriorPlugin", "install"]

_PAGE, _ALONE = "/posterior", "/individual-posterior"

_log = logging.getLogger(__name__)


class PosteriorPlugin(SchedulerPlugin):  # type: ignore[misc]
    """Keeps what is told of runs, and passes a wish to stop on to the client.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Where it is registered.
    """

    name = PLUGIN_NAME
    idempotent = True

    def __init__(self, scheduler: Scheduler) -> None:
        self.runs = Runs()
        self._scheduler = scheduler
        self._failed = False

    def log_event(self, topic: str, msg: Any) -> None:
        """Take in what a worker or a client logged."""
        if topic != TOPIC:
            return
        try:
            self.runs.take(msg)
        except (KeyError, TypeError, ValueError, AttributeError):
            if not self._failed:
                _log.warning("not understood, as others may be from now on: %.200r", msg)
            self._failed = True

    def ask_to_stop(self, run: str, secret: str) -> bool:
        """Ask the client of a run to stop it; give whether the secret is the right one."""
        if not self.runs.may_stop(run, secret):
            return False
        # Bokeh 3.10 calls back in other threads
        message = to_message(run, StopAsked())
        self._scheduler.loop.add_callback(self._scheduler.log_event, TOPIC, message)
        return True


class _Pages(DaskBokehTornado):  # type: ignore[misc]
    """Our pages. It stands before Dask's own, and lists those too.

    JupyterLab's extension is told the paths of the first application only.
    """

    others: BokehTornado

    @property
    def app_paths(self) -> set[str]:
        return {*super().app_paths, *self.others.app_paths}


def install(scheduler: Scheduler) -> str:
    """Put plugin and page on a scheduler that has a dashboard, once.

    Returns
    -------
    str
        What comes before the paths of the dashboard, such as ``"/proxy"``; mostly nothing.
    """
    applications = scheduler.http_application.applications
    first = next(one for one in applications if isinstance(one, BokehTornado))
    if PLUGIN_NAME not in scheduler.plugins:
        plugin = PosteriorPlugin(scheduler)
        for _, message in scheduler.get_events(TOPIC):
            plugin.log_event(TOPIC, message)
        scheduler.add_plugin(plugin)
    if _PAGE not in first.app_paths:
        variables = _add_to_navigation(scheduler, first.prefix)
        pages = _make_pages(scheduler, first, variables)
        applications.insert(0, pages)
        pages.initialize(IOLoop.current())
        pages.start()
    prefix: str = first.prefix
    return prefix


def _add_to_navigation(scheduler: Scheduler, prefix: str) -> dict[str, Any]:
    variables = template_variables(scheduler)
    variables["pages"].insert(variables["pages"].index("info"), _PAGE.strip("/"))
    variables["plots"].append({"url": _ALONE.strip("/"), "name": "Posterior"})
    variables["plots"].sort(key=lambda plot: str(plot["name"]))
    return {"prefix": f"{prefix}/", **variables}


def _make_pages(scheduler: Scheduler, dasks: BokehTornado, variables: dict[str, Any]) -> _Pages:
    def page(doc: Document) -> None:
        show_page(doc, scheduler.plugins.get(PLUGIN_NAME), variables)

    def alone(doc: Document) -> None:
        show_page(doc, scheduler.plugins.get(PLUGIN_NAME), None)

    # as `distributed.dashboard.core.BokehApplication` does
    settings = dict(dask.config.get("distributed.scheduler.dashboard.bokeh-application"))
    origins = settings.pop("allow_websocket_origin")
    pages = _Pages(
        {path: Application(FunctionHandler(f)) for path, f in ((_PAGE, page), (_ALONE, alone))},
        prefix=dasks.prefix,
        use_index=False,
        extra_websocket_origins=create_hosts_allowlist(origins, scheduler.http_server.port),
        absolute_url="",
        **settings,
    )
    pages.others = dasks
    return pages
