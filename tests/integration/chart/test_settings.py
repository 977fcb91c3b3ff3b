"""The gateway accepts the settings of the chart, with the meaning of the values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.domain.ingest_keys import ALL_SCOPES, IngestKey, Scope
from gateway.domain.rate_limit import Rate
from gateway.domain.redis_url import parse_redis_url
from gateway.settings import Settings, load_settings
from gateway.settings.model import KNOWN
from tests.integration.chart.pod import MOUNTS, PodFiles
from tests.integration.chart.sets import SETS, gateway, rendered_set
from tools.chart.rendering import CHART, Rendered

# Settings that the chart sets itself or that contain secrets, and the one that each replica generates.
OF_THE_CHART = {
    "port", "ingest_port", "shutdown_delay_seconds", "drain_seconds", "ingest_keys", "jwt_secret", "jwt_public_key",
    "redis_url", "replica_id", "events_file", "webhooks", "webhook_secrets",
}  # fmt: skip


@pytest.fixture(scope="module")
def issuer() -> dict[str, str]:
    """The public key in the existing Secret."""
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    return {"issuer.pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()}


def settings_in_pod(rendered: Rendered, folder: Path, issuer: dict[str, str]) -> Settings:
    """Return the settings that the gateway reads in its pod."""
    container = gateway(rendered)["spec"]["template"]["spec"]["containers"][0]
    files = PodFiles(rendered, folder, existing=issuer)
    return load_settings(files.environment(container))


def test_settings_of_every_value_set_are_valid_and_have_the_ports_of_the_pod(
    rendered: Rendered, tmp_path: Path, issuer: dict[str, str]
) -> None:
    settings = settings_in_pod(rendered, tmp_path, issuer)

    ports = gateway(rendered)["spec"]["template"]["spec"]["containers"][0]["ports"]
    configured = {"client": settings.port, "ingest": settings.ingest_port}
    assert {name: port for name, port in configured.items() if port} == {
        each["name"]: each["containerPort"] for each in ports
    }


def test_settings_have_every_value_of_config(name: str, tmp_path: Path, issuer: dict[str, str]) -> None:
    settings = settings_in_pod(rendered_set(name), tmp_path, issuer)

    for setting, value in SETS[name].get("config", {}).items():
        assert getattr(settings, setting) == KNOWN[setting].parse(value), setting


def test_config_accepts_every_setting_that_the_chart_does_not_set() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    assert set(schema["properties"]["config"]["properties"]) == set(KNOWN) - OF_THE_CHART


def test_full_value_set_has_every_setting() -> None:
    # jwt_jwks_url is rejected beside a public key; sentinel.yaml has it.
    assert set(SETS["all-on"]["config"]) == set(KNOWN) - OF_THE_CHART - {"jwt_jwks_url"}


def test_ingest_keys_have_the_scopes_rates_and_secrets_of_the_values(
    tmp_path: Path, issuer: dict[str, str]
) -> None:
    settings = settings_in_pod(rendered_set("split-ports"), tmp_path, issuer)

    assert settings.ingest_keys == (
        IngestKey(
            "shop",
            ("a-secret-of-this-test-for-pushes-0001", "a-secret-of-this-test-for-pushes-0002"),
            (Scope("emit:user"), Scope("emit:room", "org:*")),
            Rate(100.0, 100),
        ),
        IngestKey("reports", ("a-secret-of-this-test-for-pushes-0003",), ALL_SCOPES, Rate(5.0, 5_000_000)),
    )


def test_webhooks_have_the_settings_and_secrets_of_the_values(tmp_path: Path, issuer: dict[str, str]) -> None:
    settings = settings_in_pod(rendered_set("all-on"), tmp_path, issuer)

    first, second = settings.webhooks
    assert (first.id, first.url) == ("app", "https://app.example.com:8443/gateway")
    assert first.secrets == tuple(SETS["all-on"]["webhooks"][0]["secrets"])
    assert (first.timeout_seconds, first.in_flight) == (2.5, 128)
    assert first.may == (Scope("emit:room", "chat:*"), Scope("join", "match:*"), Scope("disconnect"))
    assert (second.id, second.url) == ("audit", "http://audit.logs.svc:3000/")
    assert second.secrets == tuple(SETS["all-on"]["webhooks"][1]["secrets"])


def test_event_catalogue_of_the_values_is_valid_for_the_gateway(
    tmp_path: Path, issuer: dict[str, str]
) -> None:
    settings = settings_in_pod(rendered_set("all-on"), tmp_path, issuer)

    entry = settings.event_catalogue.namespaces["/"].client_event("order:cancel")
    assert entry is not None
    assert entry.call == "app"


def test_existing_secret_provides_its_configured_entries_and_nothing_else(
    tmp_path: Path, issuer: dict[str, str]
) -> None:
    rendered = rendered_set("existing-secret")
    settings = settings_in_pod(rendered, tmp_path, issuer)

    assert settings.jwt_secret == ()
    assert settings.jwt_public_key == issuer["issuer.pem"].removesuffix("\n")
    assert settings.redis_url == parse_redis_url("redis://redis.data.svc:6379/0")
    assert [(key.id, len(key.secrets)) for key in settings.ingest_keys] == [("shop", 2), ("reports.v2", 1)]
    mounted = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(mounted) == [
        "gateway.yaml",
        "ingest-reports.v2",
        "ingest-shop",
        "jwt-public-key",
        "redis-url",
        "webhook-app",
    ]
    assert rendered.of_kind("Secret") == []


def test_certificates_of_redis_are_at_the_path_in_its_address(tmp_path: Path, issuer: dict[str, str]) -> None:
    settings = settings_in_pod(rendered_set("redis-tls"), tmp_path, issuer)

    url = settings.redis_url
    assert url is not None
    assert url.tls
    assert Path(url.options["ssl_ca_certs"]).is_file()


def test_sentinel_has_its_own_password(tmp_path: Path, issuer: dict[str, str]) -> None:
    settings = settings_in_pod(rendered_set("sentinel"), tmp_path, issuer)

    url = settings.redis_url
    assert url is not None
    assert url.service == "mymaster"
    assert [host for host, _ in url.hosts] == [f"sentinel-{n}.data.svc" for n in range(3)]
    assert url.sentinel_options == {"password": "another-password-of-this-test"}


def test_settings_have_the_address_of_the_bundled_redis(tmp_path: Path, issuer: dict[str, str]) -> None:
    rendered = rendered_set("bundled-redis")
    settings = settings_in_pod(rendered, tmp_path, issuer)

    assert settings.redis_url is not None
    host, port = settings.redis_url.hosts[0]
    assert rendered.one("Service", host)["spec"]["ports"][0]["port"] == port
    assert MOUNTS not in str(settings.redis_url.options)
