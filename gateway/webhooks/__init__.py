"""Webhooks: send events to HTTP endpoints of backends, whose answers become effects (docs/reference/webhooks.md).

signing      the signature of Standard Webhooks
answers      the meaning of statuses and bodies
circuit      the circuit breaker
addresses    the check of an address at the moment of the connection
connections  the connections of one webhook
deliveries   the request of notifications, and the outcome of its answer
slots        Slots: the requests in flight, and those that wait
endpoint     one webhook: limits, tries, deadlines
client       all webhooks: WebhookClient
check        webhook.test, and what is wrong with a webhook
"""

from gateway.webhooks.client import CallTracer, WebhookClient

__all__ = ["CallTracer", "WebhookClient"]
"""The client is built by ``gateway.runtime``."""
