"""What components counted, read from the registry of their metrics, or from the page of a gateway."""

from __future__ import annotations

import math
import time
import urllib.request

from gateway.metrics import PREFIX, MetricFactory
from gateway.metrics.exposition import CONTENT_TYPE, MAX_AGE_SECONDS
from tests.support.waiter import TIMEOUT_SECONDS

_SLACK_SECONDS = 0.2
_read_at: dict[str, float] = {}


def read_metrics(url: str) -> str:
    """Return the page of metrics of a gateway, which is not older than this call.

    A gateway gives all scrapes of one second the same page.
    """
    earlier = _read_at.get(url, -math.inf)
    time.sleep(max(0.0, earlier + MAX_AGE_SECONDS + _SLACK_SECONDS - time.monotonic()))
    with urllib.request.urlopen(f"{url}/metrics", timeout=TIMEOUT_SECONDS) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        page = str(answer.read().decode())
    _read_at[url] = time.monotonic()
    return page


def counted(metrics: MetricFactory, name: str) -> dict[str, float]:
    """Return the samples of a metric that are not zero, by their label values, in the order of the label names.

    ``name`` is that of the sample without the prefix, so a counter ends in ``_total``.
    """
    return {
        " ".join(sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == PREFIX + name and sample.value
    }
