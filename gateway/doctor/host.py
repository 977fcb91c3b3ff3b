"""Checks of the machine that runs the gateway, and the facts for them."""

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
    """Return the limits of the system. Raises this process's limit of open files, as ``serve`` does, to measure it."""
    _, files = raise_limit()
    try:
        backlog = int(_SOMAXCONN.read_text("ascii"))
    except (OSError, ValueError):  # not Linux
        backlog = None
    return HostFacts(files, backlog)


def check_open_files(host: HostFacts, requirements: Requirements) -> Finding:
    """Check that the process may open a socket for each client."""
    name, clients = "host.open_files", requirements.max_connections
    needed, allowed = clients + OWN_FILES, host.open_files
    limit = f"The gateway may open {allowed} files"
    if allowed < needed:
        return problem(
            name,
            f"{limit}; GATEWAY_MAX_CONNECTIONS ({clients}) and {OWN_FILES} more need {needed}, so clients would be "
            "rejected before GATEWAY_MAX_CONNECTIONS is reached.",
            f"Raise the hard limit to {needed}: `ulimit -Hn` as root, LimitNOFILE= of systemd, --ulimit nofile= of a "
            "container; or lower GATEWAY_MAX_CONNECTIONS.",
        )
    if requirements.polling and allowed < 2 * clients + OWN_FILES:
        return ok(
            name,
            f"{limit}, enough for {clients} WebSocket clients; a polling client may need two at a time.",
            "If many of your clients poll, raise the hard limit to twice GATEWAY_MAX_CONNECTIONS.",
        )
    return ok(name, f"{limit}, enough for {clients} clients.")


def check_backlog(host: HostFacts) -> Finding | None:
    """Check that many clients may connect at the same moment. None if the limit is unknown."""
    name = "host.backlog"
    if host.backlog is None:
        return None
    if host.backlog < BACKLOG:
        return warning(
            name,
            f"The system queues at most {host.backlog} new connections, and the gateway needs {BACKLOG}: when all "
            "clients reconnect at once, some wait for seconds.",
            f"sysctl -w net.core.somaxconn={BACKLOG}, and in /etc/sysctl.d.",
        )
    return ok(name, f"The system queues up to {host.backlog} new connections.")
