"""Everything that is wrong with the settings, collected before anybody is told."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "GATEWAY_"


class SettingsError(Exception):
    """The settings cannot be used; ``problems`` holds a sentence for each reason, the full name in front.

    ``log_format`` is the setting of that name, for whoever tells of them in the log.
    """

    def __init__(self, problems: list[str], *, log_format: str = "auto") -> None:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in problems)
        self.summary = f"{count} with the settings"
        super().__init__(f"{self.summary} (docs/reference/configuration.md lists them all):{lines}")
        self.problems = problems
        self.log_format = log_format


class Problems:
    """Sentences, and the names of the settings that they are about."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self._names: set[str] = set()

    def add(self, name: str, sentence: str, *, where: str | None = None) -> None:
        """``name`` is a setting in lower case without prefix, ``where`` the file it was read from."""
        self._names.add(name)
        source = f" (in {where})" if where else ""
        self.sentences.append(f"{PREFIX}{name.upper()}: {sentence}{source}")

    def mark(self, name: str) -> None:
        """A setting is wrong for a reason that was given under another name."""
        self._names.add(name)

    def has_error(self, *names: str) -> bool:
        """Whether one of the settings is already known to be wrong, so that comparing it would only confuse."""
        return not self._names.isdisjoint(names)

    def raise_any(self, *, log_format: str) -> None:
        """Raise SettingsError unless there is nothing to say."""
        if self.sentences:
            raise SettingsError(self.sentences, log_format=log_format)
