"""``types`` and ``asyncapi``: from a file or GATEWAY_EVENTS_FILE, without the settings of a gateway."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.paths import ROOT
from tests.unit.cli.command_line import run

EXAMPLE = str(ROOT / "examples" / "nestjs" / "events.yaml")


def test_types_of_a_file_are_printed() -> None:
    printed = run("types", EXAMPLE)

    assert (printed.returncode, printed.stderr) == (0, "")
    assert "export type ChatSocket = " in printed.stdout


def test_the_file_of_the_setting_is_the_default() -> None:
    assert run("types", EVENTS_FILE=EXAMPLE).stdout == run("types", EXAMPLE).stdout


@pytest.mark.parametrize("ack", ["required", "none"])
def test_ack_chooses_how_acknowledgements_are_typed(ack: str) -> None:
    printed = run("types", f"--ack={ack}", EXAMPLE)

    assert printed.returncode == 0
    assert ("ack: (" in printed.stdout) is (ack == "required")


def test_asyncapi_is_printed_as_yaml_or_json() -> None:
    as_yaml, as_json = run("asyncapi", EXAMPLE), run("asyncapi", "--json", EXAMPLE)

    assert (as_yaml.returncode, as_json.returncode) == (0, 0)
    assert yaml.safe_load(as_yaml.stdout) == json.loads(as_json.stdout)
    assert yaml.safe_load(as_yaml.stdout)["info"]["title"] == "events.yaml"


@pytest.mark.parametrize("command", ["types", "asyncapi"])
def test_every_mistake_is_printed_with_its_file(command: str, tmp_path: Path) -> None:
    file = tmp_path / "events.yaml"
    file.write_text("version: 2\nnamespaces: {/: {client_event: {}}}\n", encoding="utf-8")

    printed = run(command, str(file))

    assert (printed.returncode, printed.stdout) == (2, "")
    assert len([line for line in printed.stderr.splitlines() if f"{file}: " in line]) == 2


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")

    assert "cannot read /does/not/exist" in run("types", "/does/not/exist").stderr
    assert f"{binary} is not UTF-8" in run("types", str(binary)).stderr
    assert "/dev/zero is larger than 1 MiB" in run("types", "/dev/zero").stderr
    assert run("types").returncode == 2
