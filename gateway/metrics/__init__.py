"""What this process counts: the registry, and numbers for what is counted all the time."""

from __future__ import annotations

from gateway.metrics.registry import CONTENT_TYPE, PREFIX, Metrics

__all__ = ["CONTENT_TYPE", "PREFIX", "Metrics"]
