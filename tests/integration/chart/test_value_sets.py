"""Every value set renders to objects that are valid for Kubernetes and consistent with each other."""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import package

from tests.integration.chart.sets import SETS, gateway, rendered_set, settings_of
from tools.chart import findings
from tools.chart.rendering import CHART, NAMESPACE, Document, Rendered, render

# Kinds that a team may install in its namespace; none of them affects other namespaces.
KINDS = {
    "ConfigMap", "Deployment", "HTTPRoute", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "Pod",
    "PodDisruptionBudget", "PrometheusRule", "Secret", "Service", "ServiceAccount", "ServiceMonitor",
}  # fmt: skip
REQUIRED_SETS = [
    "minimal",
    "one-port",
    "split-ports",
    "existing-secret",
    "redis-tls",
    "sentinel",
    "autoscaled",
    "all-on",
    "production",
]


def pods(rendered: Rendered) -> list[Document]:
    """Return the template of every pod, with its labels and its specification."""
    of_deployments = [each["spec"]["template"] for each in rendered.of_kind("Deployment")]
    return of_deployments + rendered.of_kind("Pod")


def labelled(rendered: Rendered, selector: dict[str, str]) -> list[Document]:
    """Return the pods that a selector selects."""
    return [each for each in pods(rendered) if selector.items() <= each["metadata"]["labels"].items()]


def port_names(pod: Document) -> set[str]:
    """Return the names of all ports of a pod."""
    return {port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", [])}


def texts(value: Any) -> Iterator[str]:
    """Yield every key and every scalar of a document as text."""
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


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archive that a release publishes (RELEASING.md)."""
    return Path(package(CHART, destination=tmp_path_factory.mktemp("archive")))


def test_packaged_chart_has_every_file_and_installs_the_same_objects(archive: Path) -> None:
    with tarfile.open(archive) as files:
        packaged = set(files.getnames())
    ours = {f"{CHART.name}/{path.relative_to(CHART)}" for path in CHART.rglob("*") if path.is_file()}

    assert packaged == ours
    assert render(SETS["all-on"], source=archive) == rendered_set("all-on")


def test_value_sets_cover_the_usual_installations() -> None:
    assert set(REQUIRED_SETS) <= set(SETS)


def test_value_set_passes_the_linter_and_every_schema(name: str) -> None:
    count, found = findings.check_value_set(SETS[name])

    assert found == []
    assert count >= 7


def test_objects_are_in_the_namespace_of_the_release_and_none_is_cluster_wide(
    rendered: Rendered,
) -> None:
    assert {each["kind"] for each in rendered.documents} <= KINDS
    assert {each["metadata"]["namespace"] for each in rendered.documents} == {NAMESPACE}


def test_names_of_objects_of_one_kind_are_unique(rendered: Rendered) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered.documents]

    assert len(set(names)) == len(names)


def test_objects_have_the_labels_of_their_release(rendered: Rendered, name: str) -> None:
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


def test_deployments_budgets_and_policies_select_their_own_pods(rendered: Rendered) -> None:
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


def test_topology_spread_counts_the_pods_of_the_gateway(rendered: Rendered) -> None:
    template = gateway(rendered)["spec"]["template"]
    for constraint in template["spec"]["topologySpreadConstraints"]:
        assert labelled(rendered, constraint["labelSelector"]["matchLabels"]) == [template]


@pytest.mark.parametrize("name", [each for each in SETS if rendered_set(each).of_kind("Ingress")])
def test_ingress_routes_the_socketio_path_to_the_client_service_and_nothing_else(name: str) -> None:
    rendered, values = rendered_set(name), SETS[name]
    path = values.get("config", {}).get("socketio_path", "/socket.io/").rstrip("/")
    backend = {"service": {"name": gateway(rendered)["metadata"]["name"], "port": {"name": "client"}}}
    # Some releases of ingress-nginx reject a Prefix with a dot.
    kind = "ImplementationSpecific"

    assert rendered.one("Ingress")["spec"]["rules"] == [
        {"host": host, "http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]}}
        for host in values["ingress"]["hosts"]
    ]
    client = rendered.one("Service", backend["service"]["name"])
    assert [port["targetPort"] for port in client["spec"]["ports"]] == ["client"]


def test_grace_period_is_long_enough_for_delay_drain_and_stop(rendered: Rendered) -> None:
    settings = settings_of(rendered)
    pod = gateway(rendered)["spec"]["template"]["spec"]
    draining = settings["shutdown_delay_seconds"] + settings["drain_seconds"]

    # The gateway takes at most 15 s after its drain (docs/reference/configuration.md, DRAIN_SECONDS).
    assert pod["terminationGracePeriodSeconds"] >= draining + 15


def test_pods_run_without_privileges(rendered: Rendered) -> None:
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


def test_secrets_are_in_the_secret_and_in_no_other_object(rendered: Rendered, name: str) -> None:
    values = SETS[name]
    secrets = [
        *values.get("secrets", {}).values(),
        *(s for key in values["ingestKeys"] for s in key.get("secrets", [])),
        *(s for webhook in values.get("webhooks", []) for s in webhook.get("secrets", [])),
    ]
    parts = [
        *secrets,
        "a-password-of-this-test",
        *(base64.b64encode(each.encode()).decode() for each in secrets),
    ]
    others = [each for each in rendered.documents if each["kind"] != "Secret"]
    elsewhere = "\n".join(texts(others)) + rendered.notes

    assert [part for part in parts if part in elsewhere] == []


def test_probes_use_the_port_that_answers_them(rendered: Rendered, name: str) -> None:
    container = gateway(rendered)["spec"]["template"]["spec"]["containers"][0]
    probes = {
        kind: (container[kind]["httpGet"]["path"], container[kind]["httpGet"]["port"])
        for kind in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    port = "ingest" if SETS[name].get("ports", {}).get("split", True) else "client"

    assert probes == {
        "startupProbe": ("/health/live", port),
        "livenessProbe": ("/health/live", port),
        "readinessProbe": ("/health/ready", port),
    }


def test_mounted_volumes_exist_and_change_in_place(rendered: Rendered) -> None:
    for pod in pods(rendered):
        volumes = {each["name"] for each in pod["spec"].get("volumes", [])}
        mounts = [mount for each in pod["spec"]["containers"] for mount in each.get("volumeMounts", [])]

        assert {mount["name"] for mount in mounts} <= volumes
        # A file that is mounted by itself is never updated in a running container.
        assert [mount for mount in mounts if "subPath" in mount] == []


def test_dashboard_and_alerts_are_the_files_of_the_chart_for_this_release_alone() -> None:
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
