"""Where metrics are made and registered: under one prefix, by one rule.

Names: ``push_gateway_<what>_<unit>``, the unit spelled out (``seconds``, ``bytes``), counters end in ``_total``
(https://prometheus.io/docs/practices/naming/). A label takes values from a list that we know, never a user, room, sid,
event or anything else that a client or backend can make up. ``docs/reference/metrics.md`` describes each, and a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry

from gateway.metrics.tallies import CountReading, Labels, Level, Reading, Spread, Tally

PREFIX: Final = "push_gateway_"


class Shelf:
    """Makes the metrics of one room of the house; names go without the prefix and without ``_total``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def tally(self, name: str, text: str, labels: Labels = (), known: Iterable[Labels] = ()) -> Tally:
        """A counter."""
        tally = Tally(PREFIX + name, text, labels, known)
        self._registry.register(tally)
        return tally

    def level(self, name: str, text: str, labels: Labels = (), known: Iterable[Labels] = ()) -> Level:
        """A gauge that is counted up and down."""
        level = Level(PREFIX + name, text, labels, known)
        self._registry.register(level)
        return level

    def reading(self, name: str, text: str, labels: Labels = ()) -> Reading:
        """A gauge that is read elsewhere."""
        reading = Reading(PREFIX + name, text, labels)
        self._registry.register(reading)
        return reading

    def count_reading(self, name: str, text: str, labels: Labels = ()) -> CountReading:
        """A counter that is read elsewhere."""
        reading = CountReading(PREFIX + name, text, labels)
        self._registry.register(reading)
        return reading

    def spread(self, name: str, text: str, labels: Labels = (), *, bounds: Sequence[float]) -> Spread:
        """A histogram."""
        spread = Spread(PREFIX + name, text, labels, bounds=bounds)
        self._registry.register(spread)
        return spread


def singles(words: Iterable[str]) -> list[Labels]:
    """The values of a single label."""
    return [(word,) for word in words]
