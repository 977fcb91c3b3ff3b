"""Decide by the standard variables of OpenTelemetry whether spans are exported.

OpenTelemetry is imported only if they are.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final

import structlog

from gateway.domain.sampling import Sampling
from gateway.tracing.telemetry import DeliveryLog, Telemetry

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"
_HEADERS: Final = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*=")
"""The name of an HTTP header (RFC 9110 §5.6.2) and the ``=`` behind it."""
_HEADER_LOGGER: Final = "opentelemetry.util.re"

log = structlog.get_logger(__name__)


def open_telemetry(
    environ: Mapping[str, str], *, replica: str, version: str, sampling: Sampling
) -> Telemetry:
    """Return the telemetry that the environment configures.

    If spans are configured and cannot be exported, a log line gives the reason, and the gateway starts without them.
    """
    deliveries = DeliveryLog(sampling)
    if not is_configured(environ):
        return Telemetry(deliveries)
    protocol = _first(environ, _PROTOCOLS, default=_PROTOCOL)
    if protocol != _PROTOCOL:
        advice = f"set OTEL_EXPORTER_OTLP_PROTOCOL={_PROTOCOL}, and the endpoint to that port of the collector (4318)"
        log.warning("tracing.protocol_unsupported", protocol=protocol, advice=advice)
        return Telemetry(deliveries)
    _check_headers(environ)
    try:
        # OpenTelemetry reads some of the variables when it is imported.
        from gateway.tracing.export import ExportingTelemetry

        return ExportingTelemetry(deliveries, replica=replica, version=version)
    except ImportError as error:
        advice = "install sio-gateway[otel], or unset OTEL_EXPORTER_OTLP_ENDPOINT"
        log.warning("tracing.packages_missing", missing=error.name, advice=advice)
    except ValueError as error:
        log.warning("tracing.misconfigured", reason=str(error), advice="check the OTEL_ variables")
    return Telemetry(deliveries)


def _check_headers(environ: Mapping[str, str]) -> None:
    """Log a malformed header without its value. OpenTelemetry would log its value, the secret of a collector."""
    logging.getLogger(_HEADER_LOGGER).disabled = True
    for name in _HEADERS:
        parts = [part for part in environ.get(name, "").split(",") if part.strip()]
        if not all(_HEADER.match(part.strip()) for part in parts):
            reason = f"{name} is not of the form name=value,name=value"
            log.warning("tracing.misconfigured", reason=reason, advice="what is not of that form is not sent")


def is_configured(environ: Mapping[str, str]) -> bool:
    """Return whether an endpoint is set and the export is not switched off."""
    return (
        bool(_first(environ, _ENDPOINTS))
        and environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() != "none"
    )


def _first(environ: Mapping[str, str], names: tuple[str, ...], *, default: str = "") -> str:
    """Return the value of the first variable that is set and not empty."""
    return next((value for name in names if (value := environ.get(name, "").strip())), default)
