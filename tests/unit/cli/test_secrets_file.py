"""``serve --dev --secrets-file``: the secrets of development mode survive a restart."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway.cli.errors import UsageError
from gateway.cli.serve import kept_secrets
from gateway.settings import load_settings


def test_file_is_created_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / ".env"

    first, second = kept_secrets(path), kept_secrets(path)

    assert first == second
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lines_of_the_file_are_settings_for_a_shell(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    kept = kept_secrets(path)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]

    settings = load_settings(dict(line.split("=", 1) for line in lines))

    assert settings.jwt_secret == (kept.jwt,)
    assert [(key.id, key.secrets) for key in settings.ingest_keys] == [("dev", (kept.ingest,))]


def test_secrets_of_the_file_become_those_of_development_mode(tmp_path: Path) -> None:
    kept = kept_secrets(tmp_path / ".env")

    settings = load_settings({}, dev=True, dev_secrets=kept)

    assert (settings.jwt_secret, settings.ingest_keys[0].secrets) == ((kept.jwt,), (kept.ingest,))


@pytest.mark.parametrize("text", ["", "GATEWAY_JWT_SECRET=short\nGATEWAY_INGEST_KEYS=dev:short\n", "A=1\n"])
def test_file_without_usable_secrets_is_rejected_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".env"
    path.write_text(text)

    with pytest.raises(UsageError, match="for new ones, name another file or move this one away"):
        kept_secrets(path)

    assert path.read_text() == text


def test_file_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot use .*missing/\.env: No such file or directory"):
        kept_secrets(tmp_path / "missing" / ".env")


@pytest.mark.timeout(20)
def test_device_without_end_is_rejected() -> None:
    with pytest.raises(UsageError, match=r"/dev/zero is larger than 1 MiB"):
        kept_secrets(Path("/dev/zero"))
