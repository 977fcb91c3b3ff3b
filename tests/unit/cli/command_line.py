"""Run the command line as a process with its own environment."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.paths import ROOT
from tests.support.waiter import TIMEOUT_SECONDS

JWT_SECRET = "the secret that tokens are signed with"


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of this process with these GATEWAY_ variables and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return inherited | {f"GATEWAY_{name}": value for name, value in settings.items()}


def run(*arguments: str, stdin: str | bytes = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command until it ends. ``settings`` are GATEWAY_ variables without prefix."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env=environment(**settings),
        input=stdin if isinstance(stdin, str) else stdin.decode("utf-8", "surrogateescape"),
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
