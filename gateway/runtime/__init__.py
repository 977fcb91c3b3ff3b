"""The composition root: ``rooms`` builds and joins the house, ``life`` brings it up and takes it down."""

from __future__ import annotations

from gateway.runtime.lifecycle import Gateway

__all__ = ["Gateway"]
