"""Objects that several values determine: times, rollouts, affinity, network policies, monitoring, the bundled Redis."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.integration.chart.sets import SETS, gateway, mounted, rendered_set, settings_of, with_
from tools.chart.rendering import Rendered, Values, render

NGINX = "nginx.ingress.kubernetes.io/"
TRAEFIK = "traefik.ingress.kubernetes.io/service.sticky.cookie"


def pod_annotations(rendered: Rendered) -> dict[str, str]:
    """Return the annotations of the gateway's pods."""
    found: dict[str, str] = gateway(rendered)["spec"]["template"]["metadata"]["annotations"]
    return found


# Stopping and rolling out.


def test_drain_values_set_every_time_of_stopping(shared: Values) -> None:
    shared["drain"] = {"shutdownDelaySeconds": 7, "seconds": 90}
    shared["autoscaling"] = {"enabled": True}
    rendered = render(shared)
    deployment = gateway(rendered)["spec"]

    assert {name: settings_of(rendered)[name] for name in ("shutdown_delay_seconds", "drain_seconds")} == {
        "shutdown_delay_seconds": 7,
        "drain_seconds": 90,
    }
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] == 7 + 90 + 20
    assert deployment["minReadySeconds"] == 7 + 90
    assert deployment["progressDeadlineSeconds"] > deployment["minReadySeconds"]
    assert rendered.one("HorizontalPodAutoscaler")["spec"]["behavior"]["scaleDown"]["policies"] == [
        {"type": "Pods", "value": 1, "periodSeconds": 7 + 90}
    ]


def test_replicas_with_a_redis_are_replaced_one_at_a_time_without_a_missing_one(shared: Values) -> None:
    assert gateway(render(shared))["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }


def test_replica_with_state_in_memory_stops_before_the_next_one_starts(minimal: Values) -> None:
    assert gateway(render(minimal))["spec"]["strategy"] == {"type": "Recreate"}


def test_autoscaler_alone_sets_the_number_of_replicas(shared: Values) -> None:
    shared["autoscaling"] = {"enabled": True, "targetCPUPercent": 60, "targetConnections": 1_500_000}
    rendered = render(shared)

    assert "replicas" not in gateway(rendered)["spec"]
    scaler = rendered.one("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == gateway(rendered)["metadata"]["name"]
    assert scaler["metrics"] == [
        {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
        },
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "sio_gateway_connections"},
                "target": {"type": "AverageValue", "averageValue": "1500000"},
            },
        },
    ]


# Changes that replace pods.


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"config__ping_interval_seconds": 20}, {"checksum/config"}),
        ({"drain__seconds": 31}, {"checksum/config"}),
        ({"ingestKeys": [{"id": "shop", "secrets": ["another-secret-of-this-test-00000001"]}]}, {"checksum/secret"}),
        ({"secrets__jwtSecret": "another-secret-of-this-test-00000001"}, {"checksum/secret"}),
        ({"ingress": {"enabled": True, "hosts": ["push.example.com"]}}, set()),
        ({"commonLabels": {"team": "platform"}}, set()),
        ({"replicaCount": 0}, set()),
    ],
)  # fmt: skip
def test_checksum_changes_with_its_content_alone(
    minimal: Values, change: dict[str, Any], changed: set[str]
) -> None:
    before = pod_annotations(render(minimal))
    after = pod_annotations(render(with_(minimal, **change)))

    assert {name for name in before if before[name] != after[name]} == changed


@pytest.mark.parametrize(
    ("change", "renamed"),
    [
        ({"config__ping_interval_seconds": 20}, {"config"}),
        ({"secrets__jwtSecret": "another-secret-of-this-test-00000001"}, {"secrets"}),
        ({"ingress": {"enabled": True, "hosts": ["push.example.com"]}}, set()),
        ({"commonLabels": {"team": "platform"}}, set()),
    ],
)  # fmt: skip
def test_settings_and_secrets_of_running_pods_are_never_replaced(
    minimal: Values, change: dict[str, Any], renamed: set[str]
) -> None:
    before = content_names(render(minimal))
    after = content_names(render(with_(minimal, **change)))

    assert {name for name in before if before[name] != after[name]} == renamed


def content_names(rendered: Rendered) -> dict[str, str]:
    """Return the names of the objects that a pod mounts, each of which must be immutable."""
    volumes = mounted(rendered)
    config = volumes["config"]["configMap"]["name"]
    secrets = volumes["secrets"]["secret"]["secretName"]
    assert rendered.one("ConfigMap", config)["immutable"] is True
    assert rendered.one("Secret", secrets)["immutable"] is True
    return {"config": config, "secrets": secrets}


def test_existing_secret_has_no_checksum_because_helm_does_not_know_it() -> None:
    assert set(pod_annotations(rendered_set("existing-secret"))) == {"checksum/config"}


# Ingress, HTTPRoute and Services.


def test_ingress_nginx_routes_a_client_to_one_replica_by_a_cookie() -> None:
    assert rendered_set("split-ports").one("Ingress")["metadata"]["annotations"] == {
        NGINX + "affinity": "cookie",
        NGINX + "affinity-mode": "persistent",
        NGINX + "session-cookie-name": "sio_gateway_replica",
        NGINX + "session-cookie-path": "/socket.io",
        NGINX + "session-cookie-samesite": "Lax",
        NGINX + "session-cookie-secure": "true",
        NGINX + "session-cookie-change-on-failure": "true",
        NGINX + "proxy-next-upstream": "error timeout http_503",
        NGINX + "proxy-read-timeout": "75",
        NGINX + "proxy-send-timeout": "75",
    }


def test_traefik_routes_a_client_to_one_replica_by_the_same_cookie() -> None:
    rendered = rendered_set("split-ports")
    service = rendered.one("Service", gateway(rendered)["metadata"]["name"])

    assert service["metadata"]["annotations"] == {
        TRAEFIK: "true",
        TRAEFIK + ".name": "sio_gateway_replica",
        TRAEFIK + ".httponly": "true",
        TRAEFIK + ".samesite": "lax",
        TRAEFIK + ".secure": "true",
    }


def test_websocket_alone_needs_no_affinity() -> None:
    rendered = rendered_set("websocket-only")

    assert set(rendered.one("Ingress")["metadata"]["annotations"]) == {
        NGINX + "proxy-read-timeout",
        NGINX + "proxy-send-timeout",
    }
    assert "annotations" not in rendered.one("Service", gateway(rendered)["metadata"]["name"])["metadata"]
    assert "sessionPersistence" not in rendered.one("HTTPRoute")["spec"]["rules"][0]


@pytest.mark.parametrize(
    ("interval", "timeout", "seconds"), [(25, 20, "75"), (20, 10.5, "61"), (300, 60, "390")]
)
def test_proxy_timeouts_are_longer_than_a_healthy_client_is_silent(
    minimal: Values, interval: float, timeout: float, seconds: str
) -> None:
    change = {
        "config": {"ping_interval_seconds": interval, "ping_timeout_seconds": timeout},
        "ingress": {"enabled": True, "hosts": ["a.example"]},
    }
    annotations = render(with_(minimal, **change)).one("Ingress")["metadata"]["annotations"]

    assert annotations[NGINX + "proxy-read-timeout"] == seconds
    assert float(seconds) > interval + timeout


def test_annotations_of_the_values_override_those_of_the_chart() -> None:
    annotations = rendered_set("all-on").one("Ingress")["metadata"]["annotations"]

    assert annotations[NGINX + "proxy-read-timeout"] == "3600"
    assert annotations["cert-manager.io/cluster-issuer"] == "public"
    assert annotations[NGINX + "session-cookie-name"] == "shop_replica"


@pytest.mark.parametrize(
    ("kind", "protocol"), [("ClusterIP", "http"), ("LoadBalancer", None), ("NodePort", None)]
)
def test_load_balancer_gets_no_protocol_from_which_it_would_derive_a_probe(
    minimal: Values, kind: str, protocol: str | None
) -> None:
    rendered = render(with_(minimal, clientService__type=kind))
    (port,) = rendered.one("Service", gateway(rendered)["metadata"]["name"])["spec"]["ports"]

    assert port.get("appProtocol") == protocol


def test_httproute_routes_the_socketio_path_and_nothing_else() -> None:
    assert rendered_set("all-on").one("HTTPRoute")["spec"] == {
        "parentRefs": [{"name": "public", "namespace": "gateways"}],
        "hostnames": ["push.example.com"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/realtime/socket.io/"}}],
                "timeouts": {"request": "0s"},
                "sessionPersistence": {"type": "Cookie", "sessionName": "shop_replica"},
                "backendRefs": [{"name": "sio-gateway-of-the-shop", "port": 8443}],
            }
        ],
    }


def test_ingest_service_is_never_reachable_from_outside_the_cluster(rendered: Rendered) -> None:
    name = gateway(rendered)["metadata"]["name"] + "-ingest"
    routes = rendered.of_kind("Ingress") + rendered.of_kind("HTTPRoute")

    assert rendered.one("Service", name)["spec"]["type"] == "ClusterIP"
    assert [route for route in routes if name in str(route["spec"])] == []


# Network policies.


def test_network_policy_allows_the_peers_of_the_values_and_no_other() -> None:
    policy = rendered_set("all-on").one("NetworkPolicy")["spec"]
    namespace = "kubernetes.io/metadata.name"
    test_pod = {
        "podSelector": {
            "matchLabels": {
                "app.kubernetes.io/name": "push",
                "app.kubernetes.io/instance": "live",
                "app.kubernetes.io/component": "test",
            }
        }
    }

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [
        {
            "ports": [{"port": "client", "protocol": "TCP"}],
            "from": [{"namespaceSelector": {"matchLabels": {namespace: "ingress"}}}, test_pod],
        },
        {
            "ports": [{"port": "ingest", "protocol": "TCP"}],
            "from": [
                {
                    "namespaceSelector": {"matchLabels": {namespace: "shop"}},
                    "podSelector": {"matchLabels": {"pushes": "yes"}},
                },
                {"namespaceSelector": {"matchLabels": {namespace: "monitoring"}}},
                test_pod,
            ],
        },
    ]
    assert policy["egress"] == [
        {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
        {"ports": [{"port": 6380, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.1.2.0/24"}}]},
        {"ports": [{"port": 443, "protocol": "TCP"}]},
        {
            "ports": [{"port": 8443, "protocol": "TCP"}, {"port": 3000, "protocol": "TCP"}],
            "to": [{"ipBlock": {"cidr": "10.1.4.0/24"}}],
        },
        {"to": [{"ipBlock": {"cidr": "10.1.3.4/32"}}], "ports": [{"port": 4318, "protocol": "TCP"}]},
    ]


def test_network_policy_allows_the_key_set_of_the_issuer_if_it_is_used() -> None:
    egress = rendered_set("sentinel").one("NetworkPolicy")["spec"]["egress"]

    assert {
        "ports": [{"port": 443, "protocol": "TCP"}],
        "to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}],
    } in egress
    assert {"ports": [{"port": 6379, "protocol": "TCP"}, {"port": 26379, "protocol": "TCP"}]} in egress


def test_network_policy_allows_the_test_pod() -> None:
    rendered = rendered_set("all-on")
    selector = rendered.one("NetworkPolicy")["spec"]["ingress"][0]["from"][-1]["podSelector"]["matchLabels"]

    assert selector.items() <= rendered.one("Pod")["metadata"]["labels"].items()


# Monitoring.


def test_service_monitor_selects_the_metrics_service() -> None:
    rendered = rendered_set("all-on")
    monitor = rendered.one("ServiceMonitor")
    services = [
        each
        for each in rendered.of_kind("Service")
        if monitor["spec"]["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]

    assert [each["metadata"]["name"] for each in services] == ["sio-gateway-of-the-shop-metrics"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    # The schema of the operator accepts a misspelled field, so each field is compared.
    assert monitor["spec"] == {
        "selector": monitor["spec"]["selector"],
        "namespaceSelector": {"matchNames": ["push"]},
        "endpoints": [
            {
                "port": services[0]["spec"]["ports"][0]["name"],
                "path": "/metrics",
                "interval": "15s",
                "scrapeTimeout": "10s",
                "relabelings": SETS["all-on"]["serviceMonitor"]["relabelings"],
                "metricRelabelings": SETS["all-on"]["serviceMonitor"]["metricRelabelings"],
            }
        ],
    }


def test_metrics_service_has_replicas_that_are_not_ready_and_ingest_service_does_not(
    rendered: Rendered,
) -> None:
    name = gateway(rendered)["metadata"]["name"]
    metrics = rendered.one("Service", f"{name}-metrics")["spec"]
    ingest = rendered.one("Service", f"{name}-ingest")["spec"]

    assert (metrics["clusterIP"], metrics["publishNotReadyAddresses"]) == ("None", True)
    assert metrics["selector"] == ingest["selector"]
    (port,) = metrics["ports"]
    assert port["targetPort"] == ingest["ports"][0]["targetPort"]
    # A headless Service leads to the ports of the pods themselves, so its port must equal theirs.
    container = gateway(rendered)["spec"]["template"]["spec"]["containers"][0]
    assert {each["name"]: each["containerPort"] for each in container["ports"]}[port["targetPort"]] == port[
        "port"
    ]
    # Backends are never routed to a replica that is not ready.
    assert "publishNotReadyAddresses" not in ingest


# Names and additions of the operator.


@pytest.mark.parametrize("release", ["live", "x" * 53, "sio-gateway", "shop.push.v2"])
def test_every_name_is_valid_in_kubernetes(shared: Values, release: str) -> None:
    everything = with_(shared, dashboard__enabled=True, secrets__redisUrl="", redis__bundled__enabled=True)
    rendered = render(everything, release=release)

    names = [each["metadata"]["name"] for each in rendered.documents]
    assert [name for name in names if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)] == []
    assert render(everything, release="sio-gateway").one("Service", "sio-gateway-ingest")


@pytest.mark.parametrize("name", ["on", "null", "no"])
def test_name_that_yaml_would_read_as_another_type_stays_a_string(shared: Values, name: str) -> None:
    everything = with_(
        shared,
        nameOverride=name,
        priorityClassName="123",
        redis__tls__secretName="123",
        serviceAccount__name="123",
        ingress={"enabled": True, "hosts": ["a.example"], "className": "123"},
    )
    rendered = render(everything, release=name, namespace="123")
    pod = gateway(rendered)["spec"]["template"]["spec"]

    assert {each["metadata"]["namespace"] for each in rendered.documents} == {"123"}
    assert {each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in rendered.documents} == {name}
    assert {each["metadata"]["labels"]["app.kubernetes.io/name"] for each in rendered.documents} == {name}
    assert (pod["priorityClassName"], pod["serviceAccountName"]) == ("123", "123")
    assert mounted(rendered)["redis-tls"]["secret"]["secretName"] == "123"
    assert rendered.one("Ingress")["spec"]["ingressClassName"] == "123"
    assert rendered.one("ServiceAccount")["metadata"]["name"] == "123"


def test_priority_class_cannot_inject_other_fields(minimal: Values) -> None:
    rendered = render(with_(minimal, priorityClassName="x\n      hostNetwork: true"))

    assert "hostNetwork" not in gateway(rendered)["spec"]["template"]["spec"]


def test_user_ids_can_be_removed_for_clusters_that_assign_them(minimal: Values) -> None:
    minimal["podSecurityContext"] = {"runAsUser": None, "runAsGroup": None}

    assert gateway(render(minimal))["spec"]["template"]["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_pod_has_everything_that_the_operator_adds() -> None:
    values, deployment = SETS["all-on"], gateway(rendered_set("all-on"))
    pod = deployment["spec"]["template"]
    container = pod["spec"]["containers"][0]

    assert deployment["metadata"]["annotations"] == values["deploymentAnnotations"]
    assert pod["spec"]["initContainers"] == values["initContainers"]
    assert pod["spec"]["containers"][1:] == values["extraContainers"]
    assert values["extraEnv"][0] in container["env"]
    assert container["envFrom"] == values["extraEnvFrom"]
    assert values["extraVolumes"][0] in pod["spec"]["volumes"]
    assert values["extraVolumeMounts"][0] in container["volumeMounts"]
    assert values["podLabels"].items() <= pod["metadata"]["labels"].items()
    assert values["podAnnotations"].items() <= pod["metadata"]["annotations"].items()
    for name in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod["spec"][name] == values[name]


def test_image_digest_overrides_the_tag_and_the_default_is_the_version_of_the_gateway(
    minimal: Values,
) -> None:
    def image(**values: str) -> str:
        spec = gateway(render(with_(minimal, image=values)))["spec"]["template"]["spec"]
        return str(spec["containers"][0]["image"])

    digest = f"sha256:{'0' * 64}"
    assert image(repository="registry:5000/push") == "registry:5000/push:0.1.0"
    assert image(repository="push", tag="edge") == "push:edge"
    assert image(repository="push", tag="edge", digest=digest) == f"push@{digest}"


# The bundled Redis, and the notes.


def test_bundled_redis_evicts_nothing_persists_nothing_and_accepts_the_gateway_alone() -> None:
    rendered = rendered_set("bundled-redis")
    redis = rendered.one("Deployment", "live-sio-gateway-redis")["spec"]["template"]
    policy = rendered.one("NetworkPolicy", "live-sio-gateway-redis")["spec"]

    arguments = " ".join(redis["spec"]["containers"][0]["args"])
    assert "--maxmemory-policy noeviction" in arguments
    assert "--save  --appendonly no" in arguments
    labels = gateway(rendered)["spec"]["template"]["metadata"]["labels"]
    assert [each["podSelector"]["matchLabels"] for each in policy["ingress"][0]["from"]] == [labels]


def test_notes_warn_that_the_bundled_redis_is_not_for_production() -> None:
    assert "NOT FOR PRODUCTION" in rendered_set("bundled-redis").notes
    assert [name for name in SETS if "NOT FOR PRODUCTION" in rendered_set(name).notes] == ["bundled-redis"]


def test_notes_warn_if_prometheus_cannot_reach_the_pods(shared: Values) -> None:
    watched = with_(shared, networkPolicy__enabled=True, serviceMonitor__enabled=True)
    assert "networkPolicy.metricsFrom is empty" in render(watched).notes

    allowed = with_(watched, networkPolicy__metricsFrom=[{"namespaceSelector": {}}])
    assert "metricsFrom" not in render(allowed).notes


def test_notes_explain_the_state_in_memory() -> None:
    explained = [name for name in SETS if "state is in memory" in rendered_set(name).notes]

    assert explained == ["minimal", "one-port"]


@pytest.mark.parametrize(
    ("interval", "seconds"), [(40, 90), ("40s", 90), ("1m", 110), ("500ms", 51), ("1.5m", 140)]
)
def test_timeout_of_the_ingress_follows_a_ping_interval_with_a_unit(
    minimal: Values, interval: int | str, seconds: int
) -> None:
    ingress = {"enabled": True, "hosts": ["push.example.com"]}
    rendered = render(minimal | {"ingress": ingress, "config": {"ping_interval_seconds": interval}})

    annotations = rendered.one("Ingress")["metadata"]["annotations"]

    assert annotations[NGINX + "proxy-read-timeout"] == str(seconds)
    assert settings_of(rendered)["ping_interval_seconds"] == interval


def test_production_runs_every_container_of_the_gateway_by_digest() -> None:
    rendered = rendered_set("production")
    digest = SETS["production"]["image"]["digest"]
    pods = [gateway(rendered)["spec"]["template"], *rendered.of_kind("Pod")]
    images = {container["image"] for pod in pods for container in pod["spec"]["containers"]}

    assert images == {f"registry.example.com/sio-gateway@{digest}"}


def test_production_reaches_redis_dns_the_key_set_and_webhooks_and_nothing_else() -> None:
    policy = rendered_set("production").one("NetworkPolicy")["spec"]
    values = SETS["production"]["networkPolicy"]
    egress = [([port["port"] for port in rule["ports"]], rule.get("to")) for rule in policy["egress"]]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert egress == [
        ([53, 53], None),
        ([6379], values["redisTo"]),
        ([443], values["jwksTo"]),
        ([3000], values["webhookTo"]),
    ]
    assert [rule["from"] for rule in policy["ingress"] if not rule.get("from")] == []
