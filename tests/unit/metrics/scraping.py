"""Scrapes of a real gateway, parsed by prometheus-client."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway_process import GatewayProcess
from tests.support.metrics import read_metrics
from tests.support.waiter import wait_until

PREFIX = "sio_gateway_"


def families(gateway: GatewayProcess) -> dict[str, Metric]:
    """Return all metric families, by the names that a query selects. They are not older than this call."""
    found = list(text_string_to_metric_families(read_metrics(gateway.ingest_url)))
    names = [family.name for family in found]
    assert len(set(names)) == len(names), "a metric family is exposed twice"
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in found}


class Scrape:
    """The samples of a gateway at one moment."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families(gateway).values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return one sample. Raises KeyError if it does not exist."""
        return self._samples[PREFIX + name, frozenset(labels.items())]

    def has(self, name: str, **labels: str) -> bool:
        """Return whether a sample exists."""
        return (PREFIX + name, frozenset(labels.items())) in self._samples

    def grown(self, since: Scrape) -> dict[str, float]:
        """Return how much counters have grown, by ``name{label="value"}`` without the prefix, without zeros."""
        grown = {}
        for (name, labels), value in self._samples.items():
            growth = value - since._samples.get((name, labels), 0.0)
            if growth and name.startswith(PREFIX) and name.endswith("_total"):
                inside = ",".join(f'{label}="{of}"' for label, of in sorted(labels))
                grown[name.removeprefix(PREFIX) + (f"{{{inside}}}" if inside else "")] = growth
        return grown

    def again(self) -> Scrape:
        """Scrape again."""
        return Scrape(self._gateway)


def scrape_until(gateway: GatewayProcess, holds: Callable[[Scrape], bool], what: str) -> Scrape:
    """Scrape until a condition holds; return that scrape."""
    scrapes: list[Scrape] = []

    def scrape() -> bool:
        scrapes[:] = [Scrape(gateway)]
        return holds(scrapes[0])

    wait_until(scrape, what)
    return scrapes[0]
