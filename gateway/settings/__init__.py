"""The settings of the operator: read once, checked as a whole, frozen.

model        every setting with its type, parser, unit and default; the error that lists every problem
values       parsers from a text or a YAML value to a number, a list, an origin …
credentials  parsers of secrets: the keys that verify tokens, ingest keys, the URL of Redis
issuers      parser of the issuers of tokens
webhooks     parsers of webhooks and of their secrets
files        reads of files that may be pipes or devices
sources      where values come from: environment, files of secrets, YAML; which names are known
checks       rules between settings, and warnings
events       the event catalogue of GATEWAY_EVENTS_FILE, with its mistakes
load         read, parse, check and freeze

docs/reference/configuration.md describes every setting.
"""

from gateway.settings.checks import SettingsWarning, warnings
from gateway.settings.load import load_settings
from gateway.settings.model import Settings, SettingsError, changed_settings

__all__ = ["Settings", "SettingsError", "SettingsWarning", "changed_settings", "load_settings", "warnings"]
