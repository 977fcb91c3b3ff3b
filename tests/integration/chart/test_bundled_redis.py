"""The bundled Redis: a gateway can work with a Redis that has its options."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.integration.chart.sets import rendered_set
from tests.support.redis_server import RedisServer
from tests.support.waiter import TIMEOUT_SECONDS


def test_doctor_reports_no_problem_of_a_redis_with_the_options_of_the_bundled_one() -> None:
    redis = rendered_set("bundled-redis").one("Deployment", "live-sio-gateway-redis")
    arguments = redis["spec"]["template"]["spec"]["containers"][0]["args"]
    names, values = arguments[::2], arguments[1::2]
    options = {
        name.removeprefix("--").replace("-", "_"): value for name, value in zip(names, values, strict=True)
    }
    server = RedisServer(**options)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "doctor", "--json", "--dev"],
            env=os.environ | {"GATEWAY_REDIS_URL": server.url},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    finally:
        server.stop()

    levels = {each["name"]: each["level"] for each in json.loads(done.stdout)["findings"]}
    assert levels["redis.eviction"] == "ok"
    assert [name for name, level in levels.items() if name.startswith("redis.") and level == "problem"] == []
