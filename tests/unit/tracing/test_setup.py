"""Whether spans are exported is for the standard variables to say."""

from __future__ import annotations

import pytest

from gateway.tracing.setup import is_asked_for

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
def test_an_endpoint_asks_for_it(environ: dict[str, str]) -> None:
    assert is_asked_for(environ)


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
def test_without_one_or_when_it_is_switched_off_nothing_is_exported(environ: dict[str, str]) -> None:
    assert not is_asked_for(environ)
