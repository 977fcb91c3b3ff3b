"""The composition root: ``rooms`` builds and joins the house, ``life`` brings it up and takes it down."""

from __future__ import annotations

from gateway.app.life import Gateway

__all__ = ["Gateway"]
