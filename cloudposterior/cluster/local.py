"""The cluster that ``cluster="local"`` stands for: one for each process, kept until its end."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask.system import CPU_COUNT

from cloudposterior.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

__all__ = ["local_client", "refuse_in_spawned_script"]

_GUARD = 'if __name__ == "__main__":'


@dataclass
class _Kept:
    """The cluster of this process. A fork of it has the object, and neither sockets nor threads."""

    cluster: LocalCluster
    client: Client
    process: int

    def usable(self) -> bool:
        return (
            self.process == os.getpid()
            and self.cluster.status.name == "running"
            and self.client.status == "running"
            # killed workers are started anew by their nannies, unless those were killed too
            and bool(self.cluster.scheduler_info["workers"])
        )


_kept: list[_Kept] = []
_lock = threading.Lock()


def local_client(chains: int) -> Client:
    """Give the client of this process's own cluster, which is started or grown where needed.

    Parameters
    ----------
    chains : int
        How many chains will run. There is a worker process of one thread for each, up to the
        number of cores, and those that are there stay.

    Returns
    -------
    distributed.Client
        Not the default client. It stays open; it is closed with the cluster when Python exits.

    Raises
    ------
    ClusterError
        If the worker processes do not start, as in a script that calls this without
        ``if __name__ == "__main__":``, or if this process may not have any.
    """
    refuse_in_spawned_script()
    workers = max(1, min(chains, CPU_COUNT))
    with _lock:
        if not (_kept and _kept[0].usable()):
            _close()
            _kept[:] = [_start(workers)]
        kept = _kept[0]
        # those that are still starting count
        if len(kept.cluster.worker_spec) < workers:
            kept.cluster.scale(workers)
        return kept.client


def refuse_in_spawned_script() -> None:
    """Refuse to start processes while a new process imports the script that started it.

    Raises
    ------
    ClusterError
        In that moment, which multiprocessing calls the bootstrapping phase.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ClusterError(
            'cluster="local" was reached while a worker process imports '
            f"{_script() or 'the script'}: put the call under `{_GUARD}`"
        )


def _start(workers: int) -> _Kept:
    from distributed import Client, LocalCluster

    if multiprocessing.current_process().daemon:
        raise ClusterError(
            'cluster="local" cannot start processes from within a worker process '
            f"({multiprocessing.current_process().name}): pass the address of a scheduler, "
            "or sample without a cluster"
        )
    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            # a dashboard without a host listens on all interfaces
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
            # as for PyMC's own processes: a nanny would end a chain that PyMC lets finish
            memory_limit=0,
            # else a chain that keeps its worker busy, or a heartbeat that is on its way at exit,
            # fills the terminal; what is wrong with a chain is raised here
            silence_logs=logging.CRITICAL,
            # it looks at a chain a hundred times a second, and slows it by a tenth
            config={
                "distributed.worker.profile.enabled": False,
                # what looks at Python's lock complains at exit, and may abort it
                "distributed.admin.system-monitor.gil.enabled": False,
            },
        )
    except RuntimeError as error:
        raise ClusterError(_did_not_start(error)) from error
    client = Client(cluster, set_as_default=False)
    atexit.unregister(_close)
    # after those of distributed, hence called before them
    atexit.register(_close)
    return _Kept(cluster, client, os.getpid())


def _did_not_start(error: RuntimeError) -> str:
    message = f'the worker processes of cluster="local" did not start ({error})'
    script = _script()
    if script is None:
        return message
    return (
        f"{message}. Each of them first imports {script}, so the call that samples must stand "
        f"under `{_GUARD}`, or in a function that is called from there. What a worker process "
        "said is printed above"
    )


def _script() -> str | None:
    # in a process that was spawned, the script goes by the first name
    main: Any = sys.modules.get("__mp_main__", sys.modules.get("__main__"))
    return getattr(main, "__file__", None)


def _close() -> None:
    while _kept:
        kept = _kept.pop()
        if kept.process == os.getpid():
            kept.client.close()
            kept.cluster.close()
