"""Thousands of clients whose events call a webhook that hangs.

storm      raw clients, pushes beside them, and what was answered
receiver   webhooks that answer at once, or hang
"""
