"""Prove that no notification is lost: 500 users, three replicas, a backend that verifies and records, and faults.

``python -m tests.load.notify --write`` causes every fault of the gateway and of Redis during 50 000 notifications, and
writes the table of docs/explanation/guarantees.md; with ``--outages`` the backend fails for two minutes in every way.
``test_notify.py`` and ``test_outages.py`` are the short forms.

receiver    the backend: an HTTP server in a process of its own, which also fails as a test wants
senders     stock clients (senders.mjs) that send each event again until it is acknowledged
stage       three replicas on a Redis, and what is compared
faults      the kinds of faults
outages     a gateway whose backends fail, each in another way
table       the table and its place in the page
"""
