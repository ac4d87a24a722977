"""A soak test: SIGKILL at random moments of `make run`, again and again, until the graph is complete.

`make soak` runs it on drawn images and writes `tests/soak.csv`; `make test` runs a short form. A kill hits everything, or
`make run`, DVC or the stage alone. Half of the kills come at any moment, the others when a stage has begun to save its
results, or while DVC records them. At the end, all hashes in `dvc.lock` must be those of an undisturbed run.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, suppress
from pathlib import Path

import pandas as pd
import psutil
import yaml

from stages.common import checkpoint
from stages.common.files import write_csv
from stages.common.stage import read_stage
from tests.conftest import ENVIRONMENT, ROOT, build, commit, edit, run

RESULTS = ROOT / "tests" / "soak.csv"
COLUMNS = ("stage", "aim", "works", "victim", "seconds", "epochs_repeated", "orphans", "by_hand")
SAVING, RECORDING = "saving", "recording"
AIMS = {"any": 2, SAVING: 1, RECORDING: 1}  # with the weights of their chances
VICTIMS = ("everything", "make run", "DVC", "stage")
PROGRAMS = {"DVC": {"dvc", "repro"}, "stage": {"-E", "-m"}}  # words of their command lines
PATIENCE = 900  # seconds in which a stage that is waited for begins
NEVER_THE_SAME = ("reports/timing", "reports/report.html")  # wall times


def start(folder: Path) -> subprocess.Popen:
    """`make run` without its installation, in a process group of its own, with a checkpoint after each epoch."""
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "stages.run"],
            cwd=folder,
            env=ENVIRONMENT | {checkpoint.EVERY: "0"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def hashes(folder: Path) -> dict[str, str]:
    """The MD5 of each result in `dvc.lock` that does not hold wall times."""
    entries = yaml.safe_load((folder / "dvc.lock").read_text())["stages"].values()
    return {
        result["path"]: result["md5"]
        for entry in entries
        for result in entry.get("outs", [])
        if not result["path"].startswith(NEVER_THE_SAME)
    }


def sections(log: str) -> Iterator[tuple[str, str]]:
    """The stages that a run began, each with what was printed from then on."""
    _, *parts = re.split(r"^Running stage '(.*)':\n", log, flags=re.MULTILINE)
    yield from zip(parts[::2], parts[1::2], strict=True)


def epochs_of(text: str) -> list[str]:
    """The epochs that a stage began, as Keras prints them: `3/20`."""
    return re.findall(r"^Epoch (\d+/\d+)$", text, re.MULTILINE)


def place_of(again: list[str], expected: list[str], begun: int, ended: bool) -> int:
    """The place, among the epochs of an undisturbed training, of the first one that begins after a kill.

    Args:
        again: The epochs that begin after the kill, as Keras prints them; teachers and folds have some of the same names.
        expected: All epochs, in order.
        begun: How many of them had begun before.
        ended: Whether the training came to its end.
    """
    if ended:
        return len(expected) - len(again)
    return max(place for place in range(begun + 1) if expected[place : place + len(again)] == again)


def running(folder: Path) -> list[psutil.Process]:
    """The processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.pid != os.getpid()
                and process.status() != psutil.STATUS_ZOMBIE
                and Path(process.cwd()) == folder
            ):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def programs(folder: Path, kind: str) -> list[psutil.Process]:
    """The processes of a kind, `"DVC"` or `"stage"`, that work in a folder."""
    found = []
    for one in running(folder):
        try:
            if PROGRAMS[kind] <= set(one.cmdline()) and one.name() not in {"sh", "dash"}:
                found.append(one)
        except psutil.Error:
            continue
    return found


def wait_for_results(process: subprocess.Popen, folder: Path, target: str, aim: str) -> None:
    """Wait until a stage that runs begins to save its results, or has saved them and ended; or until the run ends."""
    with chdir(folder):
        results = read_stage(target).results
    if not results:  # of `fetch`, they persist
        results = (Path("data/raw/train-images-idx3-ubyte.gz"),)
    large = [path for path in results if path.parts[0] == "data"] or results  # a training's history is there early

    def has_begun() -> bool:
        return any(
            (folder / path).exists() or any((folder / path.parent).glob(f".{path.stem}.part*")) for path in large
        )

    while process.poll() is None and not has_begun():
        time.sleep(0.005)
    while aim == RECORDING and process.poll() is None and programs(folder, "stage"):
        time.sleep(0.005)


def kill(process: subprocess.Popen, folder: Path, victim: str) -> int:
    """Kill a part of a run or all of it, wait for the rest, and return how many processes are still there in the end.

    They have 5 s. If `make run` alone is killed while DVC works, they have 30 s: DVC records what had ended and begins the
    next stage, which ends at once.
    """
    if victim == "everything":
        os.killpg(process.pid, signal.SIGKILL)
    elif victim == "make run":
        process.kill()
    else:
        for one in programs(folder, victim):
            with suppress(psutil.Error):
                one.kill()
    process.wait()
    until = time.monotonic() + (30 if victim == "make run" and programs(folder, "DVC") else 5)
    while running(folder) and time.monotonic() < until:
        time.sleep(0.1)
    left = running(folder)
    for one in left:
        one.kill()
    return len(left)


def help_by_hand(folder: Path) -> int:
    """Type what the last run said about a lock of git that a killed process left; returns how many commands it were."""
    commands = re.findall(r"If none is running, type `rm '(.*)'`", (folder / "log").read_text())
    for path in commands:
        Path(path).unlink(missing_ok=True)
    return len(commands)


def disturb(folder: Path, kills: int, took: dict[str, float], epochs: dict[str, list[str]], seed: int) -> list[dict]:
    """Run the graph to its end, with at most so many kills. Returns one row per kill, with the keys `COLUMNS`.

    Args:
        folder: A copy of the project in which nothing has run.
        kills: Their number, at most: the graph may be complete before.
        took: The seconds of each stage in an undisturbed run.
        epochs: The epochs of each stage in an undisturbed run.
        seed: Of the moments and the victims.
    """
    chance, rows = random.Random(seed), []
    done: set[str] = set()
    begun: dict[str, int] = {}
    while True:
        left = [name for name in took if name not in done]
        target = chance.choice(left[:2]) if left and len(rows) < kills else ""
        begins = re.compile(f"(Running stage|Stage) '{re.escape(target)}'")
        process = start(folder)
        until = time.monotonic() + PATIENCE
        while process.poll() is None and not (target and begins.search((folder / "log").read_text())):
            assert time.monotonic() < until, f"{target or 'the end'} did not come"
            time.sleep(0.02)
        (aim,) = chance.choices(list(AIMS), AIMS.values())
        row = dict.fromkeys(COLUMNS, 0) | {"aim": aim, "victim": chance.choice(VICTIMS)}
        if target and aim != "any":
            wait_for_results(process, folder, target, aim)
        latest = {"any": 1.2 * took.get(target, 0) + 1, SAVING: 0.1, RECORDING: 0.5}[aim]
        row["seconds"] = round(chance.uniform(0, latest), 2)
        killed = False
        try:
            process.wait(row["seconds"] if target else None)
        except subprocess.TimeoutExpired:
            killed = True
            row["works"] = "the stage" if programs(folder, "stage") else "DVC"  # which prepares a stage, or records one
            if row["works"] == "DVC" and row["victim"] == "stage":
                row["victim"] = "DVC"
            row["orphans"] = kill(process, folder, row["victim"])
        log = (folder / "log").read_text()
        parts = list(sections(log))
        for name, text in parts:
            if again := epochs_of(text):
                ended = name != parts[-1][0] or process.returncode == 0
                first = place_of(again, epochs[name], begun.get(name, 0), ended)
                if name in begun:
                    last = [one for one in rows if one["stage"] == name][-1]
                    last["epochs_repeated"] = begun[name] - first
                begun[name] = first + len(again)
        if process.returncode == 0:
            return rows
        if killed:
            rows.append(row | {"stage": parts[-1][0] if parts else "check"})
            print(rows[-1], flush=True)
            done |= {name for name, _ in parts[:-1]} | set(re.findall(r"^Stage '(.*)' ", log, re.MULTILINE))
        else:
            helped = help_by_hand(folder)
            assert helped, f"a run failed:\n{(folder / 'log').read_text()}"
            rows[-1]["by_hand"] += helped


def clean_copy(finished: Path, folder: Path) -> Path:
    """A clone of a project in which the graph has run, without results and with a cache of its own."""
    run(folder.parent, "git", "clone", "--quiet", str(finished), str(folder))
    for entry in yaml.safe_load((folder / "dvc.lock").read_text())["stages"].values():
        for result in entry.get("outs", []):
            run(folder, "rm", "-rf", result["path"])  # of those that git has
    (folder / "dvc.lock").unlink()
    commit(folder, "No results")
    return folder


def files(folder: Path) -> set[str]:
    """The paths of the files of a project, without git's and DVC's own, bytecode and logs."""
    own = {".git", "__pycache__", ".dvc", "log", "first_run.log"}
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if not own & set(path.parts)}


def check(folder: Path, expected: dict[str, str], present: set[str], but: tuple[str, ...] = ()) -> None:
    """Fail if a graph that was disturbed has other results than one that was not, or if something is left.

    Args:
        folder: Where it ran.
        expected: The MD5s of the results of an undisturbed run.
        present: Its `files`.
        but: How the paths of results begin that may differ.
    """
    found = hashes(folder)
    others = [path for path in found | expected if found.get(path) != expected.get(path) and not path.startswith(but)]
    assert not others, f"other results after kills: {others}"
    assert not running(folder)
    assert files(folder) == present
    left = [*folder.rglob("*.part*"), *folder.rglob("*.checkpoint"), *folder.rglob("index.lock")]
    assert not left, left
    assert "up to date" in run(folder, "dvc", "status")


def undisturbed(folder: Path) -> tuple[dict[str, float], dict[str, list[str]]]:
    """The seconds of each stage that an undisturbed run took, in order, and its epochs."""
    process = start(folder)
    assert process.wait() == 0, (folder / "log").read_text()
    seconds = dict(pd.read_csv(folder / "reports/timing/stages.csv").itertuples(index=False))
    epochs = {name: epochs_of(text) for name, text in sections((folder / "log").read_text())}
    return {name: seconds[name] for name in epochs}, epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=3000, help="of one model, so that its training takes minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--more", action="store_true", help="keep the kills of the last run, and add to them")
    given = parser.parse_args()
    rows = pd.read_csv(RESULTS).to_dict("records") if given.more else []
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary) / "base"
        base.mkdir()
        build(base)
        gently = {"epochs": given.epochs, "learning_rate": 0.00001}
        edit(base, lambda content: content["models"]["plain"].update(gently))
        teachers = {"teachers": [2, 3], "distillation_weight": 0.5, "patience": 2}
        edit(base, lambda content: content["models"]["small"].update(teachers))
        commit(base, "Longer trainings")
        first = clean_copy(base, Path(temporary) / "first")
        took, epochs = undisturbed(first)
        expected = hashes(first)
        print(f"undisturbed: {sum(took.values()):.0f} s, train@plain-0 {took['train@plain-0']:.0f} s", flush=True)
        while len(rows) < given.kills:
            folder = clean_copy(base, Path(temporary) / f"run-{len(rows)}")
            found = disturb(folder, given.kills - len(rows), took, epochs, given.seed + len(rows))
            check(folder, expected, files(first))
            rows += found
            assert not any(row["orphans"] for row in rows)
            assert max(row["epochs_repeated"] for row in rows) <= 1
            print(f"{len(rows)} kills; {len(expected)} results as in an undisturbed run", flush=True)
            shutil.rmtree(folder)
            write_csv(RESULTS, pd.DataFrame(rows, columns=COLUMNS))


if __name__ == "__main__":
    main()
