"""Sources of settings: environment, files of secrets, YAML; and unknown and former names."""

# ruff: noqa: E501  # a table of sentences is read line by line

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import SettingsError, load_settings
from gateway.settings.model import KNOWN
from gateway.settings.sources import FORMER_NAMES

COMPLETE = {"GATEWAY_JWT_SECRET": "j" * 32, "GATEWAY_INGEST_KEYS": "billing:" + "b" * 32}


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load_settings(COMPLETE | environ)
    return raised.value.problems


def yaml(folder: Path, text: str) -> dict[str, str]:
    file = folder / "gateway.yaml"
    file.write_text(text, encoding="utf-8")
    return {"GATEWAY_CONFIG": str(file)}


# names


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("PING_INTERVALL", "unknown setting; did you mean GATEWAY_PING_INTERVAL_SECONDS?"),
        ("JWT_SECRETS", "unknown setting; did you mean GATEWAY_JWT_SECRET?"),
        ("QQQQ", "unknown setting"),
        ("DEAF_SECONDSS", "unknown setting; did you mean GATEWAY_SUBSCRIPTION_TIMEOUT_SECONDS?"),
        ("OUTBOX_BYTESS", "unknown setting; did you mean GATEWAY_SEND_BUFFER_BYTES?"),
    ],
)
def test_unknown_name_is_rejected_with_the_nearest_known_name(name: str, sentence: str) -> None:
    assert problems({f"GATEWAY_{name}": "x"}) == [f"GATEWAY_{name}: {sentence}"]


@pytest.mark.parametrize(("former", "name"), FORMER_NAMES.items())
def test_former_name_is_rejected_with_the_new_name(former: str, name: str, tmp_path: Path) -> None:
    environ = yaml(tmp_path, f"{former}: 1")
    upper, new = f"GATEWAY_{former.upper()}", f"GATEWAY_{name.upper()}"

    assert problems({upper: "1"}) == [f"{upper}: is called {new} now"]
    assert problems(environ) == [f"{upper}: is called {name} now (in {environ['GATEWAY_CONFIG']})"]
    assert problems({f"{upper}_FILE": "/nowhere"}) == [
        f"{upper}_FILE: {upper} is called {new} now, and only secrets are read from files"
    ]
    assert problems(yaml(tmp_path, f"{former}_file: /nowhere")) == [
        (
            f"{upper}_FILE: {former} is called {name} now, and only secrets are read from files"
            f" (in {environ['GATEWAY_CONFIG']})"
        )
    ]


def test_former_names_are_those_of_settings_that_exist() -> None:
    assert set(FORMER_NAMES.values()) - set(KNOWN) == set()
    assert FORMER_NAMES.keys() & KNOWN.keys() == set()


def test_former_names_are_reported_together_with_other_problems() -> None:
    assert problems(
        {
            "GATEWAY_OUTBOX_BYTES": "9000000",
            "GATEWAY_PRT": "1",
            "GATEWAY_MAX_BODY_BYTES": "4000000",
            "GATEWAY_PING_INTERVAL": "25",
            "GATEWAY_LOG_LEVEL": "trace",
        }
    ) == [
        "GATEWAY_OUTBOX_BYTES: is called GATEWAY_SEND_BUFFER_BYTES now",
        "GATEWAY_PRT: unknown setting; did you mean GATEWAY_PORT?",
        "GATEWAY_PING_INTERVAL: is called GATEWAY_PING_INTERVAL_SECONDS now",
        "GATEWAY_LOG_LEVEL: 'trace' is not one of debug, info, warning, error",
    ]


def test_name_in_lower_case_is_rejected_in_the_environment() -> None:
    assert problems({"GATEWAY_Port": "1"}) == ["GATEWAY_Port: unknown setting; names are upper case"]


def test_variables_of_other_programs_are_ignored() -> None:
    assert load_settings(COMPLETE | {"PORT": "1", "MY_GATEWAY_PRT": "1"}).port == 8080


@pytest.mark.parametrize("name", ["URL", "KEY", "SECRET"])
def test_variables_of_callers_are_accepted_in_the_environment_of_a_gateway(name: str) -> None:
    assert load_settings(COMPLETE | {f"GATEWAY_{name}": "x"}).port == 8080


def test_variables_that_kubernetes_sets_for_services_are_accepted() -> None:
    links = {
        "GATEWAY_PORT": "tcp://10.0.0.1:80",
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_SERVICE_PORT": "80",
        "GATEWAY_SERVICE_PORT_HTTP": "80",
        "GATEWAY_PORT_80_TCP": "tcp://10.0.0.1:80",
        "GATEWAY_PORT_80_TCP_PROTO": "tcp",
        "GATEWAY_PORT_80_TCP_PORT": "80",
        "GATEWAY_PORT_80_TCP_ADDR": "10.0.0.1",
        "GATEWAY_METRICS_SERVICE_HOST": "10.0.0.2",
        "GATEWAY_METRICS_SERVICE_PORT": "9090",
        "GATEWAY_METRICS_PORT": "tcp://10.0.0.2:9090",
        "GATEWAY_METRICS_PORT_9090_TCP_ADDR": "10.0.0.2",
        "GATEWAY_INGEST_SERVICE_HOST": "10.0.0.3",
        "GATEWAY_INGEST_PORT": "tcp://10.0.0.3:8081",
    }

    settings = load_settings(COMPLETE | links)

    assert (settings.port, settings.ingest_port) == (8080, None)


@pytest.mark.parametrize(("name", "service"), [("PORT", "gateway"), ("INGEST_PORT", "gateway-ingest")])
def test_address_of_a_service_without_its_other_variables_is_rejected_as_a_port(
    name: str, service: str
) -> None:
    (problem,) = problems({f"GATEWAY_{name}": "tcp://10.0.0.1:80"})

    assert problem == (
        f"GATEWAY_{name}: is what Kubernetes sets for a Service named {service}, but the other variables of such a "
        "Service are missing: set a port number, or enableServiceLinks: false in the pod"
    )


def test_all_problems_are_reported_in_one_message() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(
            {"GATEWAY_PING_INTERVAL_SECONDS": "x", "GATEWAY_PRT": "1", "GATEWAY_JWT_SECRET": "short"}
        )

    assert str(raised.value) == (
        "4 problems with the settings (docs/reference/configuration.md lists them all):\n"
        "  GATEWAY_PRT: unknown setting; did you mean GATEWAY_PORT?\n"
        "  GATEWAY_PING_INTERVAL_SECONDS: 'x' is not a duration such as 25, 0.5, 25s or 2m\n"
        "  GATEWAY_INGEST_KEYS: is missing: without a key no backend can push; set it to id:secret,id:secret\n"
        "  GATEWAY_JWT_SECRET: has fewer than 32 bytes; `openssl rand -hex 32` makes a good one"
    )


# files of secrets


@pytest.mark.parametrize(
    ("content", "secret"),
    [("s" * 32, "s" * 32), ("s" * 32 + "\n", "s" * 32), ("s" * 32 + "\r\n", "s" * 32), ("s s" * 16 + "\n", "s s" * 16)],
)  # fmt: skip
def test_secret_file_loses_one_newline(tmp_path: Path, content: str, secret: str) -> None:
    file = tmp_path / "jwt"
    file.write_bytes(content.encode())
    environ = {"GATEWAY_JWT_SECRET_FILE": str(file), "GATEWAY_INGEST_KEYS": COMPLETE["GATEWAY_INGEST_KEYS"]}

    settings = load_settings(environ)

    assert settings.jwt_secret == (secret,)
    assert settings.origins["jwt_secret"] == f"file {file}"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("s" * 32 + "\n\n", "ends with a line break: remove it"),
        ("s" * 32 + "\r\n\r\n", "ends with a line break: remove it"),
        ("s" * 32 + " \n", "ends with a space: remove it"),
        ("\n" + "s" * 32, "begins with a line break: remove it"),
        ("\ufeff" + "s" * 32, "begins with a byte order mark (U+FEFF), which editors do not show: remove it"),
        (" " * 40 + "\n", "consists of white space alone"),
        ("\n", "is empty"),
    ],
)
def test_file_with_more_than_a_secret_and_one_newline_is_rejected(
    tmp_path: Path, content: str, sentence: str
) -> None:
    file = tmp_path / "jwt"
    file.write_bytes(content.encode())
    with pytest.raises(SettingsError) as raised:
        load_settings({**COMPLETE, "GATEWAY_JWT_SECRET": "", "GATEWAY_JWT_SECRET_FILE": str(file)})

    assert raised.value.problems == [f"GATEWAY_JWT_SECRET: {sentence} (in {file})"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_file_in_utf_16_is_rejected(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "jwt"
    file.write_bytes(("s" * 32 + "\r\n").encode(encoding))
    with pytest.raises(SettingsError) as raised:
        load_settings({**COMPLETE, "GATEWAY_JWT_SECRET": "", "GATEWAY_JWT_SECRET_FILE": str(file)})

    expected = {
        "utf-16": f"GATEWAY_JWT_SECRET_FILE: cannot read {file}: it is UTF-16, not UTF-8",
        "utf-16-be": f"GATEWAY_JWT_SECRET: begins with the invisible character U+0000: remove it (in {file})",
    }
    assert raised.value.problems == [expected[encoding]]


def test_secret_that_is_set_twice_is_rejected(tmp_path: Path) -> None:
    assert problems({"GATEWAY_JWT_SECRET_FILE": str(tmp_path / "x")}) == [
        "GATEWAY_JWT_SECRET: is set together with GATEWAY_JWT_SECRET_FILE: remove one of the two"
    ]


def test_unreadable_secret_file_is_the_only_problem_of_its_setting(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff" * 32)
    with pytest.raises(SettingsError) as raised:
        load_settings({"GATEWAY_JWT_SECRET_FILE": str(binary), "GATEWAY_INGEST_KEYS_FILE": "/nowhere"})

    assert raised.value.problems == [
        f"GATEWAY_JWT_SECRET_FILE: cannot read {binary}: it is not UTF-8",
        "GATEWAY_INGEST_KEYS_FILE: cannot read /nowhere: No such file or directory",
    ]


def test_setting_that_is_not_secret_has_no_file() -> None:
    assert problems({"GATEWAY_HOST_FILE": "/etc/hostname"}) == [
        "GATEWAY_HOST_FILE: unknown setting; did you mean GATEWAY_HOST?"
    ]


# YAML


def test_yaml_has_the_same_settings_under_lower_case_names(tmp_path: Path) -> None:
    environ = yaml(
        tmp_path,
        """
        port: 9000
        ping_interval_seconds: 12.5
        jwt_require_exp: false
        jwt_audience: [web, mobile]
        cors_origins: https://a.example,https://b.example
        room_claims: {team: "team:"}
        ingest_port: null
        """,
    )

    settings = load_settings(COMPLETE | environ)

    assert (settings.port, settings.ping_interval_seconds, settings.jwt_require_exp) == (9000, 12.5, False)
    assert settings.jwt_audience == ("web", "mobile")
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.room_claims == {"team": "team:"}
    assert settings.ingest_port is None
    assert settings.origins["port"] == f"yaml {environ['GATEWAY_CONFIG']}"


def test_environment_has_priority_over_yaml(tmp_path: Path) -> None:
    environ = yaml(tmp_path, "port: 9000\njwt_secret_file: /nowhere\n")

    with pytest.raises(SettingsError) as raised:
        load_settings(COMPLETE | environ)
    assert raised.value.problems == [
        f"GATEWAY_JWT_SECRET_FILE: cannot read /nowhere: No such file or directory (in {environ['GATEWAY_CONFIG']})"
    ]

    settings = load_settings(COMPLETE | yaml(tmp_path, "port: 9000\n") | {"GATEWAY_PORT": "9001"})
    assert (settings.port, settings.origins["port"]) == (9001, "environment")


def test_empty_yaml_file_sets_nothing(tmp_path: Path) -> None:
    assert load_settings(COMPLETE | yaml(tmp_path, "# nothing yet\n")).port == 8080


@pytest.mark.parametrize(
    ("text", "name", "sentence"),
    [
        (
            "prot: 1",
            "PROT",
            "unknown setting; in YAML names are lower case and without prefix: did you mean port?",
        ),
        ("port: true", "PORT", "True is not a plain integer such as 1"),
        ("port: 1.5", "PORT", "1.5 is not a plain integer such as 1"),
        (
            "ping_interval_seconds: .inf",
            "PING_INTERVAL_SECONDS",
            "inf is not a duration such as 25, 0.5, 25s or 2m",
        ),
        (
            "ping_interval_seconds: true",
            "PING_INTERVAL_SECONDS",
            "True is not a duration such as 25, 0.5, 25s or 2m",
        ),
        ("jwt_audience: [1]", "JWT_AUDIENCE", "is not text; in YAML, put it in quotes"),
        ("namespaces: []", "NAMESPACES", "is empty"),
        ("room_claims: [a]", "ROOM_CLAIMS", "is not a mapping from claims to prefixes of rooms"),
    ],
)
def test_problem_in_yaml_names_the_file(tmp_path: Path, text: str, name: str, sentence: str) -> None:
    environ = yaml(tmp_path, text)

    assert problems(environ) == [f"GATEWAY_{name}: {sentence} (in {environ['GATEWAY_CONFIG']})"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- port", "{file} is not a mapping of names to values, such as port: 8080"),
        ("1: 2", "{file} is not a mapping of names to values, such as port: 8080"),
        ("port: 1\nport: 2", "{file} is not YAML at line 2, column 1: the same name twice"),
        ("jwt_secret: 'topsecret", "{file} is not YAML at line 1, column 23: found unexpected end of stream"),
        ("a: !!python/object:os.system topsecret", "{file} is not YAML at line 1, column 4: could not determine a constructor for the tag"),
        ("a: \x01topsecret", "{file} is not YAML"),
    ],
)  # fmt: skip
def test_invalid_yaml_is_rejected_without_quoting_it(tmp_path: Path, text: str, sentence: str) -> None:
    environ = yaml(tmp_path, text)

    (problem,) = problems(environ)

    assert problem == "GATEWAY_CONFIG: " + sentence.format(file=environ["GATEWAY_CONFIG"])
    assert "topsecret" not in problem


def test_missing_yaml_file_is_rejected() -> None:
    assert problems({"GATEWAY_CONFIG": "/nowhere.yaml"}) == [
        "GATEWAY_CONFIG: cannot read /nowhere.yaml: No such file or directory"
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "PORT: 80",
            "GATEWAY_PORT: unknown setting; in YAML names are lower case and without prefix: did you mean port?",
        ),
        ("gateway_port: 80", "did you mean port?"),
        ("GATEWAY_PING_INTERVAL_SECONDS: 9", "did you mean ping_interval_seconds?"),
        ("config: x", "GATEWAY_CONFIG: unknown setting; in YAML names are lower case and without prefix"),
    ],
)
def test_name_in_environment_form_is_rejected_in_yaml_with_its_yaml_form(
    tmp_path: Path, line: str, sentence: str
) -> None:
    assert any(sentence in problem for problem in problems(yaml(tmp_path, line)))
