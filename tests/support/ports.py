"""Ports for the servers of tests: no other server of this machine's test runs has or had the same one.

A client, or a gateway that calls a webhook, tries to connect again to a server that has ended. It would reach another
server that got the same port.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

PORTS: Final = range(15_000, 32_000)
"""Below the ports that Linux and macOS give to outgoing connections and to servers that ask for port 0."""
BLOCK: Final = 100
"""How many ports a process reserves at once."""


class Ports:
    """Gives each port once, to any thread. It reserves blocks of ports by the locks of files, until ``release``."""

    def __init__(self, folder: Path, *, ports: range = PORTS, block: int = BLOCK) -> None:
        self._folder = folder
        self._blocks = [ports[start : start + block] for start in range(0, len(ports), block)]
        random.shuffle(self._blocks)
        self._locks: list[int] = []
        self._next = self._all()
        self._one_at_a_time = threading.Lock()
        folder.mkdir(exist_ok=True)

    def take(self) -> int:
        """Return a port that no process uses and no call returned before.

        Raises:
            AssertionError: other processes have reserved all blocks that are left.
        """
        with self._one_at_a_time:
            port = next(self._next, None)
        assert port is not None, f"no port is left in {PORTS}: see the locks in {self._folder}"
        return port

    def release(self) -> None:
        """Let other processes have the ports; as the end of this process does."""
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()

    def _all(self) -> Iterator[int]:
        for block in self._blocks:
            if self._reserve(block):
                yield from (port for port in random.sample(block, len(block)) if is_free(port))

    def _reserve(self, block: range) -> bool:
        lock = os.open(self._folder / f"{block[0]}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._locks.append(lock)
        return True


def is_free(port: int) -> bool:
    """Return whether a server can listen on this port now."""
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


_ports: list[Ports] = []
_creating = threading.Lock()


def free_port() -> int:
    """Return a port for a server of this process or of one that it starts; it stays free while the server is down."""
    with _creating:
        if not _ports:
            _ports.append(Ports(Path(tempfile.gettempdir(), f"ports-of-tests-{os.getuid()}")))
    return _ports[0].take()
