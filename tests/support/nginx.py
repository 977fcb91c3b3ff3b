"""Debian's nginx in front of replicas, with the configuration of examples/compose."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.backend import Backend
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.waiter import TIMEOUT_SECONDS

CONFIGURATION = ROOT / "examples" / "compose" / "nginx"
CLIENTS_LISTEN, INGEST_LISTEN = "    listen 8080;\n", "    listen 8081;\n"
HOW_TO_GET_IT = "nginx is missing, the proxy in front of replicas in these tests: apt-get install nginx-light"


def find_binary() -> str:
    """Return the path of the program; fail with a hint if there is none."""
    # On Debian it is in /usr/sbin, which is only in the PATH of root.
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    assert found is not None, HOW_TO_GET_IT
    return found


@dataclass(frozen=True)
class Upstream:
    """The addresses of one replica for clients and for backends, as host:port."""

    clients: str
    ingest: str

    @classmethod
    def of(cls, replica: GatewayProcess) -> Upstream:
        return cls(replica.url.removeprefix("http://"), replica.ingest_url.removeprefix("http://"))


def replicas_conf(replicas: Mapping[str, Upstream]) -> str:
    """Return replicas.conf for these replicas, by their names in nginx; without comments."""
    addresses = [each.clients for each in replicas.values()]
    blocks = [_upstream("any", addresses)]
    for name, each in replicas.items():
        others = [f"{address} max_fails=0 backup" for address in addresses if address != each.clients]
        blocks.append(_upstream(f"{name}_first", [each.clients], others))
    blocks.append(_upstream("ingest", [each.ingest for each in replicas.values()]))
    by_sid = [(f"~^{name}:", f"{name}_first") for name in replicas]
    by_cookie = [(f"~:{name}$", f"{name}_first") for name in replicas]
    key = '"$name_in_sid:$cookie_gateway_replica"'
    blocks.append(_map(key, "$first_choice", [("default", "any"), *by_sid, *by_cookie]))
    names = [(each.clients, name) for name, each in replicas.items()]
    blocks.append(_map("$address_that_answered", "$replica_that_answered", [("default", '""'), *names]))
    return "\n".join(blocks)


def start(folder: Path, *ports: tuple[str, int]) -> subprocess.Popen[bytes]:
    """Start nginx with the files in ``folder``; return once it listens on ``ports``. Its log is ``errors`` there."""
    folder.chmod(0o755)  # started as root, nginx runs its workers as another user
    # As `ulimits` in compose.yaml: the largest allowed number of open files.
    script = 'ulimit -n "$(ulimit -Hn)"; exec "$0" "$@"'
    options = ["-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    with (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(["sh", "-c", script, find_binary(), *options], stderr=errors)
    try:
        wait_for_ports(process, ports, folder / "errors")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


class Nginx:
    """One nginx in front of replicas, by their names in nginx; used as a context."""

    def __init__(self, replicas: Mapping[str, GatewayProcess]) -> None:
        self._any = next(iter(replicas.values()))
        self._replicas = {name: Upstream.of(each) for name, each in replicas.items()}
        self._clients_port, self._ingest_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self._clients_port}"
        self.ingest_url = f"http://127.0.0.1:{self._ingest_port}"

    def __enter__(self) -> Nginx:
        find_binary()
        self._folder = Path(tempfile.mkdtemp(prefix="nginx-"))
        shutil.copy(CONFIGURATION / "nginx.conf", self._folder)
        (self._folder / "replicas.conf").write_text(replicas_conf(self._replicas))
        (self._folder / "gateway.conf").write_text(self._gateway_conf())
        try:
            self._process = start(
                self._folder, ("127.0.0.1", self._clients_port), ("127.0.0.1", self._ingest_port)
            )
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(TIMEOUT_SECONDS)
        shutil.rmtree(self._folder)

    @property
    def backend(self) -> Backend:
        """A backend that pushes through nginx; its key has all scopes."""
        return Backend(self.ingest_url, self._any.key_id, self._any.secret)

    def severe_errors(self) -> list[str]:
        """Return lines of its log that report more than an unreachable replica."""
        lines = (self._folder / "errors").read_text().splitlines()
        return [line for line in lines if any(f"[{level}]" in line for level in ("emerg", "alert", "crit"))]

    def _gateway_conf(self) -> str:
        text = (CONFIGURATION / "gateway.conf").read_text()
        for line, port in ((CLIENTS_LISTEN, self._clients_port), (INGEST_LISTEN, self._ingest_port)):
            assert text.count(line) == 1, f"gateway.conf does not have {line.strip()} once"
            text = text.replace(line, f"    listen 127.0.0.1:{port};\n")
        return text


def wait_for_ports(
    process: subprocess.Popen[bytes], addresses: Iterable[tuple[str, int]], errors: Path
) -> None:
    """Wait until a proxy listens; fail with its log if it ends before."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    for address in addresses:
        while True:
            try:
                socket.create_connection(address, timeout=1).close()
            except OSError:
                assert process.poll() is None, f"the proxy ended: {errors.read_text()}"
                assert time.monotonic() < deadline, f"the proxy does not listen after {TIMEOUT_SECONDS} s"
                time.sleep(0.02)
            else:
                break


def _upstream(name: str, addresses: Iterable[str], backups: Iterable[str] = ()) -> str:
    servers = [*(f"{address} max_fails=0" for address in addresses), *backups]
    lines = [f"zone {name} 64k", *(f"server {server}" for server in servers), "keepalive 32"]
    return f"upstream {name} {{\n" + "".join(f"    {line};\n" for line in lines) + "}\n"


def _map(key: str, variable: str, pairs: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"    {key_value} {result};\n" for key_value, result in pairs)
    return f"map {key} {variable} {{\n{lines}}}\n"
