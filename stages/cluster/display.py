"""What a user sees while workers run stages: in a terminal a table, elsewhere a line as a stage begins or ends."""

import time
from collections.abc import Callable

from distributed import Client
from rich.console import Console
from rich.live import Live
from rich.table import Table

from stages.cluster.worker import GPU, Done
from stages.common.progress import format_seconds

LINES = 15  # of what a failed stage printed that are shown


def end_of(log: str) -> str:
    """The end of what a stage printed, indented."""
    return "\n".join(f"  {line}" for line in log.rstrip().splitlines()[-LINES:])


class Output(Console):
    """A console that leaves the end of the program to `entry_point`, where nobody reads on: `... | head`.

    Attributes:
        unread: Whether that was so. In a thread of Dask's, the error itself is lost.
    """

    unread = False

    def on_broken_pipe(self) -> None:
        self.unread = True
        raise BrokenPipeError


class Attendance:
    """Says when a worker of a cluster is lost, and when none is left.

    Attributes:
        names: Of the workers, by address.
        gpus: The addresses of those that offer GPUs, of the workers that were there at the start.
    """

    def __init__(self, client: Client, say: Callable[[str], None]):
        self.say = say
        workers = client.scheduler_info(n_workers=-1)["workers"]
        self.names = {address: one["name"] for address, one in workers.items()}
        self.gpus = {address for address, one in workers.items() if one["resources"].get(GPU)}
        client.subscribe_topic("all", lambda event: self.count(**event[1]))

    def count(self, action: str = "", worker: str = "", expected: bool = True, **_: object) -> None:
        """Count the workers when Dask tells of one."""
        if action == "add-worker":
            self.names.setdefault(worker, worker)
        if action == "remove-worker":
            name = self.names.pop(worker, worker)
            if not expected:
                self.say(f"worker {name} was lost")
            if not expected and not self.names:
                self.say("no worker is left: this waits until one comes back; Ctrl-C ends it")
            elif self.gpus == {worker}:
                self.say("the last worker with GPUs is gone: trainings wait until one comes back; Ctrl-C ends it")
            self.gpus.discard(worker)


class Display:
    """A context in which stages run; it shows what runs, what waits, and the elapsed and expected time.

    Attributes:
        took: The seconds of the stages that have ended.
    """

    def __init__(self, names: list[str], slots: int, expected: dict[str, float | None]):
        """A display of the stages `names`, of which `slots` run at once, with expected seconds where they are known."""
        self.names, self.slots, self.expected = names, slots, expected
        self.began: dict[str, tuple[str, float]] = {}  # a stage that runs: its worker, and when it began
        self.took: dict[str, float] = {}
        self.started = time.time()
        self.console = Output(highlight=False)
        self.live = Live(get_renderable=self.table, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def hear(self, message: dict) -> None:
        """Show what a worker tells: that a stage begins, or what became of one."""
        if "done" in message:
            self.end(message["done"])
        else:
            self.begin(**message)

    def begin(self, name: str, where: str, when: float, **_: object) -> None:
        """Show that a stage runs on the worker `where` since `when`, in seconds since 1970."""
        again = name in self.began or self.took.pop(name, None) is not None
        self.began[name] = (where, when)
        self.say(f"{name} runs {'again, ' if again else ''}on worker {where}")

    def end(self, done: Done) -> None:
        """Show that a stage has ended, or will not run; once, though a worker and the scheduler tell of it.

        Raises:
            BrokenPipeError: Nobody reads what is shown.
        """
        name = done["stage"]
        if self.console.unread:
            raise BrokenPipeError
        if name in self.took:
            return
        self.took[name] = time.time() - self.began.pop(name, ("", time.time()))[1]
        seconds = format_seconds(self.took[name])
        if done["status"]:
            self.say(f"{name} failed after {seconds}")
        elif done["status"] is None:
            self.say(f"{name} does not run: {done['log']}")
        else:
            self.say(f"{name} ended after {seconds}")

    def say(self, sentence: str) -> None:
        """Print a line with the elapsed time and how much is left to run."""
        elapsed = format_seconds(time.time() - self.started)
        self.console.print(
            f"[{len(self.took)} of {len(self.names)} at {elapsed}] {sentence}", markup=False, soft_wrap=True
        )

    def table(self) -> Table:
        """What runs now, and a last line on what waits."""
        now = time.time()
        shown = Table(box=None, pad_edge=False)
        for title in ("worker", "stage", "elapsed", "expected"):
            shown.add_column(title, justify="left" if title in {"worker", "stage"} else "right")
        for name, (worker, since) in list(self.began.items()):
            usual = self.expected.get(name)
            shown.add_row(worker, name, format_seconds(now - since), "?" if usual is None else format_seconds(usual))
        waiting = len(self.names) - len(self.took) - len(self.began)
        shown.add_row("", f"{waiting} stages wait", format_seconds(now - self.started), self.left(now))
        return shown

    def left(self, now: float) -> str:
        """The expected time to the end: what is left to do, divided by the number of workers."""
        open_ = [name for name in self.names if name not in self.took]
        if any(self.expected.get(name) is None for name in open_):
            return ""
        seconds = sum(
            max(self.expected[name] - (now - self.began[name][1] if name in self.began else 0), 0) for name in open_
        )
        return f"{format_seconds(seconds / self.slots)} to go"
