"""On the client: the page is put on a running scheduler, and linked to.

The client needs no Bokeh. The scheduler has it where it has a dashboard at all.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from weakref import WeakKeyDictionary

from cloudposterior.errors import ClusterWarning, tell

if TYPE_CHECKING:
    from distributed import Client, Scheduler

__all__ = ["page_link", "register_page"]

_PLUGIN = "cloudposterior.progress.dashboard.plugin"
_IMPORT = f"import {__name__}"
_NO_BOKEH = "no bokeh"

_prefixes: WeakKeyDictionary[Client, str | None] = WeakKeyDictionary()
"""What comes before the paths of the dashboard, by client; None where there is no page."""


def register_page(client: Client) -> None:
    """Put the page on the scheduler's dashboard; where it is already, nothing happens.

    A scheduler without a dashboard stays as it is. Nothing of this fails a run: where the page
    cannot be put there, the client is told once.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    """
    try:
        # as text, in a thread: a function of this package is sent by its name, so that reading it
        # would import PyMC, for seconds, in the scheduler's event loop
        client.run_on_scheduler(asyncio.to_thread, exec, _IMPORT, {})
        found = client.run_on_scheduler(_install)
    except (ImportError, AttributeError, OSError) as error:
        _tell_once(client, f"the scheduler cannot show it ({type(error).__name__}: {error})")
        return
    if found == _NO_BOKEH:
        _tell_once(
            client,
            "the scheduler has no Bokeh that Dask can use; with `pip install bokeh` there, it has "
            "a dashboard",
        )
        return
    _prefixes[client] = found


def page_link(client: Client, run: str, secret: str) -> str:
    """Give the address at which a run is seen and can be stopped.

    Parameters
    ----------
    client : distributed.Client
        For which `register_page` was called.
    run : str
        Tells the run from others.
    secret : str
        Whoever has the link may stop the run. `RunStarted.stop_digest` is this secret's SHA-256.

    Returns
    -------
    str
        Made from the client's ``dashboard_link``; empty where there is no page.
    """
    prefix = _prefixes.get(client)
    link = client.dashboard_link if prefix is not None else None
    if not link:
        return ""
    parts = urlsplit(str(link))
    path = parts.path.rstrip("/").removesuffix("/status")
    # whoever set `distributed.dashboard.link` may have the scheduler's prefix in it
    if prefix and not path.endswith(prefix):
        path += prefix
    query = urlencode([*parse_qsl(parts.query), ("run", run), ("secret", secret)])
    return urlunsplit(parts._replace(path=f"{path}/posterior", query=query, fragment=""))


def _install(dask_scheduler: Scheduler) -> str | None:
    """Put the page on a scheduler; runs there, in its event loop.

    Returns
    -------
    str or None
        The prefix of the dashboard's paths; `_NO_BOKEH`, or None where no dashboard was asked for.
    """
    application = dask_scheduler.http_application
    if any(map(_is_bokeh, application.applications)):
        # by name, for it imports Bokeh, which a client may not have
        prefix: str = importlib.import_module(_PLUGIN).install(dask_scheduler)
        return prefix
    # where Bokeh is missing, Dask has a page in the place of the dashboard that says so
    routes = application.wildcard_router.rules
    return _NO_BOKEH if any("missing_bokeh" in str(route.target) for route in routes) else None


def _is_bokeh(application: object) -> bool:
    return any(kind.__name__ == "BokehTornado" for kind in type(application).__mro__)


def _tell_once(client: Client, why: str) -> None:
    if client not in _prefixes:
        tell(ClusterWarning, f"the dashboard has no page 'Posterior': {why}")
    _prefixes[client] = None
