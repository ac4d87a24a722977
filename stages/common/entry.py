"""The entry point of all commands: errors become sentences; what a stage that DVC runs reads may not change."""

import functools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from stages.common import checkpoint, lock_file, orphans, progress, stage
from stages.common.errors import TRACEBACK, InputError, sentence
from stages.common.start import INTERRUPTED, STOPPED, stop

ROOT = Path(__file__).resolve().parents[2]
UNREAD = 141  # exit status after a closed pipe, as that of shells
GRACE = 5  # seconds


def entry_point(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a stage's `main`: `InputError` and `OSError` become one sentence on stderr and exit status 1; Ctrl-C, 130."""

    @functools.wraps(main)
    def guarded() -> None:
        for stream in (sys.stdout, sys.stderr):  # escape characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
        show_traceback = "--traceback" in sys.argv or bool(os.environ.get(TRACEBACK))
        sys.argv = [argument for argument in sys.argv if argument != "--traceback"]
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            if Path.cwd() != ROOT:
                raise InputError(
                    f"stages run from the project's root: you are in {Path.cwd()}, type `cd {ROOT}` first."
                )
            with progress.report_progress():
                if progress.stage_name():
                    orphans.end_with_dvc()
                    lock_file.keep_copy()
                    checkpoint.remove_recorded()
                    with stage.checked(stage.read_stage(progress.stage_name())):
                        main()
                else:
                    main()
        except BrokenPipeError:  # `... | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes to it when it ends
            sys.exit(UNREAD)
        except (InputError, OSError) as error:
            if show_traceback:
                traceback.print_exc()
            sys.exit(f"error: {sentence(error)}")
        except KeyboardInterrupt:
            print(STOPPED, file=sys.stderr)
            sys.exit(INTERRUPTED)
        finally:
            signal.signal(signal.SIGINT, before)

    return guarded


def interrupt(*_: object) -> None:
    """Handle Ctrl-C: raise `KeyboardInterrupt`, and end the process `GRACE` seconds later if it still runs.

    Libraries lose exceptions that are raised in some of their callbacks; then a training would go on.
    """
    timer = threading.Timer(GRACE, stop)
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt
