"""The page at ``/dev``, only in development mode: connects as a user, shows what arrives, pushes to that same user.

app     the aiohttp sub-application to mount under ``/dev``
guard   who may use it (pure): this machine's browser, on this page, as this page's user
page    the page as one document; its sources are page.html, page.css and page.js

It is no general unsigned door: what a page may do is bound to its user by a secret of this process.
"""

from gateway.dev_console.app import Development, create_app

__all__ = ["Development", "create_app"]
