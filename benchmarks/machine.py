"""The machine: which core does what, how busy others keep it, and what it is, for the document."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("aiohttp", "python-socketio", "uvloop", "PyJWT", "marshmallow")


def cores() -> tuple[int, list[int]]:
    """The core of the server under test, and those of the load: all the others."""
    first, *others = sorted(os.sched_getaffinity(0))
    return first, others or [first]


@contextmanager
def on_cores(chosen: set[int]) -> Iterator[None]:
    """Processes that are started inside run on these cores alone, with every thread they make."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_sockets() -> int:
    """Raise the number of files a process may open to what the system lets it; answers that number."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def busy_seconds() -> float:
    """CPU time that the machine has spent on anything, of all cores together."""
    fields = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def children_seconds() -> float:
    """CPU time of this process and of all those that it started and that have ended."""
    return sum(os.times()[:4])


def node_command() -> list[str]:
    """The Node that ``make install`` brought, or that of the machine."""
    where = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "node.py"), "--where"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [where.stdout.strip()]


def describe() -> dict[str, str]:
    """What it was measured on."""
    node = subprocess.run([*node_command(), "--version"], capture_output=True, text=True, check=True)
    return {
        "CPU": f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "System": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "Libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "Node": node.stdout.strip().removeprefix("v"),
        "Socket.IO": _peer_version(),
    }


def cpu_model() -> str:
    """What the processor calls itself."""
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _peer_version() -> str:
    import json

    package = ROOT / "benchmarks" / "node_modules" / "socket.io" / "package.json"
    found: str = json.loads(package.read_text("utf-8"))["version"]
    return found
