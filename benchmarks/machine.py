"""The machine: which core does what, the CPU time of other programs, and a description for the page."""

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
    """Return the core of the server under test, and the cores of the load: all the others."""
    first, *others = sorted(os.sched_getaffinity(0))
    return first, others or [first]


@contextmanager
def on_cores(chosen: set[int]) -> Iterator[None]:
    """Start processes on these cores alone: inside this context a child inherits them, with all its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_sockets() -> int:
    """Raise the soft limit of open files to the hard limit; return that number."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def busy_seconds() -> float:
    """Return the CPU time in seconds that all cores have spent on any program."""
    fields = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def children_seconds() -> float:
    """Return the CPU time in seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def node_command() -> list[str]:
    """Return the command of the Node that ``make install`` installed, or that of the machine."""
    where = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "node.py"), "--where"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [where.stdout.strip()]


def describe() -> dict[str, str]:
    """Describe the machine and the versions, one line of the page for each entry."""
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
    """Return the model name of the processor."""
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _peer_version() -> str:
    import json

    package = ROOT / "benchmarks" / "node_modules" / "socket.io" / "package.json"
    found: str = json.loads(package.read_text("utf-8"))["version"]
    return found
