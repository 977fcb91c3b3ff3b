"""The composition root: builds the components of a replica, starts and stops them.

admission_check  AdmissionCheck: whether a client may open a session now
components       Components: builds every component and connects them
from_settings    components that are built from settings and few others
lifecycle        Gateway: start, tasks, drain, stop, and the reload of settings
events           checks of pushes with the event catalogue, and its documents for the development page
metrics_setup    metrics of the state and of the log
notices          Notices: notifications of webhooks, changes of presence, lists of connections
rest_api         the REST API and the services behind its calls
webhook_queues   the queues of the configured webhooks, for the REST API
"""

from __future__ import annotations

from gateway.runtime.lifecycle import Gateway

__all__ = ["Gateway"]
