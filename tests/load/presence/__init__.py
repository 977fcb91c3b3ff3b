"""Prove which changes of presence a webhook gets: reloads of pages, a killed replica, a Redis that lost its data.

``python -m tests.load.presence`` runs the scenes in full and prints their figures, with ``--write`` also into
docs/explanation/guarantees.md. ``test_presence_storms.py`` and ``test_everyone.py`` are the short forms.

pages       stock clients as pages of browsers, in one Node process (pages.mjs)
scenes      the scenes, and what a backend is to know at their end
crowd       thousands of raw clients that count the announcements and lists they get
everyone    announcements and lists of online users to 10 000 clients
upgrade     a rolling upgrade beside a replica of a former release
table       the figures and their place in the page
"""
