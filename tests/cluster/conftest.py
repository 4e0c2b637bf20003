"""Real clusters: in processes of this one, and started as `dask scheduler` and `dask worker`."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.config
import pytensor
import pytest
from distributed import Client, LocalCluster

from cloudposterior.cluster import keeping

PATIENCE_S = 120


def until(condition: Callable[[], Any], *, failed: Callable[[], str] = str) -> Any:
    """Wait until a condition holds, and give what it gives."""
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, failed() or f"{condition} never held"
        pause.wait(0.02)
    return found


@dataclass
class Commands:
    """Starts ``dask ...`` commands, and ends them."""

    directory: Path
    options: tuple[str, ...] = ()
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, command: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        log = self.directory / f"{command}-{len(self.running)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", command, *self.options, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**os.environ, **environment},
            )
        self.running.append(process)
        return process

    def scheduler(self, *arguments: str, **environment: str) -> str:
        """Start a scheduler on a free port of loopback, and give its address."""
        file = self.directory / f"scheduler-{len(self.running)}.json"
        process = self.start(
            "scheduler",
            "--host=127.0.0.1",
            "--port=0",
            "--dashboard-address=127.0.0.1:0",
            f"--scheduler-file={file}",
            *arguments,
            **environment,
        )

        def address() -> str | None:
            assert process.poll() is None, self.logs()
            with contextlib.suppress(OSError, ValueError, KeyError):
                return str(json.loads(file.read_text())["address"])
            return None

        return str(until(address, failed=self.logs))

    def worker(self, address: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread, without a nanny: the process is the worker."""
        return self.start(
            "worker",
            address,
            "--host=127.0.0.1",
            "--nthreads=1",
            "--no-nanny",
            "--no-dashboard",
            "--death-timeout=60",
            f"--local-directory={self.directory}",
            **environment,
        )

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.directory.glob("*.log")))

    def end(self) -> None:
        # one after another: a worker whose scheduler is gone waits for it
        for process in reversed(self.running):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def started(directory: Path, *options: str) -> Iterator[Commands]:
    commands = Commands(directory, options)
    try:
        yield commands
    finally:
        commands.end()


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Schedulers and workers of one test."""
    with started(tmp_path) as commands:
        yield commands


@pytest.fixture(scope="session")
def two_workers() -> Iterator[Client]:
    """A client, not the default one, of a cluster of two worker processes."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def cluster(two_workers: Client) -> Client:
    """Two workers, on which nothing is left by another test."""
    for run in keeping.runs_kept(two_workers):
        keeping.let_go(two_workers, run)
    return two_workers


@pytest.fixture
def quick_compiling() -> Iterator[None]:
    """Run functions as they are written down: tiny models take longer to compile than to draw."""
    with pytensor.config.change_flags(mode="FAST_COMPILE", numba__fastmath=False):
        yield


NO_DASHBOARD: dict[str, Any] = {
    "scheduler_kwargs": {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
}
"""For a `LocalCluster` whose scheduler has no dashboard; its server takes any port that is free."""


@pytest.fixture
def cut_small() -> Iterator[None]:
    """Hand draws over after every few of them."""
    with dask.config.set(
        {"cloudposterior.cluster.first-segment": "1ms", "cloudposterior.cluster.segment": "30ms"}
    ):
        yield


@pytest.fixture(scope="session")
def dask_commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with two workers, each a command."""
    with started(tmp_path_factory.mktemp("dask-commands")) as commands:
        address = commands.scheduler()
        commands.worker(address)
        commands.worker(address)
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=PATIENCE_S)
        yield address


@dataclass(frozen=True)
class Secured:
    """The address of a scheduler behind TLS, and the `dask.config` that opens it."""

    address: str
    config: dict[str, Any]


@pytest.fixture(scope="session")
def tls_commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """As `dask_commands`, with certificates of its own; the configuration is not set."""
    directory = tmp_path_factory.mktemp("tls-commands")
    ca, certificate, key = make_certificates(directory)
    config = {
        "distributed.comm.tls.ca-file": ca,
        "distributed.comm.tls.client.cert": certificate,
        "distributed.comm.tls.client.key": key,
    }
    options = (f"--tls-ca-file={ca}", f"--tls-cert={certificate}", f"--tls-key={key}")
    with started(directory, *options) as commands:
        address = commands.scheduler("--protocol=tls")
        commands.worker(address)
        commands.worker(address)
        with dask.config.set(config), Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=PATIENCE_S)
        yield Secured(address, config)


def make_certificates(directory: Path) -> tuple[str, str, str]:
    """Make an authority and a certificate that it signed; give the files: ca, cert, key."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = sign_certificate("authority", ca_key, ca_key, authority=True)
    certificate = sign_certificate("dask", key, ca_key, authority=False)
    files = {
        "ca.pem": ca.public_bytes(serialization.Encoding.PEM),
        "cert.pem": certificate.public_bytes(serialization.Encoding.PEM),
        "key.pem": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
    ca_file, cert_file, key_file = (str(directory / name) for name in files)
    return ca_file, cert_file, key_file


def sign_certificate(name: str, key: Any, ca_key: Any, *, authority: bool) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    def named(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])

    now = datetime.datetime.now(datetime.UTC)
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority_id, critical=False)
    )
    if authority:
        # Python 3.13 verifies strictly, and asks an authority what its key is for
        usage = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        key_usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage)
        builder = builder.add_extension(key_usage, critical=True)
    return builder.sign(ca_key, hashes.SHA256())
