"""Runs stages in the project itself, several at once, each as `dvc repro --single-item` does."""

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages.base.environment import cores
from stages.cluster.copies import Outcome, Results, failure
from stages.runner.commands import environment
from stages.runner.dvc_files import read_text
from stages.runner.progress import COSTS_VARIABLE, LOGS_VARIABLE

LOGS = Path(".dvc/tmp/logs")  # NAME.log: what a stage printed when it last ran
GPUS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # the second in WSL
OPENING = threading.Lock()  # DVC sets the umask of the process for a moment when it opens a repository
ENDING_SECONDS = 5  # for stages to end by themselves after Ctrl-C


def jobs_for(threads: int) -> int:
    """How many stages run at once by default: as many as the cores allow; on a GPU, whose memory TensorFlow takes, one."""
    return 1 if any(path.exists() for path in GPUS) else max(1, cores() // threads)


class Here:
    """Runs stages in the project: see `running_here`."""

    remote = False  # whether results have to come from elsewhere

    def __init__(self, slots: int):
        """For so many stages at once."""
        self.slots, self.executor = slots, ThreadPoolExecutor(slots)
        self.futures: list[Future[Outcome]] = []

    def submit(self, name: str, results: Results) -> Future[Outcome]:
        """Run a stage; return a future of what became of it. `results` are none: all are in the project."""
        self.futures.append(self.executor.submit(reproduce, name))
        return self.futures[-1]


@contextmanager
def running_here(slots: int) -> Iterator[Here]:
    """A pool in the project. Where the context ends early, as by Ctrl-C, the stages that run are ended."""
    LOGS.mkdir(parents=True, exist_ok=True)
    for name, level in (("dvc", logging.WARNING), ("dvc.progress", logging.CRITICAL)):  # its lines, and its bars
        logging.getLogger(name).setLevel(level)
    before, variables = signal.signal(signal.SIGINT, signal.default_int_handler), dict(os.environ)
    with tempfile.TemporaryDirectory() as costs:
        needed = environment() | {LOGS_VARIABLE: str(LOGS.resolve()), COSTS_VARIABLE: costs}
        os.environ.clear()
        os.environ.update(needed)
        pool = Here(slots)
        try:
            yield pool
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print("\nstopping; the stages that ended are kept. Type the command again to go on.", flush=True)
            wait(pool.futures, ENDING_SECONDS)  # in a terminal, they got Ctrl-C, too
            raise
        finally:
            number = signal.SIGINT
            while wait(pool.futures, 0).not_done:
                for child in psutil.Process().children(recursive=True):
                    with suppress(psutil.Error):
                        child.send_signal(number)
                wait(pool.futures, ENDING_SECONDS)
                number = signal.SIGKILL
            pool.executor.shutdown()
            signal.signal(signal.SIGINT, before)
            os.environ.clear()
            os.environ.update(variables)


def reproduce(name: str) -> Outcome:
    """Run a stage by DVC, unless nothing changed; return what became of it."""
    began, log, error, changed = time.monotonic(), LOGS / f"{name}.log", "", True
    log.unlink(missing_ok=True)
    try:
        with OPENING:
            repo = Repo(_wait_for_lock=True)
        with repo:
            changed = repo.reproduce(name, single_item=True)
    except Exception as raised:  # of DVC, or of any library that it uses
        kind = "" if isinstance(raised, DvcException) else f"{type(raised).__name__}: "
        error = f"{kind}{': '.join(str(one) for one in (raised, raised.__cause__) if one)}\n"
    took = read_text(Path(os.environ[COSTS_VARIABLE], name)) or None
    printed = read_text(log) if changed else "nothing that it needs changed\n"
    done = failure(name, f"{printed}{error}", int(bool(error)))
    return done | {"seconds": time.monotonic() - began, "took": took}
