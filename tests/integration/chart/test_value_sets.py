"""Every value set makes objects that Kubernetes takes and that fit together."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.integration.chart.sets import SETS, gateway, rendered_set, settings_of
from tools.chart import findings
from tools.chart.rendering import CHART, NAMESPACE, Document, Rendered

# What a release of a single team may install: nothing that reaches beyond its namespace.
KINDS = {
    "ConfigMap", "Deployment", "HTTPRoute", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "Pod",
    "PodDisruptionBudget", "PrometheusRule", "Secret", "Service", "ServiceAccount", "ServiceMonitor",
}  # fmt: skip
ISSUE = [
    "minimal",
    "one-port",
    "split-ports",
    "existing-secret",
    "redis-tls",
    "sentinel",
    "autoscaled",
    "all-on",
]


def pods(rendered: Rendered) -> list[Document]:
    """Every pod there will be, with its labels and its specification."""
    of_deployments = [each["spec"]["template"] for each in rendered.of_kind("Deployment")]
    return of_deployments + rendered.of_kind("Pod")


def labelled(rendered: Rendered, selector: dict[str, str]) -> list[Document]:
    return [each for each in pods(rendered) if selector.items() <= each["metadata"]["labels"].items()]


def port_names(pod: Document) -> set[str]:
    return {port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", [])}


def texts(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for key, each in value.items():
                yield str(key)
                yield from texts(each)
        case list():
            for each in value:
                yield from texts(each)
        case _:
            yield str(value)


def test_the_sets_are_those_that_people_install() -> None:
    assert set(ISSUE) <= set(SETS)


def test_it_passes_the_linter_and_every_schema(name: str) -> None:
    count, wrong = findings.of_value_set(SETS[name])

    assert wrong == []
    assert count >= 7


def test_everything_is_in_the_namespace_of_the_release_and_nothing_is_of_the_cluster(
    rendered: Rendered,
) -> None:
    assert {each["kind"] for each in rendered.documents} <= KINDS
    assert {each["metadata"]["namespace"] for each in rendered.documents} == {NAMESPACE}


def test_no_two_objects_of_a_kind_share_a_name(rendered: Rendered) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered.documents]

    assert len(set(names)) == len(names)


def test_everything_says_what_it_belongs_to(rendered: Rendered, name: str) -> None:
    common = SETS[name].get("commonLabels", {})
    for document in rendered.documents:
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "live"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert common.items() <= labels.items()


def test_services_select_the_pods_that_have_their_ports(rendered: Rendered) -> None:
    for service in rendered.of_kind("Service"):
        chosen = labelled(rendered, service["spec"]["selector"])
        assert len(chosen) == 1, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in port_names(chosen[0])


def test_deployments_and_what_guards_them_select_their_own_pods(rendered: Rendered) -> None:
    selectors = [
        *(
            (each["spec"]["selector"]["matchLabels"], each["metadata"]["name"])
            for each in rendered.of_kind("Deployment")
        ),
        *(
            (each["spec"]["selector"]["matchLabels"], each["metadata"]["name"])
            for each in rendered.of_kind("PodDisruptionBudget")
        ),
        *(
            (each["spec"]["podSelector"]["matchLabels"], each["metadata"]["name"])
            for each in rendered.of_kind("NetworkPolicy")
        ),
    ]
    for selector, owner in selectors:
        expected = rendered.one("Deployment", owner)["spec"]["template"]
        assert labelled(rendered, selector) == [expected]


def test_spreading_counts_the_gateway_s_own_pods(rendered: Rendered) -> None:
    template = gateway(rendered)["spec"]["template"]
    for constraint in template["spec"]["topologySpreadConstraints"]:
        assert labelled(rendered, constraint["labelSelector"]["matchLabels"]) == [template]


@pytest.mark.parametrize("name", [each for each in SETS if rendered_set(each).of_kind("Ingress")])
def test_an_ingress_routes_the_path_of_socketio_to_the_clients_service_and_nothing_else(name: str) -> None:
    rendered, values = rendered_set(name), SETS[name]
    path = values.get("config", {}).get("socketio_path", "/socket.io/").rstrip("/") + "/"
    backend = {"service": {"name": gateway(rendered)["metadata"]["name"], "port": {"name": "client"}}}
    # As a Prefix, some releases of ingress-nginx refuse a path with a dot.
    kind = "ImplementationSpecific"

    assert rendered.one("Ingress")["spec"]["rules"] == [
        {"host": host, "http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]}}
        for host in values["ingress"]["hosts"]
    ]
    client = rendered.one("Service", backend["service"]["name"])
    assert [port["targetPort"] for port in client["spec"]["ports"]] == ["client"]


def test_the_grace_period_is_longer_than_delay_drain_and_the_end(rendered: Rendered) -> None:
    settings = settings_of(rendered)
    pod = gateway(rendered)["spec"]["template"]["spec"]
    leaving = settings["shutdown_delay_seconds"] + settings["drain_seconds"]

    # 15 s is what the gateway may take after its drain (docs/reference/configuration.md, DRAIN_SECONDS).
    assert pod["terminationGracePeriodSeconds"] >= leaving + 15


def test_pods_run_without_rights(rendered: Rendered) -> None:
    for pod in pods(rendered):
        spec = pod["spec"]
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_no_secret_is_anywhere_but_in_the_secret(rendered: Rendered, name: str) -> None:
    values = SETS[name]
    secrets = [
        *values.get("secrets", {}).values(),
        *(s for key in values["ingestKeys"] for s in key.get("secrets", [])),
    ]
    parts = [
        *secrets,
        "a-password-of-this-test",
        *(base64.b64encode(each.encode()).decode() for each in secrets),
    ]
    others = [each for each in rendered.documents if each["kind"] != "Secret"]
    elsewhere = "\n".join(texts(others)) + rendered.notes

    assert [part for part in parts if part in elsewhere] == []


def test_probes_ask_the_port_that_answers_them(rendered: Rendered, name: str) -> None:
    container = gateway(rendered)["spec"]["template"]["spec"]["containers"][0]
    asked = {
        kind: (container[kind]["httpGet"]["path"], container[kind]["httpGet"]["port"])
        for kind in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    port = "ingest" if SETS[name].get("ports", {}).get("split", True) else "client"

    assert asked == {
        "startupProbe": ("/health/live", port),
        "livenessProbe": ("/health/live", port),
        "readinessProbe": ("/health/ready", port),
    }


def test_what_is_mounted_exists_and_changes_in_place(rendered: Rendered) -> None:
    for pod in pods(rendered):
        volumes = {each["name"] for each in pod["spec"].get("volumes", [])}
        mounts = [mount for each in pod["spec"]["containers"] for mount in each.get("volumeMounts", [])]

        assert {mount["name"] for mount in mounts} <= volumes
        # What is mounted as a single file never changes in a running container.
        assert [mount for mount in mounts if "subPath" in mount] == []


def test_the_dashboard_and_the_alerts_are_the_files_of_the_chart_for_this_release_alone() -> None:
    rendered = rendered_set("all-on")
    files = CHART / "files"
    dashboard = rendered.one("ConfigMap", "sio-gateway-of-the-shop-dashboard")

    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["sio-gateway-of-the-shop.json"]) == json.loads(
        (files / "dashboard.json").read_text(encoding="utf-8")
    )
    alerts = (files / "alerts.yaml").read_text(encoding="utf-8")
    own = f'job="sio-gateway-of-the-shop-metrics",namespace="{NAMESPACE}"'
    assert rendered.one("PrometheusRule")["spec"] == yaml.safe_load(alerts.replace('job="sio-gateway"', own))
