"""The machine: which core does what, the CPU time of other programs, and a description for the page."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tests.support.redis_server import find_binary

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
        "Python": python_build(),
        "Libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "Node": node.stdout.strip().removeprefix("v"),
        "Socket.IO": _peer_version(),
        "Redis": redis_version(),
    }


def python_build() -> str:
    """Return the version of this interpreter, whose build it is, and how it was configured."""
    return build_of(
        platform.python_version(),
        str(sysconfig.get_config_var("CONFIG_ARGS") or ""),
        distribution=platform.freedesktop_os_release().get("PRETTY_NAME", "the distribution")
        if sys.base_prefix == "/usr"
        else None,
        shared="/libpython" in Path("/proc/self/maps").read_text("utf-8"),
    )


def build_of(python: str, options: str, *, distribution: str | None, shared: bool) -> str:
    """Name the build of an interpreter, and whether it was built with --enable-optimizations.

    Debian configures twice, and ``options`` are those of its shared library. The program (``shared`` is false: it does
    not use the library) has profile-guided and link-time optimization, by the changelog of its packages since 3.8.0~b2,
    which keeps the flags out of the configuration on purpose.
    """
    optimized = "with" if "--enable-optimizations" in options else "without"
    built = f"built {optimized} --enable-optimizations"
    if distribution is None:
        return f"{python}, not from the distribution, {built}"
    if distribution.startswith(("Debian", "Ubuntu")) and "--enable-shared" in options and not shared:
        built = (
            f"built with profile-guided and link-time optimization, as its changelog says; its configuration, which is "
            f"that of its shared library, is {optimized} --enable-optimizations"
        )
    return f"{python}, the package of {distribution}, {built}"


def redis_version() -> str:
    """Return name and version of the Redis server that is measured."""
    shown = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    name, _, rest = shown.partition(" server v=")
    return f"{name} {rest.split()[0]}"


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
