"""How a client tells the scheduler's board of its run, and the link to the page of it."""

from __future__ import annotations

import getpass
import importlib
import platform
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit, urlunsplit
from weakref import WeakSet

from cloudposterior.errors import DisplayWarning, tell
from cloudposterior.events import Event, RunStarted, to_message
from cloudposterior.progress.board import digest_of

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Shared"]

_PATIENCE_S = 10.0
_warned: WeakSet[Client] = WeakSet()


class Shared:
    """One run on the board of a scheduler.

    What goes wrong here is said once for each client, and costs nothing but the page.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    run : str
        Tells the run from others, as workers name it.
    title : str
        What it is.
    chains : int
        How many chains there are.
    submitted : str
        The key of the task that drives it; empty where this client does.
    """

    def __init__(
        self, client: Client, run: str, title: str, chains: int, submitted: str = ""
    ) -> None:
        self._client = client
        self._run = run
        self._secret = secrets.token_urlsafe(24)
        self.stop_digest = digest_of(self._secret)
        owner = f"{_user()} on {platform.node()}"
        self._open, self._page = True, False
        # it brings in distributed
        plugin = importlib.import_module("cloudposterior.cluster.plugin")
        try:
            client.register_plugin(plugin.PosteriorPlugin())
        except Exception as error:  # noqa: BLE001  (what a scheduler lacks may raise anything)
            self._give_up(f"since its scheduler cannot run what keeps it ({error!r})")
            return
        self.tell(RunStarted(title, chains, owner, self.stop_digest, client.id, submitted))

    def tell(self, event: Event) -> None:
        """Tell the board."""
        client = self._client
        if not self._open or client.status != "running":
            return
        try:
            self._page, problem = client.sync(
                client.scheduler.cloudposterior_tell,
                message=to_message(self._run, event),
                who=self.stop_digest,
                callback_timeout=_PATIENCE_S,
            )
        except Exception as error:  # noqa: BLE001  (it may be whatever goes wrong in the scheduler)
            problem = f"since its scheduler does not take in how runs stand ({error!r})"
        if problem:
            self._give_up(problem)

    def _give_up(self, problem: str) -> None:
        self._open, self._page = False, False
        if self._client not in _warned:
            _warned.add(self._client)
            tell(
                DisplayWarning,
                f"the dashboard of {self._client.scheduler.address} has no page of posteriors, "
                f"{problem}; the run goes on",
            )

    @property
    def link(self) -> str:
        """The page of the run, with the secret that stops it; empty where there is none."""
        dashboard = self._client.dashboard_link if self._page else ""
        return page_of(dashboard, run=self._run, token=self._secret) if dashboard else ""


def page_of(dashboard: str, **arguments: str) -> str:
    """Give the address of the page from that of a dashboard.

    Parameters
    ----------
    dashboard : str
        As `distributed.Client.dashboard_link` gives it; it ends with ``/status``.
    **arguments
        What the page is asked for.
    """
    scheme, host, path, query, _ = urlsplit(dashboard)
    path = f"{path.removesuffix('/').removesuffix('/status')}/posterior"
    query = "&".join(filter(None, [query, urlencode(arguments)]))
    return urlunsplit((scheme, host, path, query, ""))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may have no name for it
        return "somebody"
