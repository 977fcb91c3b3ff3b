"""Checks of the machine that the gateway runs on, and the gathering of what they need: no more than two look-ups."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

from gateway.doctor.facts import Demands, HostFacts
from gateway.doctor.findings import Finding, ok, problem, warning
from gateway.listening import BACKLOG

OWN_FILES: Final = 500
"""Open files besides clients: ports, Redis, logs, and the connections of backends and probes."""
_SOMAXCONN: Final = Path("/proc/sys/net/core/somaxconn")


def look() -> HostFacts:
    """What the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        backlog = int(_SOMAXCONN.read_text("ascii"))
    except (OSError, ValueError):  # no Linux
        backlog = None
    return HostFacts(_number(soft), _number(hard), backlog)


def _number(limit: int) -> int:
    return 2**63 - 1 if limit == resource.RLIM_INFINITY else limit


def open_files(host: HostFacts, demands: Demands) -> Finding:
    """May the process open a socket for each of its clients?"""
    name, clients = "host.open_files", demands.max_connections
    needed, allowed = clients + OWN_FILES, host.open_files
    said = f"A process may open {allowed} files"
    if allowed < needed:
        least = f"{needed}" + (
            f" (this user: at most {host.open_files_at_most})" * (needed > host.open_files_at_most)
        )
        return problem(
            name,
            f"{said}; GATEWAY_MAX_CONNECTIONS ({clients}) and {OWN_FILES} more need {needed}, so clients would be "
            "turned away before the gateway is full.",
            f"Raise the limit to {least}: `ulimit -n`, LimitNOFILE= of systemd, --ulimit nofile= of a container; or "
            "lower GATEWAY_MAX_CONNECTIONS.",
        )
    if demands.polling and allowed < 2 * clients + OWN_FILES:
        return ok(
            name,
            f"{said}, enough for {clients} WebSocket clients; one that polls may need two at a time.",
            "If many of your clients poll, raise it to twice GATEWAY_MAX_CONNECTIONS.",
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
