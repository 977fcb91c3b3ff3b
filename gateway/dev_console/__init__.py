"""The page at ``/dev`` in development mode: it connects as a user, shows received events and pushes to this user.

app     the aiohttp sub-application for ``/dev``
guard   access checks, without I/O: a browser on this machine, this page, the user of this page
page    the page as one document; its sources are page.html, page.css and page.js

This is not an unsigned REST API: a secret of this process binds the requests of a page to its user.
"""

from gateway.dev_console.app import Development, create_app

__all__ = ["Development", "create_app"]
