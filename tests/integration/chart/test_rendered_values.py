"""Values appear in the fields of the objects that Kubernetes reads."""

from __future__ import annotations

import pytest

from gateway import __version__
from tests.integration.chart.sets import SETS, gateway, mounted, rendered_set, with_
from tools.chart.rendering import Rendered, Values, render


def test_client_service_has_the_fields_of_its_values(minimal: Values) -> None:
    service = {
        "type": "LoadBalancer",
        "nodePort": 30080,
        "sessionAffinity": "ClientIP",
        "loadBalancerClass": "example.com/outer",
        "loadBalancerSourceRanges": ["203.0.113.0/24"],
        "externalTrafficPolicy": "Local",
    }
    rendered = render(with_(minimal, clientService=service))
    spec = rendered.one("Service", gateway(rendered)["metadata"]["name"])["spec"]

    assert {name: spec[name] for name in service if name != "nodePort"} == {
        name: value for name, value in service.items() if name != "nodePort"
    }
    assert spec["ports"][0]["nodePort"] == 30080


def test_ingress_has_the_fields_of_its_values() -> None:
    spec = rendered_set("all-on").one("Ingress")["spec"]

    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == SETS["all-on"]["ingress"]["tls"]


def test_secret_files_are_readable_by_the_user_of_the_image(rendered: Rendered) -> None:
    # Files of a Secret belong to root, and the image runs as another user.
    assert mounted(rendered)["secrets"]["secret"]["defaultMode"] == 0o444


def test_disruption_budget_lets_a_node_drain_evict_replicas_that_are_not_ready() -> None:
    spec = rendered_set("all-on").one("PodDisruptionBudget")["spec"]

    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == ("25%", "AlwaysAllow")
    assert rendered_set("minimal").one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_autoscaler_removes_no_replica_in_a_short_lull() -> None:
    spec = rendered_set("autoscaled").one("HorizontalPodAutoscaler")["spec"]["behavior"]

    assert spec["scaleDown"]["stabilizationWindowSeconds"] == 600


def test_topology_spread_counts_only_the_pods_of_the_new_rollout(rendered: Rendered) -> None:
    for constraint in gateway(rendered)["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]


def test_bundled_redis_has_the_image_and_the_memory_of_its_values(minimal: Values) -> None:
    bundled = {"enabled": True, "image": "registry.example.com/redis:7", "maxMemoryMiB": 100}
    redis = render(with_(minimal, redis__bundled=bundled)).one("Deployment", "live-sio-gateway-redis")
    (container,) = redis["spec"]["template"]["spec"]["containers"]

    assert container["image"] == "registry.example.com/redis:7"
    assert container["args"][container["args"].index("--maxmemory") + 1] == "100mb"
    assert container["resources"]["limits"]["memory"] == "150Mi"


def test_releases_in_one_namespace_share_no_pod_and_no_name(shared: Values) -> None:
    first, second = (render(shared, release=name) for name in ("first", "second"))
    selectors = [each["spec"]["selector"] for each in first.of_kind("Service")]
    labels = gateway(second)["spec"]["template"]["metadata"]["labels"]

    assert [selector for selector in selectors if selector.items() <= labels.items()] == []
    assert {each["metadata"]["name"] for each in first.documents}.isdisjoint(
        each["metadata"]["name"] for each in second.documents
    )


def test_global_registry_and_pull_secrets_apply_to_every_image(shared: Values) -> None:
    del shared["secrets"]["redisUrl"]
    shared |= {
        "global": {"imageRegistry": "mirror.example.com:5000", "imagePullSecrets": ["all", {"name": "own"}]},
        "imagePullSecrets": [{"name": "own"}],
        "redis": {"bundled": {"enabled": True, "image": "docker.io/valkey/valkey:8.1-alpine"}},
    }
    rendered = render(shared)
    pods = [each["spec"]["template"]["spec"] for each in rendered.of_kind("Deployment")]
    pods += [each["spec"] for each in rendered.of_kind("Pod")]

    assert {container["image"] for pod in pods for container in pod["containers"]} == {
        f"mirror.example.com:5000/sio-gateway:{__version__}",
        "mirror.example.com:5000/valkey/valkey:8.1-alpine",
    }
    assert [pod["imagePullSecrets"] for pod in pods] == [[{"name": "own"}, {"name": "all"}]] * len(pods)


def test_registry_of_the_image_is_used_without_a_global_one(minimal: Values) -> None:
    minimal["image"] = {"registry": "registry.example.com", "repository": "team/sio-gateway", "tag": "1.0"}

    (container,) = gateway(render(minimal))["spec"]["template"]["spec"]["containers"]

    assert container["image"] == "registry.example.com/team/sio-gateway:1.0"


def test_constraints_of_the_operator_replace_those_of_the_chart(shared: Values) -> None:
    own = [{"maxSkew": 2, "topologyKey": "example.com/rack", "whenUnsatisfiable": "DoNotSchedule"}]

    pod = gateway(render(shared | {"topologySpreadConstraints": own}))["spec"]["template"]["spec"]

    assert pod["topologySpreadConstraints"] == own


def test_ingress_hosts_may_be_written_as_mappings(minimal: Values) -> None:
    minimal["ingress"] = {"enabled": True, "hosts": [{"host": "a.example.com"}, "b.example.com"]}
    rendered = render(minimal)

    rules = rendered.one("Ingress")["spec"]["rules"]

    assert [rule["host"] for rule in rules] == ["a.example.com", "b.example.com"]
    assert "Clients connect to    http://a.example.com, path" in rendered.notes


def test_runbook_url_of_each_alert_names_the_page_of_the_operator(minimal: Values) -> None:
    page = "https://wiki.example.com/sio-gateway/operate"

    rule = render(minimal | {"prometheusRule": {"enabled": True, "runbookUrl": page}}).one("PrometheusRule")

    urls = {each["annotations"]["runbook_url"] for group in rule["spec"]["groups"] for each in group["rules"]}
    assert {url.partition("#")[0] for url in urls} == {page}
    assert f"{page}#redis-is-unavailable" in urls


@pytest.mark.parametrize(
    "change", [{"global": {"imageRegistry": "mirror.example.com"}}, {"image__registry": "mirror.example.com"}]
)
def test_registry_replaces_the_one_in_the_name_of_the_image(minimal: Values, change: Values) -> None:
    values = with_(
        minimal, image__repository="registry.example.com:5000/team/sio-gateway", image__tag="1", **change
    )

    images = {each["image"] for each in gateway(render(values))["spec"]["template"]["spec"]["containers"]}

    assert images == {"mirror.example.com/team/sio-gateway:1"}
