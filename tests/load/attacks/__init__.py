"""Programs that attack a running gateway with its default limits, and the tests that bound what they reach.

Each module is one kind of attack. It has ``async def attack(gateway, until)``, which attacks until the event is set,
expects to be rejected, and needs little memory itself. Beside it, ``test_<kind>.py`` is the short form with the bound.
``docs/explanation/guarantees.md`` has a row for each. ``measures`` has what they measure with.
``together`` runs them all against one replica with many clients (`make soak ARGS=--attacks`), each in a process of its
own (``target``).
"""
