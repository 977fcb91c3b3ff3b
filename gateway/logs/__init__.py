"""The log of the process: one line for each event, on stderr, in one format for our code and for libraries.

setup       configure_logging: level and format, at the start and again while the process runs
rendering   EventLogger, the loggers of our code; from an event to a line: order, masks, tracebacks, JSON
stdlib      lines of libraries, and exceptions that nothing caught
output      the one stream, and the lines that wait for it

``docs/reference/logs.md`` lists every line; a test compares it with the sources.
"""

from gateway.logs.setup import collecting_lines, configure_logging, is_more_verbose, lines_dropped

__all__ = ["collecting_lines", "configure_logging", "is_more_verbose", "lines_dropped"]
