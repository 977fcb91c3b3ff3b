"""What docs/how-to/deploy-with-helm.md says to do with values before they are installed: the gateway itself looks at them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

from tests.integration.chart.sets import SETS, rendered_set, with_
from tools.chart.rendering import CHART, Rendered, Values, as_yaml, render

SCRIPT = (CHART / "files/check.py").read_text(encoding="utf-8")
FOREIGN = {
    "kind": "Secret",
    "metadata": {"name": "credentials"},
    # What is there in base 64: a secret of 32 bytes, and a short one.
    "data": {
        "jwt-secret": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg=",
        "redis-url": "cmVkaXM6Ly9y",
        "ingest-shop": "c2hvcnQ=",
    },
}


def checked(manifest: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=manifest,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("name", [each for each in SETS if "existingSecret" not in SETS[each]])
def test_values_that_can_be_are_ok(name: str) -> None:
    done = checked(as_yaml(rendered_set(name)))

    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_settings_that_the_gateway_refuses_are_told_beforehand(minimal: Values) -> None:
    done = checked(as_yaml(render(with_(minimal, config__trusted_proxies=["10.0.0.5/8"]))))

    assert done.returncode == 2
    assert "GATEWAY_TRUSTED_PROXIES: '10.0.0.5/8' has bits beyond its prefix" in done.stderr


def test_what_the_environment_says_wins_there_too(minimal: Values) -> None:
    extra = [{"name": "GATEWAY_DRAIN", "value": "1"}]
    done = checked(as_yaml(render(with_(minimal, extraEnv=extra))))

    assert done.returncode == 2
    assert "GATEWAY_DRAIN" in done.stderr


def with_a_foreign_secret() -> Rendered:
    return render({"existingSecret": {"name": "credentials"}, "ingestKeys": [{"id": "shop"}]})


def test_a_foreign_secret_is_asked_for() -> None:
    done = checked(as_yaml(with_a_foreign_secret()))

    assert done.returncode == 1
    assert "the Secret credentials is not in the input" in done.stderr


def test_a_foreign_secret_is_looked_at() -> None:
    done = checked(f"{as_yaml(with_a_foreign_secret())}---\n{yaml.safe_dump(FOREIGN)}")

    assert done.returncode == 2
    assert "key 1: its secret has fewer than 32 bytes" in done.stderr
    assert "JWT_SECRET" not in done.stderr
    assert "short" not in done.stderr


def test_the_page_runs_this_script() -> None:
    page = (CHART.parents[1] / "docs/how-to/deploy-with-helm.md").read_text(encoding="utf-8")

    assert '-c "$(cat helm/sio-gateway/files/check.py)"' in page
