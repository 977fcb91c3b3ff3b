"""Check invariant 6 of docs/explanation/architecture.md under load: no message is lost in the recovery window.

``python -m tests.load.soak`` is the long form.

crowd      stock clients under Node that are dropped again and again (soak.mjs), and their rooms
pushing    backends that push through any replica, and repeat each push until it is accepted
breaking   replicas that are killed or rolled, one after the other
verdict    compares deliveries with accepted pushes; pure
running    one run of all of these
report     docs/explanation/soak.md
"""
