"""Errors that the user can fix, as sentences."""

import os
import signal
import sys
from pathlib import Path
from types import TracebackType

TRACEBACK = "TRACEBACK"  # if this environment variable is set, errors show their traceback
INTERRUPTED = 130  # exit status after Ctrl-C, as that of shells


class InputError(Exception):
    """An input is wrong. The message says what and where, the value found, the value expected, and what to do."""


class Damaged(InputError):
    """A file that a stage wrote, or that came with the project, is damaged or another one.

    Args:
        path: The file.
        reason: What is wrong with it.
    """

    def __init__(self, path: Path, reason: object):
        super().__init__(f"{path} cannot be used: {str(reason).rstrip('. ')}.")
        self.path = path


def printable(text: str) -> str:
    """A text with its control characters escaped: a file's name could move the cursor with them."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def show_as_sentences() -> None:
    """From now on, let this process end with a sentence at an `InputError` or Ctrl-C, instead of a traceback."""
    signal.signal(signal.SIGINT, stop)
    sys.excepthook = show


def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print an error that nothing caught: see `sys.excepthook`."""
    if not isinstance(error, InputError) or os.environ.get(TRACEBACK):
        sys.__excepthook__(kind, error, traceback)
    else:
        print(f"error: {printable(str(error))}", file=sys.stderr)


def stop(*_: object) -> None:
    """End at once, with a sentence."""
    print("stopped. Type the command again to go on.", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)
