"""What a real gateway shows, read by Prometheus' own parser."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import wait_until

PREFIX = "sio_gateway_"


def families(gateway: GatewayProcess) -> dict[str, Metric]:
    """Everything, by the names that a query selects."""
    with urllib.request.urlopen(f"{gateway.ingest_url}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        found = list(text_string_to_metric_families(answer.read().decode()))
    names = [family.name for family in found]
    assert len(set(names)) == len(names), "a family is there twice"
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in found}


class Scrape:
    """The numbers of a gateway at one moment."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families(gateway).values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """One number; fails where there is none."""
        return self._samples[PREFIX + name, frozenset(labels.items())]

    def has(self, name: str, **labels: str) -> bool:
        """Whether there is such a number."""
        return (PREFIX + name, frozenset(labels.items())) in self._samples

    def grown(self, since: Scrape) -> dict[str, float]:
        """What is counted now and was not then, as ``name{label="value"}`` without the prefix; zero is left out."""
        grown = {}
        for (name, labels), value in self._samples.items():
            growth = value - since._samples.get((name, labels), 0.0)
            if growth and name.startswith(PREFIX) and name.endswith("_total"):
                inside = ",".join(f'{label}="{of}"' for label, of in sorted(labels))
                grown[name.removeprefix(PREFIX) + (f"{{{inside}}}" if inside else "")] = growth
        return grown

    def again(self) -> Scrape:
        """The numbers now."""
        return Scrape(self._gateway)


def scrape_until(gateway: GatewayProcess, holds: Callable[[Scrape], bool], what: str) -> Scrape:
    """Look until it holds; the last look."""
    looks: list[Scrape] = []

    def look() -> bool:
        looks[:] = [Scrape(gateway)]
        return holds(looks[0])

    wait_until(look, what)
    return looks[0]
