"""Traces of messages: log lines about their deliveries, and OpenTelemetry spans if an endpoint is configured.

telemetry   DeliveryLog writes the lines; Telemetry is what the composition root uses
setup       open_telemetry: the standard OTEL_ variables decide whether spans are exported
export      the spans and their export; the only module that imports OpenTelemetry, and only if spans are exported

``docs/reference/logs.md`` describes the spans.
"""

from gateway.tracing.setup import open_telemetry
from gateway.tracing.telemetry import Telemetry

__all__ = ["Telemetry", "open_telemetry"]
