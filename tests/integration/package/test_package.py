"""The wheel and the sdist of a fresh checkout are complete: what a user installs serves clients and takes pushes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import NodeClients
from tests.support.gateway_process import KEY_ID, KEY_SECRET, GatewayProcess
from tests.support.paths import ROOT

CLIENT_FILES = {"socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "LICENSE"}
BUILD_SECONDS = 170


def run(*command: str | Path, cwd: Path, **environment: str) -> None:
    """Run a command, and show its output if it fails."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def path_without_node(folder: Path) -> str:
    """Return a search path with every program of the system but Node."""
    folder.mkdir()
    for program in Path("/usr/bin").iterdir():
        if program.name not in {"node", "npm", "npx", "nodejs"}:
            (folder / program.name).symlink_to(program)
    return str(folder)


def names_in(wheel: Path) -> set[str]:
    """Return the names of the files of a wheel but its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the files that git knows: without the client, as after ``git clone``."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that ``pip install .`` builds on a machine without Node."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder)
    run(*pip, ".", cwd=checkout, PATH=path_without_node(tmp_path_factory.mktemp("path") / "bin"))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Iterator[Path]:
    """Return the folder of programs of an empty environment with the wheel and its locked dependencies."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    pip = (programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--require-hashes", "-r", ROOT / "requirements" / "runtime.txt", cwd=tmp_path)
    run(*pip, "--no-deps", wheel, cwd=tmp_path)
    yield programs
    shutil.rmtree(environment)


def test_wheel_of_a_fresh_checkout_holds_every_file(wheel: Path, checkout: Path) -> None:
    sources = {
        path.relative_to(checkout).as_posix()
        for package in ("gateway", "ingest_api")
        for path in (checkout / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    names = names_in(wheel)
    static = {Path(name).name for name in names if "/static/" in name}
    assert sources == names
    assert static >= CLIENT_FILES


def test_sdist_builds_the_same_wheel_without_a_download(wheel: Path, checkout: Path, tmp_path: Path) -> None:
    # After the wheel, so that the checkout has the client.
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=checkout)
    (sdist,) = tmp_path.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "--wheel-dir", tmp_path, sdist, cwd=tmp_path, npm_config_offline="true")
    (built,) = tmp_path.glob("*.whl")
    assert names_in(wheel) == names_in(built)


def test_installed_wheel_serves_clients_and_takes_pushes(
    installed: Path, tmp_path: Path, node: NodeClients
) -> None:
    program = installed / "sio-gateway"
    gateway = GatewayProcess(program=(str(program),), folder=tmp_path)
    try:
        with urllib.request.urlopen(f"{gateway.url}/socket.io/socket.io.min.js") as response:
            assert "Socket.IO v4" in response.read(200).decode()
        client = node.open(gateway.url, token=gateway.token("alice")).connected()
        push = (program, "emit", "user", "alice", "hello", '{"text":"hi"}', "--url", gateway.url)
        run(*push, cwd=tmp_path, GATEWAY_KEY=KEY_ID, GATEWAY_SECRET=KEY_SECRET)
        assert client.event("hello")[0] == {"text": "hi"}
        assert gateway.stop() == 0
    finally:
        gateway.kill()
