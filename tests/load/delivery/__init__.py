"""Compare what backends were answered with what clients received, for each kind of fault, over three replicas.

``python -m tests.load.delivery --write`` causes every fault and writes the table of docs/explanation/guarantees.md;
``test_delivery.py`` is the short form. Clients, backends and the comparison are those of ``tests/load/soak``.

stage       three replicas, each behind a proxy of its own to Redis
faults      the kinds of faults, and what is promised under each
table       the table and its place in the page
"""
