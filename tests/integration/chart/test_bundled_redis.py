"""The Redis that the chart brings for trying out: a gateway can work with one that is started like that."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.integration.chart.sets import rendered_set
from tests.support.redis_server import RedisServer


def test_the_doctor_finds_nothing_that_keeps_a_gateway_from_working() -> None:
    redis = rendered_set("trying-out").one("Deployment", "live-sio-gateway-redis")
    arguments = redis["spec"]["template"]["spec"]["containers"][0]["args"]
    names, values = arguments[::2], arguments[1::2]
    options = {
        name.removeprefix("--").replace("-", "_"): value for name, value in zip(names, values, strict=True)
    }
    server = RedisServer(**options)
    try:
        examined = subprocess.run(
            [sys.executable, "-m", "gateway", "doctor", "--json", "--dev"],
            env=os.environ | {"GATEWAY_REDIS_URL": server.url},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        server.stop()

    found = {each["name"]: each["level"] for each in json.loads(examined.stdout)["findings"]}
    assert found["redis.eviction"] == "ok"
    assert [name for name, level in found.items() if name.startswith("redis.") and level == "problem"] == []
