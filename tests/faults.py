"""Writes `tests/README.md`, the faults that tests are marked with (`pytest.mark.fault`): `make readme` calls it."""

import ast
from pathlib import Path

import pandas as pd
from tabulate import tabulate

TESTS = Path(__file__).parent
README = TESTS / "README.md"

SOAK = TESTS / "soak.csv"  # one row per kill: see `tests/soak.py`
FUZZING = TESTS / "fuzz.csv"  # one row per reader: see `tests/fuzz.py`
SIMULATION = TESTS / "simulation.csv"  # one row per graph: see `tests/simulation.py`

HEAD = """# Tests

`make test` runs them: offline, from a fresh clone, on small data that they make; where the publisher's files lie on this
machine, a few use them. `make verify` runs those that compare what is committed with itself, which fail on a machine with
other results. The tests have models of their own, in `tests/models`: each of the project's may be removed. `make coverage`
runs them all, and counts the lines of `stages/` that they run: [lines.md](lines.md). Most of what is missing there
is the page of `make app`, whose tests need a browser, and the installer, which runs on a Python that counts nothing.

The table says what can go wrong, and what happens instead: one row per fault, with the test that fails without the remedy.
`make readme` writes it from the tests' marks.
"""

SOAK_HEAD = """
## Kills at random moments

`make soak` kills `make run` (SIGKILL) on drawn images, with a checkpoint after each epoch, and starts it again: {kills}
kills ({victims}), {works} of them while no stage ran, but DVC prepared or recorded one. Half come at any moment; {aimed}
were aimed at a stage that had begun to save its results, or at DVC as it recorded them. After each graph, all hashes in
`dvc.lock` were those of an undisturbed run, wall times aside, and no file was left. Commands that had to be typed by hand,
as an error said: {by_hand}. The epoch that was running at a kill is repeated. By default, checkpoints are a minute apart;
then it is the epochs since the last one. Processes have 5 s to end; where `make run` alone was killed while DVC worked,
30 s: DVC records what had ended, and begins the next stage, which ends at once.
"""

FUZZING_HEAD = """
## Bytes that nobody thought of

`python -m tests.fuzz READER` changes bytes of valid files and keeps those that reach new lines of Python (Atheris). In the
last runs, each reader took what it got or refused it with a sentence, within 10 seconds and 2 GiB of memory. What earlier
runs found is an input of the tests.
"""

SIMULATION_HEAD = """
## What the scheduler costs

`python -m tests.simulation` runs graphs of the project's shape, whose stages only sleep for a second, on 100 workers in one
process. Its processor time, divided by the number of stages, is what the scheduler adds to the work of a stage. Not in it:
a worker starts a process in which DVC runs the stage, and `dvc repro` collects the results in the end. Before all that,
`stages.parallel` plans: it asks DVC what changed.
"""


def faults() -> list[tuple[str, str, str]]:
    """One row per marked test, in the order of the files: what goes wrong, what happens, the test."""
    rows = []
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    wrong, happens = (ast.literal_eval(argument) for argument in mark.args)
                    rows.append((wrong, happens, f"`{path.name}::{node.name}`"))
    return rows


def soak() -> str:
    """The section on the soak test, from `tests/soak.csv`; empty if that was not run."""
    if not SOAK.exists():
        return ""
    kills = pd.read_csv(SOAK)
    by_stage = kills.groupby("stage", sort=False).agg(
        kills=("victim", "size"),
        saving=("aim", lambda aims: (aims == "saving").sum()),
        recording=("aim", lambda aims: (aims == "recording").sum()),
        epochs_repeated=("epochs_repeated", "max"),
        orphans=("orphans", "sum"),
    )
    names = (
        "killed in, or after the end of",
        "kills",
        "as it saved",
        "as DVC recorded it",
        "epochs repeated, at most",
        "processes left",
    )
    table = tabulate(by_stage.itertuples(), names, tablefmt="pipe")
    victims = ", ".join(f"{count} hit {victim}" for victim, count in kills["victim"].value_counts().items())
    works = (kills["works"] == "DVC").sum()
    aimed, by_hand = (kills["aim"] != "any").sum(), kills["by_hand"].sum()
    return (
        SOAK_HEAD.format(kills=len(kills), victims=victims, works=works, aimed=aimed, by_hand=by_hand) + f"\n{table}\n"
    )


def fuzzing() -> str:
    """The section on fuzzing, from `tests/fuzz.csv`; empty if that was not run."""
    if not FUZZING.exists():
        return ""
    table = tabulate(
        pd.read_csv(FUZZING).itertuples(index=False), ("reader", "seconds", "inputs"), tablefmt="pipe", intfmt=","
    )
    return f"{FUZZING_HEAD}\n{table}\n"


def simulation() -> str:
    """The section on the cost of the scheduler, from `tests/simulation.csv`; empty if that was not run."""
    if not SIMULATION.exists():
        return ""
    names = ("stages", "seconds", "seconds without any cost", "processor time a stage, ms", "to plan a stage, ms")
    table = tabulate(pd.read_csv(SIMULATION).itertuples(index=False), names, tablefmt="pipe")
    return f"{SIMULATION_HEAD}\n{table}\n"


def readme() -> str:
    """The text of `tests/README.md`."""
    table = tabulate(faults(), ("what goes wrong", "what happens", "test"), tablefmt="pipe", disable_numparse=True)
    return f"{HEAD}\n{table}\n{soak()}{fuzzing()}{simulation()}"


if __name__ == "__main__":
    README.write_text(readme(), encoding="utf-8", newline="\n")
