"""Debian's HAProxy in front of two replicas, with the configuration of examples/proxies."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.backend import Backend
from tests.support.gateway_process import GatewayProcess
from tests.support.nginx import wait_for_ports
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.waiter import TIMEOUT_SECONDS

CONFIGURATION = ROOT / "examples" / "proxies" / "haproxy.cfg"
NAMES = ("gateway-0", "gateway-1")
"""REPLICA_ID of the replicas."""
HOW_TO_GET_IT = "haproxy is missing, a proxy in front of replicas in these tests: apt-get install haproxy"


class HAProxy:
    """One HAProxy in front of two replicas; used as a context."""

    def __init__(self, replicas: Sequence[GatewayProcess]) -> None:
        self._replicas = replicas
        self._ports = {":8080": free_port(), ":8081": free_port()}
        self.url, self.ingest_url = (f"http://127.0.0.1:{port}" for port in self._ports.values())

    def __enter__(self) -> HAProxy:
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
        assert program is not None, HOW_TO_GET_IT
        self._folder = Path(tempfile.mkdtemp(prefix="haproxy-"))
        (self._folder / "haproxy.cfg").write_text(self._configuration())
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-db", "-f", str(self._folder / "haproxy.cfg")], stdout=log, stderr=log
            )
        try:
            addresses = [("127.0.0.1", port) for port in self._ports.values()]
            wait_for_ports(self._process, addresses, self._folder / "log")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(TIMEOUT_SECONDS)
        shutil.rmtree(self._folder)

    @property
    def backend(self) -> Backend:
        """A backend that pushes through HAProxy; its key has all scopes."""
        return Backend(self.ingest_url, self._replicas[0].key_id, self._replicas[0].secret)

    def _configuration(self) -> str:
        # As many as this machine lets a process open.
        text = _replaced(CONFIGURATION.read_text(), "maxconn 40000", "maxconn 1000")
        for line, port in self._ports.items():
            text = _replaced(text, f"bind {line}\n", f"bind 127.0.0.1:{port}\n")
        for number, replica in enumerate(self._replicas):
            for port, url in ((8080, replica.url), (8081, replica.ingest_url)):
                text = _replaced(text, f"10.0.0.1{number}:{port} ", url.removeprefix("http://") + " ")
        return text


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"haproxy.cfg does not have {old.strip()} once"
    return text.replace(old, new)
