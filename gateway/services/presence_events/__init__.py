"""Notify a backend and clients of users who become online or offline.

worker         shares the work between replicas, finds users that are offline
webhook        requests to the webhook of a backend
announcements  messages to clients
"""

from __future__ import annotations

from gateway.services.presence_events.worker import PresenceWorker

__all__ = ["PresenceWorker"]
