"""What this process counts, and the text that Prometheus reads.

tallies     numbers for what is counted all the time; the shelf makes and registers them
connections, messages, transport, requests, redis, replica     the meter of each room
registry    all of them together
"""

from __future__ import annotations

from gateway.metrics.primitives import PREFIX, MetricFactory, one_label
from gateway.metrics.registry import CONTENT_TYPE, Metrics

__all__ = ["CONTENT_TYPE", "PREFIX", "MetricFactory", "Metrics", "one_label"]
