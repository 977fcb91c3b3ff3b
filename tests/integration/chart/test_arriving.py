"""What is said in the values arrives where Kubernetes looks for it."""

from __future__ import annotations

from tests.integration.chart.sets import SETS, gateway, mounted, rendered_set, with_
from tools.chart.rendering import Rendered, Values, render


def test_what_is_said_of_the_clients_service_arrives(minimal: Values) -> None:
    service = {
        "type": "LoadBalancer",
        "nodePort": 30080,
        "sessionAffinity": "ClientIP",
        "loadBalancerClass": "example.com/outer",
        "loadBalancerSourceRanges": ["203.0.113.0/24"],
        "externalTrafficPolicy": "Local",
    }
    rendered = render(with_(minimal, clientService=service))
    told = rendered.one("Service", gateway(rendered)["metadata"]["name"])["spec"]

    assert {name: told[name] for name in service if name != "nodePort"} == {
        name: value for name, value in service.items() if name != "nodePort"
    }
    assert told["ports"][0]["nodePort"] == 30080


def test_what_is_said_of_the_ingress_arrives() -> None:
    told = rendered_set("all-on").one("Ingress")["spec"]

    assert told["ingressClassName"] == "nginx"
    assert told["tls"] == SETS["all-on"]["ingress"]["tls"]


def test_secrets_can_be_read_by_the_user_of_the_image(rendered: Rendered) -> None:
    # Files of a Secret belong to root, and the image runs as another.
    assert mounted(rendered)["secrets"]["secret"]["defaultMode"] == 0o444


def test_nodes_can_be_emptied_also_of_replicas_that_are_not_ready() -> None:
    told = rendered_set("all-on").one("PodDisruptionBudget")["spec"]

    assert (told["maxUnavailable"], told["unhealthyPodEvictionPolicy"]) == ("25%", "AlwaysAllow")
    assert rendered_set("minimal").one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_a_short_lull_takes_no_replica_away() -> None:
    told = rendered_set("autoscaled").one("HorizontalPodAutoscaler")["spec"]["behavior"]

    assert told["scaleDown"]["stabilizationWindowSeconds"] == 600


def test_a_rollout_counts_its_own_pods_when_it_spreads_them(rendered: Rendered) -> None:
    for constraint in gateway(rendered)["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]


def test_the_bundled_redis_is_the_image_and_the_size_that_was_said(minimal: Values) -> None:
    bundled = {"enabled": True, "image": "registry.example.com/redis:7", "maxMemoryMiB": 100}
    redis = render(with_(minimal, redis__bundled=bundled)).one("Deployment", "live-sio-gateway-redis")
    (container,) = redis["spec"]["template"]["spec"]["containers"]

    assert container["image"] == "registry.example.com/redis:7"
    assert container["args"][container["args"].index("--maxmemory") + 1] == "100mb"
    assert container["resources"]["limits"]["memory"] == "150Mi"


def test_two_releases_in_a_namespace_share_no_pod(shared: Values) -> None:
    first, second = (render(shared, release=name) for name in ("first", "second"))
    chosen = [each["spec"]["selector"] for each in first.of_kind("Service")]
    labels = gateway(second)["spec"]["template"]["metadata"]["labels"]

    assert [selector for selector in chosen if selector.items() <= labels.items()] == []
    assert {each["metadata"]["name"] for each in first.documents}.isdisjoint(
        each["metadata"]["name"] for each in second.documents
    )
