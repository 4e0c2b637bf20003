"""``cluster="local"``: kept warm, grown, closed at exit, refused in a script without a guard."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, default_client

from cloudposterior.cluster import local
from cloudposterior.cluster.connect import open_client
from cloudposterior.cluster.local import local_client
from cloudposterior.errors import ClusterError

pytestmark = pytest.mark.once

ABOVE_A_START = 120


@pytest.fixture
def no_cluster_left() -> Iterator[None]:
    """Close this process's own cluster after the test."""
    yield
    local._close()


def run_script(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    script = directory / "script.py"
    script.write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=ABOVE_A_START,
        check=False,
        cwd=directory,
    )


@pytest.mark.usefixtures("no_cluster_left")
def test_local_is_kept_warm_and_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "CPU_COUNT", 2)
    with open_client("local", chains=1) as client:
        assert set(client.nthreads().values()) == {1}
        first = set(client.run(os.getpid).values())
        assert len(first) == 1
        assert os.getpid() not in first
        with pytest.raises(ValueError, match="No clients"):
            default_client()
    assert client.status == "running"
    with open_client("local", chains=8) as again:
        assert again is client
        client.wait_for_workers(2, timeout=ABOVE_A_START)
        both = set(client.run(os.getpid).values())
        assert len(both) == 2
        assert first < both
    assert local_client(1) is client
    assert len(client.cluster.worker_spec) == 2


@pytest.mark.usefixtures("no_cluster_left")
@pytest.mark.parametrize("what", ["client", "cluster"])
def test_local_that_was_closed_is_made_anew(what: str) -> None:
    client = local_client(1)
    (client if what == "client" else client.cluster).close()
    new = local_client(1)
    assert new is not client
    assert new.submit(sum, [1, 2]).result() == 3
    assert client.cluster.status.name == "closed"


def test_local_within_a_worker_process_is_an_error(two_workers: Client) -> None:
    with pytest.raises(ClusterError, match="cannot start processes from within a worker process"):
        two_workers.submit(local_client, 1, pure=False).result()


@pytest.mark.slow
def test_local_is_closed_at_exit_without_a_word(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        if __name__ == "__main__":
            import os
            from cloudposterior.cluster.connect import open_client

            with open_client("local", chains=1) as client:
                print(*client.run(os.getpid).values())
        """,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


@pytest.mark.slow
def test_local_is_closed_at_exit_while_a_task_runs(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        if __name__ == "__main__":
            import os, sys, time
            from distributed import Event
            from cloudposterior.cluster.connect import open_client

            def stay(name):
                Event(name).set()
                time.sleep(600)

            with open_client("local", chains=1) as client:
                print(*client.run(os.getpid).values())
                running = client.submit(stay, "started")
                Event("started", client=client).wait()
                sys.exit(3)
        """,
    )
    assert done.stderr == ""
    assert done.returncode == 3
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


@pytest.mark.slow
def test_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import multiprocessing
        from cloudposterior.cluster.connect import open_client

        print("imported by", multiprocessing.current_process().name, flush=True)
        with open_client("local", chains=2) as client:
            print("sampled")
        """,
    )
    assert done.returncode == 1
    assert "sampled" not in done.stdout
    # one start of each worker, and no second
    workers = min(2, local.CPU_COUNT)
    assert done.stdout.count("imported by") == 1 + workers
    script = tmp_path / "script.py"
    in_worker, in_script = (
        'ClusterError: cluster="local" was reached while a worker process imports '
        f'{script}: put the call under `if __name__ == "__main__":`',
        'ClusterError: the worker processes of cluster="local" did not start (Nanny failed to '
        f"start.). Each of them first imports {script}, so the call that samples must stand "
        'under `if __name__ == "__main__":`',
    )
    assert done.stderr.count(in_worker) == workers
    assert done.stderr.count(in_script) == 1
    assert done.stderr.rindex(in_script) > done.stderr.rindex(in_worker)


@pytest.mark.slow
def test_local_works_where_there_is_no_script() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from cloudposterior.cluster.local import local_client\n"
            "print(local_client(1).submit(sum, [1, 2]).result())",
        ],
        capture_output=True,
        text=True,
        timeout=ABOVE_A_START,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("3\n", "", 0)
