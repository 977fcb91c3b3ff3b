"""What components counted, read from the registry of their metrics."""

from __future__ import annotations

from gateway.metrics import PREFIX, MetricFactory


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
