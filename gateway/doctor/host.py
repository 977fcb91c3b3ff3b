"""Checks of the machine that the gateway runs on, and the gathering of what they need: no more than two look-ups."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gateway.doctor.facts import HostFacts, Requirements
from gateway.doctor.findings import Finding, ok, problem, warning
from gateway.http_server import BACKLOG
from gateway.rlimit import raise_limit

OWN_FILES: Final = 500
"""Open files besides clients: ports, Redis, logs, and the connections of backends and probes."""
_SOMAXCONN: Final = Path("/proc/sys/net/core/somaxconn")


def read_host_facts() -> HostFacts:
    """What the system allows; raises this process's limit of open files as ``serve`` does, to see how far that goes."""
    _, files = raise_limit()
    try:
        backlog = int(_SOMAXCONN.read_text("ascii"))
    except (OSError, ValueError):  # no Linux
        backlog = None
    return HostFacts(files, backlog)


def open_files(host: HostFacts, requirements: Requirements) -> Finding:
    """May the process open a socket for each of its clients?"""
    name, clients = "host.open_files", requirements.max_connections
    needed, allowed = clients + OWN_FILES, host.open_files
    said = f"The gateway may open {allowed} files"
    if allowed < needed:
        return problem(
            name,
            f"{said}; GATEWAY_MAX_CONNECTIONS ({clients}) and {OWN_FILES} more need {needed}, so clients would be "
            "turned away before the gateway is full.",
            f"Raise the hard limit to {needed}: `ulimit -Hn` as root, LimitNOFILE= of systemd, --ulimit nofile= of a "
            "container; or lower GATEWAY_MAX_CONNECTIONS.",
        )
    if requirements.polling and allowed < 2 * clients + OWN_FILES:
        return ok(
            name,
            f"{said}, enough for {clients} WebSocket clients; one that polls may need two at a time.",
            "If many of your clients poll, raise the hard limit to twice GATEWAY_MAX_CONNECTIONS.",
        )
    return ok(name, f"{said}, enough for {clients} clients.")


def backlog(host: HostFacts) -> Finding | None:
    """May many clients knock at the same moment? None where the system does not tell."""
    name = "host.backlog"
    if host.backlog is None:
        return None
    if host.backlog < BACKLOG:
        return warning(
            name,
            f"The system lets {host.backlog} new connections wait, the gateway asks for {BACKLOG}: when everybody "
            "comes back at once, some wait for seconds.",
            f"sysctl -w net.core.somaxconn={BACKLOG}, and in /etc/sysctl.d.",
        )
    return ok(name, f"The system lets {host.backlog} new connections wait.")
