"""What a user sees while workers run stages: in a terminal a table, elsewhere a line as a stage begins or ends."""

import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from stages.cluster.worker import Done
from stages.common.progress import format_seconds


class Display:
    """A context in which stages run; it shows what runs, what waits, and the elapsed and expected time.

    Attributes:
        took: The seconds of the stages that have ended.
    """

    def __init__(self, names: list[str], workers: list[str], slots: int, expected: dict[str, float | None]):
        """A display of the stages `names`, with expected seconds where they are known.

        `workers` are the addresses of those that run them, `slots` how many stages they run at once.
        """
        self.names, self.slots, self.expected = names, slots, expected
        self.workers: set[object] = set(workers)
        self.began: dict[str, tuple[str, float]] = {}  # a stage that runs: its worker, and when it began
        self.took: dict[str, float] = {}
        self.started = time.time()
        self.console = Console(highlight=False)
        self.live = Live(get_renderable=self.table, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def begin(self, name: str, where: str, when: float, **_: object) -> None:
        """Show that a stage runs on the worker `where` since `when`, in seconds since 1970."""
        again = name in self.began
        self.began[name] = (where, when)
        self.say(f"{name} runs {'again, ' if again else ''}on worker {where}")

    def count(self, action: str = "", **event: object) -> None:
        """Count the workers, and show that one was lost, when Dask says so."""
        if action == "add-worker":
            self.workers.add(event.get("worker"))
        if action == "remove-worker" and not event["expected"]:
            self.workers.discard(event["worker"])
            names = [key.rpartition("/")[0] for key in event["processing-tasks"]]
            places = {self.began[name][0] for name in names if name in self.began}
            self.say(f"worker {', '.join(places) or event['worker']} was lost")
            if not self.workers:
                self.say("no worker is left: the stages wait until one comes back; Ctrl-C ends this")

    def end(self, done: Done) -> None:
        """Show that a stage has ended, or will not run."""
        name = done["stage"]
        self.took[name] = time.time() - self.began.pop(name, ("", time.time()))[1]
        seconds = format_seconds(self.took[name])
        if done["status"]:
            self.say(f"{name} failed after {seconds}")
        elif done["status"] is None:
            self.say(f"{name} does not run: it needs a stage that failed")
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
        shown.add_row("", f"{waiting} wait", format_seconds(now - self.started), self.left(now))
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
