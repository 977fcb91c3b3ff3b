"""The event catalogue and the webhooks of the values are in the files that the gateway reads."""

# ruff: noqa: E501  # one case a line

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.chart.pod import PodFiles
from tests.integration.chart.sets import gateway, mounted, settings_of, with_
from tests.support.paths import ROOT
from tools.chart.rendering import Rendered, RenderError, Values, render

CATALOGUE = (ROOT / "examples/nestjs/events.yaml").read_text(encoding="utf-8")
SECRET = "whsec_YS13ZWJob29rLXNlY3JldC1vZi10aGlzLXRlc3QtMDAwMQ=="
OTHER_SECRET = "whsec_YS13ZWJob29rLXNlY3JldC1vZi10aGlzLXRlc3QtMDAwMg=="
WEBHOOK = {"id": "app", "url": "https://app.example.com/gateway", "secrets": [SECRET]}
SECRETS = "/etc/sio-gateway/secrets/"


def config_of(rendered: Rendered) -> dict[str, str]:
    """Return the files of the ConfigMap."""
    data: dict[str, str] = rendered.one("ConfigMap", mounted(rendered)["config"]["configMap"]["name"])["data"]
    return data


def rejection(values: Values) -> str:
    """Return Helm's message for values that it rejects."""
    with pytest.raises(RenderError) as raised:
        render(values)
    return str(raised.value)


def test_text_of_the_catalogue_is_a_file_that_the_settings_name(minimal: Values, tmp_path: Path) -> None:
    rendered = render(with_(minimal, events=CATALOGUE))
    files = PodFiles(rendered, tmp_path)

    path = settings_of(rendered)["events_file"]
    assert files.inside(path).read_text(encoding="utf-8") == CATALOGUE


@pytest.mark.parametrize(
    "text", ["  version: 1\n", "version: 1", "# {{ no template }}\nversion: 1\n\n", "\tx: 1\r\n"]
)
def test_text_of_the_catalogue_is_not_changed(minimal: Values, text: str) -> None:
    assert config_of(render(with_(minimal, events=text)))["events.yaml"] == text


def test_mapping_of_the_catalogue_keeps_its_values(minimal: Values) -> None:
    schema = {"type": "string", "maxLength": 1_000_000, "pattern": "^<a&b>$"}
    catalogue = yaml.safe_load(CATALOGUE) | {"schemas": {"Large": schema}}
    rendered = render(with_(minimal, events=catalogue))

    assert yaml.safe_load(config_of(rendered)["events.yaml"]) == catalogue


@pytest.mark.parametrize("empty", ["", {}, None])
def test_without_a_catalogue_there_is_no_file_and_no_setting(minimal: Values, empty: object) -> None:
    rendered = render(with_(minimal, events=empty))

    assert set(config_of(rendered)) == {"gateway.yaml"}
    assert "events_file" not in settings_of(rendered)
    assert "webhooks" not in settings_of(rendered)


def test_webhooks_are_settings_and_their_secrets_are_files_of_the_secret(
    minimal: Values, tmp_path: Path
) -> None:
    options = {
        "timeout_seconds": 2.5,
        "in_flight": 128,
        "may": ["emit:room:chat:*", "disconnect"],
        "batch": 20,
        "keep_seconds": 604800,
        "partitions": 32,
    }
    webhooks = [
        WEBHOOK | options,
        {
            "id": "audit",
            "url": "http://audit.logs.svc:3000/",
            "secrets": [SECRET, OTHER_SECRET],
            "insecure": False,
        },
    ]
    rendered = render(with_(minimal, webhooks=webhooks))
    files = PodFiles(rendered, tmp_path)

    assert settings_of(rendered)["webhooks"] == [
        {"id": "app", "url": WEBHOOK["url"], "secret_file": f"{SECRETS}webhook-app"} | options,
        {
            "id": "audit",
            "url": "http://audit.logs.svc:3000/",
            "secret_file": f"{SECRETS}webhook-audit",
            "insecure": False,
        },
    ]
    assert files.inside(f"{SECRETS}webhook-app").read_text(encoding="utf-8") == SECRET
    assert files.inside(f"{SECRETS}webhook-audit").read_text(encoding="utf-8") == f"{SECRET}\n{OTHER_SECRET}"
    assert [each for each in rendered.documents if each["kind"] != "Secret" and "whsec_" in str(each)] == []


def test_existing_secret_has_an_entry_for_each_webhook() -> None:
    values: Values = {
        "existingSecret": {"name": "credentials"},
        "ingestKeys": [{"id": "shop"}],
        "webhooks": [{"id": "app", "url": "https://app.example.com/"}],
    }
    rendered = render(values)

    assert {"key": "webhook-app", "path": "webhook-app"} in mounted(rendered)["secrets"]["secret"]["items"]
    assert settings_of(rendered)["webhooks"][0]["secret_file"] == f"{SECRETS}webhook-app"


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"events": "version: 1\n"}, {"config"}),
        ({"webhooks": [WEBHOOK | {"url": "https://other.example.com/"}]}, {"config"}),
        ({"webhooks": [WEBHOOK | {"secrets": [OTHER_SECRET]}]}, {"secret"}),
    ],
)
def test_change_creates_new_objects_and_rolls_the_pods(
    minimal: Values, change: dict[str, Any], changed: set[str]
) -> None:
    before = render(with_(minimal, events=CATALOGUE, webhooks=[WEBHOOK]))
    after = render(with_(minimal, **change))

    sums = [gateway(each)["spec"]["template"]["metadata"]["annotations"] for each in (before, after)]
    assert {
        name for name in ("config", "secret") if sums[0][f"checksum/{name}"] != sums[1][f"checksum/{name}"]
    } == changed
    names = [names_of(each) for each in (before, after)]
    assert {name for name in ("config", "secret") if names[0][name] != names[1][name]} == changed


def names_of(rendered: Rendered) -> dict[str, str]:
    """Return the names of the objects with settings and secrets."""
    volumes = mounted(rendered)
    return {
        "config": volumes["config"]["configMap"]["name"],
        "secret": volumes["secrets"]["secret"]["secretName"],
    }


def test_network_policy_allows_the_webhooks(minimal: Values) -> None:
    peers = [{"ipBlock": {"cidr": "10.2.0.0/16"}}]
    policy = {"enabled": True, "webhookTo": peers, "webhookPorts": [443, 3000]}
    egress = render(with_(minimal, webhooks=[WEBHOOK], networkPolicy=policy)).one("NetworkPolicy")["spec"][
        "egress"
    ]

    assert egress[-1] == {
        "ports": [{"port": 443, "protocol": "TCP"}, {"port": 3000, "protocol": "TCP"}],
        "to": peers,
    }
    without = render(with_(minimal, webhooks=[])).one("NetworkPolicy")["spec"]["egress"]
    assert len(without) == len(egress) - 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"webhooks": [{"id": "a", "url": "https://a.example/"}]}, "webhooks[0].secrets is missing"),
        ({"webhooks": [WEBHOOK, WEBHOOK]}, "webhooks[1].id: two webhooks have the id app."),
        ({"webhooks": [WEBHOOK | {"id": "a:b"}]}, "webhooks[0].id is not 1 to 64 of"),
        ({"webhooks": [WEBHOOK | {"url": "app.example.com"}]}, "webhooks[0].url is not a URL"),
        ({"webhooks": [WEBHOOK | {"url": "https://user:geheim@a.example/"}]}, "webhooks[0].url is not a URL"),
        ({"webhooks": [WEBHOOK | {"url": "https://a.example/#b"}]}, "webhooks[0].url is not a URL"),
        ({"webhooks": [WEBHOOK | {"secrets": ["geheim" * 6]}]}, "webhooks[0].secrets: one is not whsec_ and the base64 of 24 to 64 bytes."),
        ({"webhooks": [WEBHOOK | {"secrets": ["whsec_geheim"]}]}, "webhooks[0].secrets: one is not whsec_"),
        ({"webhooks": [WEBHOOK | {"secrets": [SECRET + "\n"]}]}, "webhooks[0].secrets: one is not whsec_"),
        ({"existingSecret__name": "mine", "secrets": {}, "ingestKeys": [{"id": "shop"}], "webhooks": [WEBHOOK]}, "webhooks[0].secrets is set beside existingSecret.name: put it into that Secret as webhook-app."),
        ({"networkPolicy__enabled": True, "webhooks": [WEBHOOK | {"url": "http://app.svc/x"}]}, "networkPolicy.webhookPorts lacks 80, the port in webhooks[0].url."),
        ({"networkPolicy__enabled": True, "webhooks": [WEBHOOK | {"url": "https://app.svc:3000"}]}, "networkPolicy.webhookPorts lacks 3000, the port in webhooks[0].url."),
    ],
)  # fmt: skip
def test_contradiction_is_rejected_with_a_sentence_that_quotes_no_secret(
    minimal: Values, change: dict[str, Any], sentence: str
) -> None:
    message = rejection(with_(minimal, **change))

    assert sentence in message
    assert "geheim" not in message


@pytest.mark.parametrize(
    ("change", "path", "reason"),
    [
        ({"events": 1}, "/events", "got number, want"),
        ({"webhooks": [{"id": "a"}]}, "/webhooks/0", "missing property 'url'"),
        ({"webhooks": [WEBHOOK | {"secret": "x"}]}, "/webhooks/0", "additional properties 'secret' not allowed"),
        ({"webhooks": [WEBHOOK | {"timeout_seconds": 30}]}, "/webhooks/0/timeout_seconds", "maximum: got 30, want 25"),
        ({"webhooks": [WEBHOOK | {"may": ["admin"]}]}, "/webhooks/0/may/0", "does not match pattern"),
        ({"webhooks": [WEBHOOK | {"ca_file": "ca.crt"}]}, "/webhooks/0/ca_file", "does not match pattern"),
        ({"networkPolicy__webhookPorts": []}, "/networkPolicy/webhookPorts", "minItems: got 0, want 1"),
    ],
)  # fmt: skip
def test_wrong_value_is_rejected_with_its_path(
    minimal: Values, change: dict[str, Any], path: str, reason: str
) -> None:
    message = rejection(with_(minimal, **change))

    lines = [line for line in message.splitlines() if f"at '{path}'" in line]
    assert any(reason in line for line in lines), message
