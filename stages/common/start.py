"""The first moments of a command, before its libraries are loaded: Ctrl-C is answered, and edits of code are noticed."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED = 130  # exit status after Ctrl-C, as that of shells
STOPPED = "stopped. Type the command again to go on."


def times() -> dict[str, int]:
    """When each file of the code was last edited, in nanoseconds since 1970, by its path in the project."""
    found = {}
    for path in ROOT.glob("stages/**/*.py"):
        with suppress(
            FileNotFoundError
        ):  # an editor's lock, which is a link to nowhere, or a file that is being replaced
            found[path.relative_to(ROOT).as_posix()] = path.stat().st_mtime_ns
    return found


def edited() -> set[str]:
    """The files of the code that were edited, added or removed since this process began, if DVC runs it."""
    now = times() if AT_START else {}
    return {path for path in now | AT_START if now.get(path) != AT_START.get(path)}


def answer_ctrl_c() -> None:
    """Let `python -m stages.NAME` end at Ctrl-C with a sentence while it loads libraries, before its entry point runs."""
    if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)


def stop(*_: object) -> None:
    """End at once, with a sentence."""
    print(STOPPED, file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)


AT_START = times() if "DVC_STAGE" in os.environ else {}
