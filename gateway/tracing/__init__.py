"""What becomes of messages that belong to a trace: lines of log, and spans for OpenTelemetry where that is set up.

    deliveries   the lines about deliveries
    telemetry    what the house needs of all that
    opening      whether spans are exported, decided by the standard OTEL_ variables
    exporting    spans, and their way to a collector; the one module that imports OpenTelemetry, and only if need be

``docs/reference/logs.md`` says what is in a span.
"""

from gateway.tracing.setup import open_telemetry
from gateway.tracing.telemetry import Telemetry

__all__ = ["Telemetry", "open_telemetry"]
