"""Notifications: deliver what is in the queues of webhooks (docs/explanation/architecture.md, "Notifications").

retries    RetryRules: when a notification is tried again, and when it is not any more
worker     PartitionWorker: delivers the notifications of one partition
ownership  Notifications: the partitions that this replica owns, and their workers
"""

from gateway.services.notifications.ownership import Notifications
from gateway.services.notifications.retries import RetryRules

__all__ = ["Notifications", "RetryRules"]
