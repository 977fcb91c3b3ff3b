"""Prometheus metrics: primitives that the components create and count on themselves, and the text that is scraped.

primitives   Counter, Gauge, CallbackGauge, CallbackCounter, Histogram, and the MetricFactory that registers them
exposition   the text format of Prometheus
process      version, memory, files, garbage collector and event loop of the process
push         RequestMetrics and DeliveryTimer: metrics of a push that span several components
"""

from __future__ import annotations

from gateway.metrics.exposition import CONTENT_TYPE, Exposition
from gateway.metrics.primitives import PREFIX, MetricFactory, Read, one_label
from gateway.metrics.process import ProcessMetrics
from gateway.metrics.push import DeliveryTimer, RequestMetrics

__all__ = [
    "CONTENT_TYPE",
    "PREFIX",
    "DeliveryTimer",
    "Exposition",
    "MetricFactory",
    "ProcessMetrics",
    "Read",
    "RequestMetrics",
    "one_label",
]
