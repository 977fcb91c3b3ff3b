"""The proof of law 6 (DESIGN §6): nothing is lost in the window. ``python -m tests.load.soak`` is the long form.

crowd      stock clients under Node that are dropped again and again (soak.mjs), and who of them is in which room
pushing    backends that push through whichever replica, and repeat until it was accepted
breaking   replicas that are killed or rolled, one after the other
verdict    what came, held against what was accepted; pure
running    one run of all that
report     docs/explanation/soak.md
"""
