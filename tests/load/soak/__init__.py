"""Check invariant 6 of docs/explanation/architecture.md under load: no message is lost in the recovery window.

``python -m tests.load.soak`` is the long form.

clients      stock clients under Node whose connections break repeatedly (soak.mjs), and their rooms
backends     backends that push through any replica, and repeat each push until it is accepted
chaos        kills and restarts replicas, one after the other
comparison   compares deliveries with accepted pushes; pure
runner       one run of all of these
report       docs/explanation/soak.md
"""
