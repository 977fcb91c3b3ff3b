"""Build the wheel and list the files that it lacks: data files that git ignores are easily forgotten."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = (
    "gateway/__main__.py",
    "gateway/socketio_server/static/LICENSE",
    "gateway/socketio_server/static/socket.io.js",
    "gateway/socketio_server/static/socket.io.min.js",
    "ingest_api/__init__.py",
)


def names_in_wheel() -> set[str]:
    """Build the wheel with the installed packages and return the names of its files."""
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        result = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            sys.exit(f"The wheel cannot be built:\n{result.stderr.strip()}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return set(archive.namelist())


def main() -> None:
    """Compare the wheel with the work tree."""
    packaged = names_in_wheel()
    data = {
        path.relative_to(ROOT).as_posix()
        for package in ("gateway", "ingest_api")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    missing = sorted((data | set(EXPECTED)) - packaged)
    if missing:
        sys.exit("The wheel lacks " + ", ".join(missing))
    ours = ("gateway/", "ingest_api/", "sio_gateway-")
    unexpected = sorted(name for name in packaged if not name.startswith(ours))
    if unexpected:
        sys.exit("The wheel must not contain " + ", ".join(unexpected))
    print(f"The wheel contains {len(packaged)} files.")


if __name__ == "__main__":
    main()
