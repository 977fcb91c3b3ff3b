"""The standard variables of OpenTelemetry decide whether spans are exported."""

from __future__ import annotations

import pytest

from gateway.tracing.setup import is_configured

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    "environ",
    [
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": "otlp"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "", "OTEL_TRACES_EXPORTER": ""},
    ],
)
def test_endpoint_switches_the_export_on(environ: dict[str, str]) -> None:
    assert is_configured(environ)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_SERVICE_NAME": "gateway"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "True"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_export_is_off_without_an_endpoint_or_when_it_is_switched_off(environ: dict[str, str]) -> None:
    assert not is_configured(environ)
