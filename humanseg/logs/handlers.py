"""The handlers of run.log and of the terminal. Where one can't be written, a sentence says so and the run goes on."""

import logging
import sys
from contextlib import suppress

from humanseg import terminal


class Terminal(logging.StreamHandler):
    """Writes to a stream, as to stdout, which may be a pipe that nobody reads any more or a file on a full disk."""

    lost = False

    def handleError(self, record: logging.LogRecord | None) -> None:
        """Called where a record, or what the stream still holds, can't be written."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.lost:
            self.lost = True
            with suppress(OSError):
                terminal.say(f"{self.target()} can't be written: {error.strerror}; the run goes on", file=sys.stderr)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self.handleError(None)

    def target(self) -> str:
        """What is written to, in words."""
        return "the output"


class RunLog(Terminal, logging.FileHandler):
    """run.log."""

    def target(self) -> str:
        return self.baseFilename

    def close(self) -> None:
        with suppress(OSError):  # what it still holds can't be written
            super().close()
