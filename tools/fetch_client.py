"""Copy the stock Socket.IO browser client, pinned in client/package-lock.json, into the package.

The gateway serves these files, so that a page needs only the gateway's address. ``make install``, the Dockerfile and
the build of the package (tools/build_hook.py) run this program. It does nothing if the package already has the pinned
version. With ``--check`` it ends with status 1 instead of fetching. Beside each file it writes a compressed one, which
the gateway sends to clients that accept it.
"""

from __future__ import annotations

import gzip
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
COMPRESSED = tuple(name for name in FILES if name != "LICENSE")
"""Files that a gzip variant is made of. Brotli would save a tenth more and needs a library that nothing else needs."""
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
# npm prints these details line by line before and after the sentence with the error.
DETAIL = re.compile(r"(code|errno|syscall|path|dest|type)\b|A complete log|.{0,200}/_logs/")


class FetchFailed(Exception):
    """The client could not be fetched. The message is one sentence for the terminal."""


def pinned_version() -> str:
    """Return name, version and integrity of the client from the lock file."""
    entry = json.loads((CLIENT / "package-lock.json").read_text(encoding="utf-8"))["packages"][PACKAGE]
    return f"socket.io-client {entry['version']} {entry['integrity']}\n"


def is_installed(version: str) -> bool:
    """Return whether the bundle has every file of this version, and the compressed ones."""
    return is_unpacked(version) and all(gzip_of(name).is_file() for name in COMPRESSED)


def is_unpacked(version: str) -> bool:
    """Return whether the bundle has every file of this version."""
    stamp = BUNDLE / STAMP
    names = [Path(name).name for name in FILES]
    return (
        stamp.is_file()
        and stamp.read_text(encoding="utf-8") == version
        and all((BUNDLE / name).is_file() for name in names)
    )


def gzip_of(name: str) -> Path:
    """Return the path of the compressed form of a file of the package."""
    return BUNDLE / f"{Path(name).name}.gz"


def compress() -> None:
    """Write the compressed form of each file. The same file always gives the same bytes."""
    for name in COMPRESSED:
        content = (BUNDLE / Path(name).name).read_bytes()
        gzip_of(name).write_bytes(gzip.compress(content, mtime=0))


def download(folder: Path) -> Path:
    """Let npm download and verify the locked client in ``folder``; return the folder with its files.

    Raises: FetchFailed.
    """
    for name in ("package.json", "package-lock.json"):
        shutil.copy(CLIENT / name, folder / name)
    npm = [sys.executable, str(ROOT / "tools" / "node.py"), "npm"]
    try:
        result = subprocess.run(
            [*npm, "ci", *NPM_OPTIONS],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FetchFailed(
            f"npm did not finish within {TIMEOUT_SECONDS} s; is the network available?"
        ) from None
    if result.returncode != 0:
        raise FetchFailed(reason(result.stderr) or f"npm ended with status {result.returncode}.")
    return folder / PACKAGE


def reason(stderr: str) -> str:
    """Return the line with the error from the output of npm. An error of node.py is already one line."""
    lines = [line.removeprefix("npm error").strip().removeprefix("network ") for line in stderr.splitlines()]
    return next((line for line in lines if line and not DETAIL.match(line)), "")


def install(source: Path, version: str) -> None:
    """Copy the client's files. The stamp is written last, so that an incomplete copy is never accepted."""
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing:
        raise FetchFailed(f"the package has no {missing[0]}; this version of the client is not supported.")
    shutil.rmtree(BUNDLE, ignore_errors=True)
    BUNDLE.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(source / name, BUNDLE / Path(name).name)
    (BUNDLE / STAMP).write_text(version, encoding="utf-8")


def main() -> None:
    """Fetch the pinned client unless it is installed."""
    version = pinned_version()
    if is_installed(version):
        return
    if "--check" in sys.argv[1:]:
        sys.exit(1)
    try:
        if not is_unpacked(version):
            with tempfile.TemporaryDirectory() as folder:
                install(download(Path(folder)), version)
        compress()
    except (FetchFailed, OSError) as error:
        sys.exit(f"The Socket.IO browser client could not be fetched: {error}")
    print(f"{version.rsplit(' ', 1)[0]} is in {BUNDLE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
