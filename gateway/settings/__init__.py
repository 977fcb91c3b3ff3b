"""What the operator may say (DESIGN §8, Settings): read once, checked as a whole, frozen.

model      the settings: one typed line each, with its parser, unit and default
values     how a text or a YAML value becomes a number, a list, an origin …
ingest     how a text or YAML becomes ingest keys
sources    where values come from: environment, files of secrets, YAML; which names are known
jwt        which key belongs to which algorithm
checks     what must hold between settings
load       all of it together
"""

from gateway.settings.load import load_settings
from gateway.settings.model import Settings, changed_settings
from gateway.settings.problems import SettingsError

__all__ = ["Settings", "SettingsError", "changed_settings", "load_settings"]
