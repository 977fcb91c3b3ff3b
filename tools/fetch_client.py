"""Puts the stock Socket.IO browser client, pinned in client/package-lock.json, into the package.

The gateway serves these files, so that a page needs nothing but the gateway's address. Run by ``make install`` and by
the Dockerfile; does nothing when the pinned version is there already.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "client"
BUNDLE = ROOT / "gateway" / "socketio_server" / "static"
PACKAGE = "node_modules/socket.io-client"
FILES = (
    "dist/socket.io.js",
    "dist/socket.io.js.map",
    "dist/socket.io.min.js",
    "dist/socket.io.min.js.map",
    "dist/socket.io.esm.min.js",
    "dist/socket.io.esm.min.js.map",
    "LICENSE",
)
STAMP = "version.txt"
TIMEOUT_SECONDS = 300
NPM_OPTIONS = (
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=5000",
)
# npm prints these details one by one before and after the sentence that says what went wrong.
DETAIL = re.compile(r"(code|errno|syscall|path|dest|type)\b|A complete log|.{0,200}/_logs/")


class FetchFailed(Exception):
    """The client cannot be had; the message is one sentence for the person at the terminal."""


def pinned() -> str:
    """Name, version and integrity of the client as the lock file has them."""
    entry = json.loads((CLIENT / "package-lock.json").read_text(encoding="utf-8"))["packages"][PACKAGE]
    return f"socket.io-client {entry['version']} {entry['integrity']}\n"


def is_there(wanted: str) -> bool:
    """Whether the bundle holds this version, completely."""
    stamp = BUNDLE / STAMP
    names = [Path(name).name for name in FILES]
    return (
        stamp.is_file()
        and stamp.read_text(encoding="utf-8") == wanted
        and all((BUNDLE / name).is_file() for name in names)
    )


def download(folder: Path) -> Path:
    """Let npm fetch and verify the locked client into this folder; answers where its files are."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(CLIENT / name, folder / name)
    npm = [sys.executable, str(ROOT / "tools" / "node.py"), "npm"]
    try:
        done = subprocess.run(
            [*npm, "ci", *NPM_OPTIONS],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FetchFailed(f"npm did not finish within {TIMEOUT_SECONDS} s; is the network there?") from None
    if done.returncode != 0:
        raise FetchFailed(reason(done.stderr) or f"npm ended with status {done.returncode}.")
    return folder / PACKAGE


def reason(stderr: str) -> str:
    """The one line of npm's complaint that says what is wrong; what node.py says is one line already."""
    lines = [line.removeprefix("npm error").strip().removeprefix("network ") for line in stderr.splitlines()]
    return next((line for line in lines if line and not DETAIL.match(line)), "")


def install(source: Path, version: str) -> None:
    """Copy the client's files; the stamp comes last, so that half a copy is never taken for a whole one."""
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing:
        raise FetchFailed(f"the package has no {missing[0]}; this version of the client is not supported.")
    shutil.rmtree(BUNDLE, ignore_errors=True)
    BUNDLE.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(source / name, BUNDLE / Path(name).name)
    (BUNDLE / STAMP).write_text(version, encoding="utf-8")


def main() -> None:
    """Fetch the pinned client unless it is there."""
    wanted = pinned()
    if is_there(wanted):
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            install(download(Path(folder)), wanted)
    except (FetchFailed, OSError) as error:
        sys.exit(f"The Socket.IO browser client could not be fetched: {error}")
    print(f"{wanted.rsplit(' ', 1)[0]} is in {BUNDLE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
