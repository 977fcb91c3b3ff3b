"""What the process writes about itself: one line for each fact, on stderr, in one form for everybody.

    configuring  configure_logging: level and form, at start and again while it runs
    logger       the loggers of our own code; a level that is off costs a call that does nothing
    rendering    from a fact to a line: order, masks, tracebacks, JSON
    foreign      what libraries say, and what nobody caught
    output       the one stream, and lines that wait for it

``docs/reference/logs.md`` lists every line; a test compares it with the sources.
"""

from gateway.logs.setup import configure_logging, is_more_verbose, lines_dropped

__all__ = ["configure_logging", "is_more_verbose", "lines_dropped"]
