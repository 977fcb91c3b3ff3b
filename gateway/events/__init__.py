"""The event catalogue: from the file of GATEWAY_EVENTS_FILE to frozen values (``gateway.domain.event_catalogue``).

loader        load_catalogue: the whole file, with every mistake at once
yaml_tree     YAML text to values that know their lines; bounds of size, depth and aliases
mistakes      what is wrong with a file: path, sentence and line; readers of values that collect them
keywords      the keywords of JSON Schema that are supported, with the form of their values
schemas       JSON Schemas: compilation, and sentences about values
recursion     recursive schemas whose checks take exponential time
templates     templates and references
rules         globs, rules of rooms, and who may do something
emissions     recipients and messages that a client event causes
entries       entries of ``client_events`` and ``server_events``
presence      announcements of online and offline users, and lists of online users
review        warnings about a catalogue without mistakes
descriptions  what clients of each namespace send and get, as JSON schemas
payloads      the JSON schema of what a template renders
own_events    the gateway's own events and error answers as JSON schemas
typescript    ``sio-gateway types``: TypeScript declarations
schema_types  JSON schemas as TypeScript types
asyncapi      ``sio-gateway asyncapi``: an AsyncAPI document
identifiers   names for generated documents

docs/reference/events-file.md describes the file.
"""

from gateway.events.loader import load_catalogue
from gateway.events.mistakes import CatalogueError, Mistake
from gateway.events.review import warnings

__all__ = ["CatalogueError", "Mistake", "load_catalogue", "warnings"]
