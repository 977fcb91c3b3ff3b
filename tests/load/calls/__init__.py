"""Thousands of clients whose events call a webhook that hangs: ``python -m tests.load.calls``.

hanging    the run: what is answered while the webhook hangs, and after it
storm      raw clients, pushes beside them, and what was answered
receiver   webhooks that answer at once, or hang
"""
