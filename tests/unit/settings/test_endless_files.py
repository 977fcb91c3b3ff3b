"""Files that have no end: each setting that names a file is rejected in bounded time, with a sentence."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.settings import SettingsError, files, load_settings
from gateway.settings.model import FROM_FILES

GOOD = {"GATEWAY_JWT_SECRET": "j" * 32, "GATEWAY_INGEST_KEYS": "billing:" + "b" * 32}

Environ = Callable[[str, Path], dict[str, str]]


def nothing_else(_path: str, _folder: Path) -> dict[str, str]:
    return {}


def of_key(path: str, folder: Path) -> dict[str, str]:
    return in_yaml(folder, f"ingest_keys:\n- {{id: shop, secret_file: {path}}}\n")


def of_webhook(field: str) -> Environ:
    def environ(path: str, folder: Path) -> dict[str, str]:
        pair = "" if field != "cert_file" else f", key_file: {path}"
        return in_yaml(
            folder, f"webhooks:\n- {{id: a, url: 'https://app.example/', {field}: {path}{pair}}}\n"
        )

    return environ


def of_redis(path: str, _folder: Path) -> dict[str, str]:
    return {"GATEWAY_REDIS_URL": f"rediss://redis.example?ssl_ca_certs={path}"}


def in_yaml(folder: Path, text: str) -> dict[str, str]:
    file = folder / "gateway.yaml"
    file.write_text(text)
    return {"GATEWAY_CONFIG": str(file)}


NAMES: dict[str, Environ] = {
    **{f"GATEWAY_{name.upper()}_FILE": nothing_else for name in FROM_FILES},
    "GATEWAY_CONFIG": nothing_else,
    "GATEWAY_EVENTS_FILE": nothing_else,
    "GATEWAY_INGEST_KEYS": of_key,
    "GATEWAY_REDIS_URL": of_redis,
}
CASES = [
    *(pytest.param(name, environ, id=name) for name, environ in NAMES.items()),
    *(
        pytest.param("GATEWAY_WEBHOOKS", of_webhook(field), id=field)
        for field in ("secret_file", "ca_file", "cert_file")
    ),
]


def problems(name: str, environ: Environ, path: Path, folder: Path) -> list[str]:
    given = environ(str(path), folder) or {name: str(path)}
    kept = {key: value for key, value in GOOD.items() if f"{key}_FILE" not in given and key != name}
    with pytest.raises(SettingsError) as raised:
        load_settings(kept | given)
    return [each for each in raised.value.problems if str(path) in each]


@pytest.mark.parametrize(("name", "environ"), CASES)
def test_device_without_end_is_rejected(name: str, environ: Environ, tmp_path: Path) -> None:
    (problem,) = problems(name, environ, Path("/dev/zero"), tmp_path)

    assert problem.startswith(f"{name}: ")
    assert "is larger than 1 MiB" in problem or "it is a pipe or a device" in problem


@pytest.mark.parametrize(("name", "environ"), CASES)
@pytest.mark.timeout(20)
def test_pipe_that_is_not_written_to_is_rejected(
    name: str, environ: Environ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_READ_SECONDS", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    (problem,) = problems(name, environ, pipe, tmp_path)

    assert problem.startswith(f"{name}: ")
    assert "it is a pipe or a device" in problem


@pytest.mark.timeout(20)
def test_pipe_whose_writer_never_ends_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_READ_SECONDS", 0.2)
    read_end, write_end = os.pipe()
    os.write(write_end, b"a beginning without an end")

    (problem,) = problems("GATEWAY_JWT_SECRET_FILE", nothing_else, Path(f"/dev/fd/{read_end}"), tmp_path)

    assert "did not end within" in problem
    os.close(read_end)
    os.close(write_end)


def test_pipe_of_the_shell_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("s" * 40 + "\n",))
    writer.start()

    settings = load_settings(
        {"GATEWAY_JWT_SECRET_FILE": str(pipe), "GATEWAY_INGEST_KEYS": GOOD["GATEWAY_INGEST_KEYS"]}
    )

    writer.join()
    assert settings.jwt_secret == ("s" * 40,)


def test_directory_is_rejected(tmp_path: Path) -> None:
    (problem,) = problems("GATEWAY_JWT_SECRET_FILE", nothing_else, tmp_path, tmp_path)

    assert problem == f"GATEWAY_JWT_SECRET_FILE: cannot read {tmp_path}: Is a directory"
