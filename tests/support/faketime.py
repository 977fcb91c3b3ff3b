"""The wall clock of a process that a test starts (libfaketime of Debian): it runs, and the test sets it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

HOW_TO_GET_IT = "libfaketime is missing: install Debian's package libfaketime"


class SteppedClock:
    """The wall clock of processes whose command begins with ``under``. The monotonic clock is left alone."""

    def __init__(self) -> None:
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        assert library is not None, HOW_TO_GET_IT
        self._folder = Path(tempfile.mkdtemp(prefix="clock-"))
        self._file = self._folder / "offset"
        self.step_to(0.0)
        self.under: Sequence[str] = (
            "env",
            f"LD_PRELOAD={library}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        )

    def step_to(self, seconds: float) -> None:
        """Set the clock to the real time and ``seconds`` more; a negative number sets it back."""
        new = self._folder / "new"
        new.write_text(f"{seconds:+.3f}\n")
        new.replace(self._file)

    def stop(self) -> None:
        """Delete the file. No process may use the clock afterwards."""
        shutil.rmtree(self._folder, ignore_errors=True)
