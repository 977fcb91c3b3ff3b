"""The script of docs/how-to/deploy-with-helm.md with which the gateway checks values before they are installed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

from tests.integration.chart.sets import SETS, rendered_set, with_
from tests.support.waiter import TIMEOUT_SECONDS
from tools.chart.rendering import CHART, Rendered, Values, as_yaml, render

SCRIPT = (CHART / "files/check.py").read_text(encoding="utf-8")
EXISTING_SECRET = {
    "kind": "Secret",
    "metadata": {"name": "credentials"},
    # In base 64: a secret of 32 bytes, the address of a Redis, and a short secret.
    "data": {
        "jwt-secret": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg=",
        "redis-url": "cmVkaXM6Ly9y",
        "ingest-shop": "c2hvcnQ=",
    },
}


def check(manifest: str) -> subprocess.CompletedProcess[str]:
    """Run the script with the objects on standard input."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=manifest,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("name", [each for each in SETS if "existingSecret" not in SETS[each]])
def test_valid_values_are_ok(name: str) -> None:
    done = check(as_yaml(rendered_set(name)))

    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_settings_that_the_gateway_rejects_are_reported(minimal: Values) -> None:
    done = check(as_yaml(render(with_(minimal, config__trusted_proxies=["10.0.0.5/8"]))))

    assert done.returncode == 2
    assert "GATEWAY_TRUSTED_PROXIES: '10.0.0.5/8' has bits beyond its prefix" in done.stderr


def test_environment_variables_override_the_file(minimal: Values) -> None:
    extra = [{"name": "GATEWAY_DRAIN", "value": "1"}]
    done = check(as_yaml(render(with_(minimal, extraEnv=extra))))

    assert done.returncode == 2
    assert "GATEWAY_DRAIN" in done.stderr


def with_existing_secret() -> Rendered:
    """Render the chart with a Secret that it does not create."""
    return render({"existingSecret": {"name": "credentials"}, "ingestKeys": [{"id": "shop"}]})


def test_missing_existing_secret_is_reported() -> None:
    done = check(as_yaml(with_existing_secret()))

    assert done.returncode == 1
    assert "the Secret credentials is not in the input" in done.stderr


def test_existing_secret_in_the_input_is_checked() -> None:
    done = check(f"{as_yaml(with_existing_secret())}---\n{yaml.safe_dump(EXISTING_SECRET)}")

    assert done.returncode == 2
    assert "key 1: its secret has fewer than 32 bytes" in done.stderr
    assert "JWT_SECRET" not in done.stderr
    assert "short" not in done.stderr


def test_documentation_runs_this_script() -> None:
    page = (CHART.parents[1] / "docs/how-to/deploy-with-helm.md").read_text(encoding="utf-8")

    assert '-c "$(cat helm/sio-gateway/files/check.py)"' in page
