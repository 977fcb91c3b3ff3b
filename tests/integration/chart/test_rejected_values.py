"""Wrong values are rejected before anything is installed, with their path, and without quoting a secret."""

# ruff: noqa: E501  # one case a line

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.integration.chart.sets import NAMES_OF_OTHERS, gateway, with_
from tools.chart.rendering import CHART, RenderError, Values, render

SHORT = "geheim"
DEFAULTS: Values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
REQUIRED: list[str] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))["required"]


def rejection(values: Values) -> str:
    """Return Helm's message for values that it rejects."""
    with pytest.raises(RenderError) as raised:
        render(values)
    return str(raised.value)


@pytest.mark.parametrize(
    ("change", "path", "reason"),
    [
        ({"replicaCount": "two"}, "/replicaCount", "got string, want integer"),
        ({"replikas": 2}, "", "additional properties 'replikas' not allowed"),
        ({"image__tagg": "x"}, "/image", "additional properties 'tagg' not allowed"),
        ({"image__digest": "sha256:12"}, "/image/digest", "does not match pattern"),
        ({"image__pullPolicy": "Sometimes"}, "/image/pullPolicy", "value must be one of"),
        ({"config__ping_intervall": 25}, "/config", "additional properties 'ping_intervall' not allowed"),
        ({"config__port": 80}, "/config", "additional properties 'port' not allowed"),
        ({"config__ping_interval_seconds": 0}, "/config/ping_interval_seconds", "exclusiveMinimum: got 0, want 0"),
        ({"config__max_connections": 1.5}, "/config/max_connections", "got number, want integer"),
        ({"config__cors_origins": ["https://app.example.com/x"]}, "/config/cors_origins/0", "does not match pattern"),
        ({"config__transports": []}, "/config/transports", "minItems: got 0, want 1"),
        ({"config__jwt_algorithms": ["none"]}, "/config/jwt_algorithms/0", "value must be one of"),
        ({"config__issuers": [{"issuer": "a", "secret": SHORT}]}, "/config/issuers/0", "additional properties 'secret' not allowed"),
        ({"config__socketio_path": "socket.io"}, "/config/socketio_path", "does not match pattern"),
        ({"config__host": "127.0.0.1"}, "/config/host", "value must be one of"),
        ({"config__namespaces": ["/a,b"]}, "/config/namespaces/0", "does not match pattern"),
        ({"podLabels": {"app.kubernetes.io/instance": "x"}}, "/podLabels/app.kubernetes.io~1instance", "false schema"),
        ({"commonLabels": {"app.kubernetes.io/component": "x"}}, "/commonLabels/app.kubernetes.io~1component", "false schema"),
        ({"commonLabels": {"a b": "x"}}, "/commonLabels", "additional properties 'a b' not allowed"),
        ({"config__log_level": "loud"}, "/config/log_level", "value must be one of"),
        ({"secrets__jwtSecret": SHORT}, "/secrets/jwtSecret", "minLength: got 6, want 32"),
        ({"ingestKeys": [{"id": "a", "secrets": [SHORT]}]}, "/ingestKeys/0/secrets/0", "minLength: got 6, want 32"),
        ({"ingestKeys": [{"id": "a", "scopes": ["emit"]}]}, "/ingestKeys/0/scopes/0", "does not match pattern"),
        ({"ingestKeys": [{"id": "a", "rate": {"per_second": 1}}]}, "/ingestKeys/0/rate", "missing property 'burst'"),
        ({"ports__client": 80}, "/ports/client", "minimum: got 80, want 1,024"),
        ({"drain__seconds": -1}, "/drain/seconds", "minimum: got -1, want 0"),
        ({"drain__seconds": 0.5}, "/drain/seconds", "got number, want integer"),
        ({"clientService__type": "ExternalName"}, "/clientService/type", "value must be one of"),
        ({"ingress__enabled": True}, "/ingress/hosts", "minItems: got 0, want 1"),
        ({"ingress__hosts": ["https://push.example.com"]}, "/ingress/hosts/0", "does not match pattern"),
        ({"httpRoute__enabled": True}, "/httpRoute/parentRefs", "minItems: got 0, want 1"),
        ({"networkPolicy__redisTo": [{"cidr": "10.0.0.0/8"}]}, "/networkPolicy/redisTo/0", "additional properties 'cidr' not allowed"),
        ({"serviceMonitor__interval": 30}, "/serviceMonitor/interval", "got number, want string"),
        ({"resources__limits": {"memory": "1 GB"}}, "/resources/limits/memory", "does not match pattern"),
        ({"podLabels": {"a": True}}, "/podLabels/a", "got boolean, want string"),
    ],
)  # fmt: skip
def test_wrong_value_is_rejected_with_its_path(
    minimal: Values, change: dict[str, Any], path: str, reason: str
) -> None:
    message = rejection(with_(minimal, **change))

    lines = [line for line in message.splitlines() if f"at '{path}'" in line]
    assert any(reason in line for line in lines), message


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"secrets": {}}, "No key to verify tokens with"),
        ({"ingestKeys": []}, "No backend can push"),
        ({"ingestKeys": [{"id": "shop"}]}, "ingestKeys[0].secrets is missing"),
        ({"ingestKeys": [{"id": "a:b"}]}, "ingestKeys[0].id is not 1 to 64 of"),
        ({"existingSecret__name": "a/b"}, "existingSecret.name is not a valid name of a Secret."),
        ({"config__jwt_jwks_url": "login.example.com/keys"}, "config.jwt_jwks_url is not a URL"),
        ({"clientService__nodePort": 30080}, "clientService.nodePort requires another clientService.type than ClusterIP."),
        ({"ingestKeys": [{"id": "a", "secrets": ["x" * 32]}, {"id": "a", "secrets": ["y" * 32]}]}, "ingestKeys[1].id: two keys have the id a."),
        ({"ingestKeys": [{"id": "a", "secrets": ["x" * 32 + "\n"]}]}, "ingestKeys[0].secrets: one begins or ends with white space, or contains a line break."),
        ({"replicaCount": 2}, "replicaCount is 2, and without Redis a second replica would not know the clients of the first one"),
        ({"autoscaling__enabled": True}, "autoscaling.enabled requires a Redis"),
        ({"existingSecret__name": "mine"}, "ingestKeys[0].secrets is set beside existingSecret.name"),
        ({"existingSecret__name": "mine", "ingestKeys": [{"id": "shop"}]}, "secrets.jwtSecret is set beside existingSecret.name"),
        ({"secrets__redisUrl": "http://user:geheim@redis:6379"}, "secrets.redisUrl is not an address of Redis"),
        ({"secrets__jwtPublicKey": "-----BEGIN PRIVATE KEY-----geheim"}, "secrets.jwtPublicKey is not a public key in PEM"),
        ({"secrets__jwtPublicKey": "-----BEGIN PUBLIC KEY-----", "config__jwt_jwks_url": "https://a.example/keys"}, "config.jwt_jwks_url is set beside a public key"),
        ({"redis__bundled__enabled": True, "secrets__redisUrl": "redis://r:6379"}, "redis.bundled.enabled and secrets.redisUrl name two Redis"),
        ({"ports__ingest": 8080}, "ports.client and ports.ingest are the same"),
        ({"config__max_body_bytes": 10485760}, "config.send_buffer_bytes must be at least twice config.max_body_bytes, which is 10485760."),
        ({"config__send_buffer_bytes": 2048}, "config.send_buffer_bytes must be at least twice config.max_body_bytes, which is 1048576."),
        ({"config__history_bytes": 1024}, "config.history_bytes must be at least config.max_body_bytes, which is 1048576."),
        ({"config": {"max_body_bytes": 33554432, "send_buffer_bytes": 67108864}, "secrets__redisUrl": "redis://r"}, "config.max_body_bytes must be at most 16777216"),
        ({"config__jwt_algorithms": ["RS256"]}, "config.jwt_algorithms: RS256 needs secrets.jwtPublicKey or config.jwt_jwks_url."),
        ({"config": {"jwt_algorithms": ["HS512"], "jwt_jwks_url": "https://a.example/keys"}, "secrets": {}}, "config.jwt_algorithms: HS512 needs secrets.jwtSecret."),
        ({"config__cors_origins": ["*", "https://a.example"]}, "config.cors_origins: * allows every origin already"),
        ({"config__socketio_path": "/emit"}, "config.socketio_path: /emit is reserved for another part of the gateway."),
        ({"ports__split": False, "config__socketio_path": "/health/socket.io/"}, "config.socketio_path: /health is reserved"),
        ({"ingestKeys": [{"id": "a", "secrets": ["x" * 32]}, {"id": "b", "secrets": ["x" * 32]}]}, "ingestKeys[1].secrets: it has a secret of a"),
        ({"extraEnv": [{"name": "GATEWAY_DRAIN_SECONDS", "value": "300"}]}, "extraEnv: GATEWAY_DRAIN_SECONDS is set by the chart"),
        ({"secrets__redisUrl": "redis://r:99999/0"}, "secrets.redisUrl has an invalid port."),
        ({"networkPolicy__enabled": True, "secrets__redisUrl": "redis://:p:1@r:6380/0"}, "networkPolicy.redisPorts lacks 6380"),
        ({"networkPolicy__enabled": True, "secrets__redisUrl": "redis+sentinel://a,b:26380/name"}, "networkPolicy.redisPorts lacks 26379"),
        ({"networkPolicy__enabled": True, "config__jwt_jwks_url": "http://a.example/keys"}, "networkPolicy.jwksPort is 443, and config.jwt_jwks_url is at port 80."),
        ({"networkPolicy__enabled": True, "config__issuers": [{"issuer": "a", "secret_file": "/a"}, {"issuer": "b", "jwks_url": "http://b.example/keys"}]}, "networkPolicy.jwksPort is 443, and config.issuers[1].jwks_url is at port 80."),
    ],
)  # fmt: skip
def test_contradicting_values_are_rejected_with_a_sentence(
    minimal: Values, change: dict[str, Any], sentence: str
) -> None:
    assert sentence in rejection(with_(minimal, **change))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}, "autoscaling.minReplicas is more than autoscaling.maxReplicas."),
        ({"autoscaling": {"enabled": True}, "resources__requests": {"cpu": None}}, "autoscaling.targetCPUPercent is a share of resources.requests.cpu, which is missing."),
        ({"autoscaling": {"enabled": True, "targetCPUPercent": None}}, "requires autoscaling.targetCPUPercent or autoscaling.targetConnections"),
    ],
)  # fmt: skip
def test_contradicting_autoscaling_is_rejected(shared: Values, change: dict[str, Any], sentence: str) -> None:
    assert sentence in rejection(with_(shared, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"secrets__jwtSecret": SHORT},
        {"secrets__redisUrl": f"htp://:{SHORT}@redis"},
        {"secrets__jwtPublicKey": SHORT},
        {"ingestKeys": [{"id": f"shop:{SHORT}"}]},
        {"existingSecret__name": f"redis://:{SHORT}@redis"},
        {"existingSecret__keys__redisUrl": f"redis://:{SHORT}@redis"},
        {"config__jwt_jwks_url": f"https://user:{SHORT}@login.example.com/keys"},
        {"secrets__redisUrl": f"redis://:{SHORT}@redis:99999"},
        {"networkPolicy__enabled": True, "secrets__redisUrl": f"redis://:{SHORT}@redis:6380"},
        {"ingestKeys": [{"id": "a", "secrets": [SHORT * 6]}, {"id": "b", "secrets": [SHORT * 6]}]},
        {"ingestKeys": [{"id": "a", "secrets": [SHORT]}]},
        {"ingestKeys": [{"id": "a", "secrets": [SHORT * 6 + " "]}]},
        {"ingestKeys": [{"id": "a", "secrets": [SHORT * 6, SHORT * 6]}]},
    ],
)
def test_rejection_quotes_no_secret(minimal: Values, change: dict[str, Any]) -> None:
    assert SHORT not in rejection(with_(minimal, **change))


def test_release_name_that_begins_with_a_digit_requires_a_fullname_override(minimal: Values) -> None:
    with pytest.raises(RenderError, match="set fullnameOverride"):
        render(minimal, release="2nd")

    assert render(with_(minimal, fullnameOverride="second"), release="2nd").documents


def test_subchart_accepts_the_globals_of_its_parent(minimal: Values) -> None:
    assert render(with_(minimal, **{"global": {"anything": [1]}})).documents


@pytest.mark.parametrize(("path", "sentence"), NAMES_OF_OTHERS.items())
def test_name_of_another_chart_is_rejected_with_ours(minimal: Values, path: str, sentence: str) -> None:
    message = rejection(with_(minimal, **{path.replace(".", "__"): "x"}))

    assert f"{path} is not a value of this chart: {sentence}." in message


SECTIONS = [path for path, each in DEFAULTS.items() if isinstance(each, dict) and path in REQUIRED]


def test_each_section_that_templates_read_is_required() -> None:
    # Only these are read as a whole, or may be absent.
    free = {
        "global",
        "commonLabels",
        "resources",
        "podSecurityContext",
        "securityContext",
        "deploymentAnnotations",
    }
    free |= {"podLabels", "podAnnotations", "nodeSelector", "affinity"}
    assert set(SECTIONS) == {path for path, each in DEFAULTS.items() if isinstance(each, dict)} - free


@pytest.mark.parametrize("section", SECTIONS)
def test_section_without_content_is_rejected_with_its_name(minimal: Values, section: str) -> None:
    # `redis:` with nothing below it is null, which removes the defaults.
    assert f"missing property '{section}'" in rejection(with_(minimal, **{section: None}))


def test_name_in_the_place_of_the_section_of_a_secret_is_rejected_with_ours(minimal: Values) -> None:
    message = rejection(with_(minimal, existingSecret="gateway-credentials"))

    assert "existingSecret is not a name: the name of your Secret is existingSecret.name." in message


@pytest.mark.parametrize("pull_secrets", [["regcred"], [{"name": "regcred"}]])
def test_pull_secrets_are_names_or_mappings(minimal: Values, pull_secrets: list[Any]) -> None:
    rendered = render(with_(minimal, imagePullSecrets=pull_secrets))

    assert gateway(rendered)["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "regcred"}]


def test_path_of_an_ingress_host_is_rejected(minimal: Values) -> None:
    hosts = [{"host": "push.example.com", "paths": [{"path": "/", "pathType": "Prefix"}]}]

    message = rejection(with_(minimal, ingress={"enabled": True, "hosts": hosts}))

    assert "ingress.hosts[0] has more than host: the path follows from config.socketio_path." in message
