"""Search for better parameters of a model: `python -m stages.search MODEL --trials 40`, or `make search MODEL=sprint`.

What may be tried stands in the section `search` of `params.yaml`. A trial is stage `train@MODEL-SEED` with other values, on
a worker (see `stages.parallel`) whose copy of the project holds no test data; the first of `seeds` is used. Trials that do
worse than others are stopped. The best ones, and the model's block as it is, are then trained with other seeds. This
command is no stage, and changes no result of the pipeline. Type it again to go on with a search that was stopped.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import queue
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from dvc.repo import Repo
from dvc.stage.serialize import to_single_stage_lockfile

from stages import models
from stages.cluster import worker
from stages.cluster.clusters import ByValue
from stages.cluster.command import add_options, alone, refuse_options, workers_for
from stages.cluster.display import Attendance, end_of
from stages.cluster.execution import asked_for, result_of
from stages.cluster.plan import Plan
from stages.cluster.step import restore
from stages.cluster.worker import Done
from stages.common.commands import environment, repro, run_stage
from stages.common.entry import entry_point
from stages.common.environment import versions
from stages.common.errors import InputError
from stages.common.files import write_csv
from stages.common.orphans import RUN
from stages.common.parameters import read_parameters, unknown
from stages.common.runs import HISTORY, METRICS, MODELS, run_name
from stages.common.splits import load_summary
from stages.figures import search as figures
from stages.tuning import finalists, study
from stages.tuning.ranges import Range, read_ranges

if TYPE_CHECKING:  # `stages.cluster` says what to type where it is not installed
    from distributed import Client, Future

FOLDER = Path("reports/search")
CANDIDATES = 3  # the best trials that are trained with other seeds
HOPELESS = 3  # so many failures before any success end the search
PRESENT = "block"  # the name of the model's block as it is, among the finalists
LOCK = "dvc.lock"


@dataclass(frozen=True)
class Task:
    """A training on a worker.

    Attributes:
        model: Its name.
        seed: Of the run.
        values: Of the block, for this run.
    """

    model: str
    seed: int
    values: dict[str, Any]

    def overrides(self) -> list[str]:
        """The values as for `dvc exp run --set-param`."""
        return [f"models.{self.model}.{key}={shortest(value)}" for key, value in self.values.items()]

    def submit(self, client: Client, token: str, key: str, resources: dict[str, int] | None) -> Future:
        """Let a worker do it."""
        run = run_name(self.model, self.seed)
        return client.submit(
            ByValue(worker.run_trial),
            token,
            f"train@{run}",
            [*self.overrides(), f"seeds=[{self.seed}]"],
            str(HISTORY / f"{run}.csv"),
            [str(METRICS / "val" / f"{run}.json"), LOCK],
            key=key,
            resources=resources,
        )


def shortest(value: Any) -> str:
    """A value of a parameter as JSON without spaces, which is also DVC's notation."""
    return json.dumps(value, separators=(",", ":"))


def line_of(task: Task) -> str:
    """The command that repeats a run in the project."""
    values = [part for one in task.overrides() for part in ("-S", one)]
    return shlex.join(["dvc", "exp", "run", *values, f"train@{run_name(task.model, task.seed)}"])


def arguments() -> argparse.Namespace:
    """The options of the command line: model, trials, seeds, and those of `add_options`.

    Raises:
        InputError: An option has a wrong value.
    """
    parser = argparse.ArgumentParser(
        prog="python -m stages.search", description="Search for better parameters of a model, by validation accuracy."
    )
    parser.add_argument("model", metavar="MODEL", help="a model that has ranges in the section `search` of params.yaml")
    parser.add_argument("--trials", type=int, default=40, help="trials in all, earlier ones included (default: 40)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each of the best (default: 5)")
    add_options(parser)
    given = parser.parse_args()
    for name, least in (("trials", 1), ("seeds", 2)):
        if getattr(given, name) < least:
            raise InputError(f"--{name} is {getattr(given, name)}, but must be {least} or more.")
    searched = list(read_parameters("search"))
    if not searched:
        raise InputError("params.yaml has no section `search`, whose ranges say what may be tried: see README.md.")
    if given.model not in searched:
        raise InputError(
            f"params.yaml has no section search.{given.model}; {unknown(given.model, searched, 'models with ranges')}"
        )
    refuse_options(given)
    return given


def conditions_of(stage: str, model: str, ranges: dict[str, Range]) -> dict[str, Any]:
    """All that the results of a search depend on: what `stage` reads, the ranges instead of what they change, versions."""
    with Repo(".") as repo:
        (found,) = repo.stage.collect(stage)
        found.save_deps()
        entry = to_single_stage_lockfile(found)
    parameters = {name: value for read in entry["params"].values() for name, value in read.items()}
    block = {key: value for key, value in parameters.pop(f"models.{model}").items() if key not in ranges}
    return {
        "stage": stage,
        "read": {dep["path"]: dep["md5"] for dep in entry["deps"]},
        "parameters": parameters | {"block": block},
        "ranges": {key: str(one) for key, one in ranges.items()},
        "versions": versions(),
    }


def say(text: str) -> None:
    print(text, flush=True)


class Workers:
    """Trainings that run on the workers of a cluster, and what they tell."""

    def __init__(self, client: Client, token: str, stage: str, name: str):
        """Workers of a cluster, with copies of the project of this `token`; trainings such as `stage`, and their `name`."""
        self.client, self.token, self.name = client, token, f"{name}-{token}"
        offered = [
            one["resources"].get(worker.GPU, 0) for one in client.scheduler_info(n_workers=-1)["workers"].values()
        ]
        asked = asked_for(Plan((), {stage: ()}, {stage: read_parameters("devices")}), offered)
        self.resources = {worker.GPU: asked[stage]} if asked else None
        self.running: dict[str, Future] = {}
        self.told: queue.SimpleQueue = queue.SimpleQueue()
        Attendance(client, say)
        client.subscribe_topic(f"{worker.TRIALS}-{token}", lambda event: self.told.put(event[1]))

    def have_room(self) -> bool:
        """Whether a worker has nothing to do; if no worker is left, one training waits for the next."""
        return len(self.running) < max(1, sum(self.client.nthreads().values()))

    def start(self, number: int | str, task: Task) -> str:
        """Let a worker do this; return its key."""
        key = f"{self.name}-{number}"
        self.running[key] = task.submit(self.client, self.token, key, self.resources)
        self.running[key].add_done_callback(lambda future: self.told.put({"key": future.key}))
        return key

    def next(self) -> dict[str, Any]:
        """Wait for what a running training tells: `key`; and `history` and `seconds`, unless it has ended."""
        while (event := self.told.get())["key"] not in self.running:
            pass
        return event

    def stop(self, key: str) -> None:
        """Stop a training."""
        self.running.pop(key).cancel()

    def result(self, key: str) -> Done:
        """What became of a training that has ended. Raises `InputError` if nobody knows."""
        done = result_of(self.running.pop(key))
        if done["status"] is None:
            raise InputError(f"{done['log']}. What has ended is kept: type the command again to go on.")
        return done


def search(
    workers: Workers, found: study.Study, ranges: dict[str, Range], task: Task, epochs: int, trials: int
) -> None:
    """Run trials until so many have ended; write their table whenever one has.

    Args:
        workers: Run them.
        found: The study, with earlier trials.
        ranges: Of each key.
        task: Model and seed; its values do not matter.
        epochs: Of the model's block.
        trials: In all, with earlier ones.

    Raises:
        InputError: The first trials all failed.
    """
    running: dict[str, study.Trial] = {}
    while len(study.ended(found)) < trials or running:
        while len(study.ended(found)) + len(running) < trials and workers.have_room():
            trial = study.propose(found, ranges)
            one = Task(task.model, task.seed, trial.user_attrs["values"])
            running[workers.start(trial.number, one)] = trial
        event = workers.next()
        trial, failure = running[event["key"]], ""
        if "history" in event:
            accuracies = pd.read_csv(io.StringIO(event["history"]))["val_accuracy"].tolist()
            if not study.report(trial, accuracies, trial.user_attrs["values"].get("epochs", epochs)):
                continue
            workers.stop(event["key"])
            trial.set_user_attr("seconds", round(event["seconds"], 1))
            found.tell(trial, state=study.TrialState.PRUNED)
            say(f"trial {trial.number}: stopped at {100 * accuracies[-1]:.2f} % after {len(accuracies)} epochs")
        else:
            result = workers.result(event["key"])
            failure = end_of(result["log"]) if result["status"] else ""
            end(found, trial, result, task)
        del running[event["key"]]
        write_csv(FOLDER / f"{task.model}.csv", study.table(found, list(ranges)))
        past = study.ended(found)
        if failure and len(past) >= HOPELESS and all(study.state(one) == "failed" for one in past):
            raise InputError(f"all {len(past)} trials failed. The end of what the last one printed:\n{failure}")


def end(found: study.Study, trial: study.Trial, result: Done, task: Task) -> None:
    """Note what became of a trial that has ended."""
    trial.set_user_attr("seconds", round(result["seconds"], 1))
    if result["status"]:
        lines = result["log"].rstrip().splitlines() or [f"it exited with {result['status']}"]
        reason = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
        trial.set_user_attr("reason", reason.removeprefix("error: "))
        found.tell(trial, state=study.TrialState.FAIL)
        say(f"trial {trial.number}: failed: {trial.user_attrs['reason']}")
        return
    metrics = metrics_of(result)
    trial.set_user_attr("epochs", metrics["network"][0]["epochs"])
    trial.set_user_attr("processor", processor_of(metrics))
    trial.set_user_attr("model_md5", md5_of(result, run_name(task.model, task.seed)))
    trial.set_user_attr("runs", result["runs"])
    found.tell(trial, metrics["accuracy"])
    say(
        f"trial {trial.number}: {100 * metrics['accuracy']:.2f} % in {result['seconds']:.0f} s; "
        f"best: {100 * found.best_value:.2f} %, trial {found.best_trial.number}"
    )


def metrics_of(result: Done) -> dict:
    """The validation metrics of a training that succeeded."""
    (text,) = (text for path, text in result["files"].items() if path.startswith(f"{METRICS}/"))
    return json.loads(text)


def processor_of(metrics: dict) -> str:
    """The processor of a training with these metrics."""
    return metrics["conditions"][0]["processor"]


def md5_of(result: Done, run: str) -> str:
    """The MD5 of the model's file of a training that succeeded."""
    entry = result["files"][LOCK].partition(f"\n  train@{run}:\n")[2]
    return re.search(rf"path: {re.escape(str(MODELS / run))}\.keras\n +hash: md5\n +md5: (\w+)", entry)[1]


def with_seeds(
    workers: Workers, model: str, configurations: dict[str, dict], seeds: list[int]
) -> dict[str, list[dict]]:
    """Train a model with the values of each configuration and each seed; return validation metrics, by seed.

    A configuration that fails with any seed is left out, and a sentence says so.

    Raises:
        InputError: The model's block as it is failed, or all others did.
    """
    waiting = [(name, seed) for seed in seeds for name in configurations]
    running: dict[str, tuple[str, int]] = {}
    metrics: dict[tuple[str, int], dict] = {}
    while waiting or running:
        while waiting and workers.have_room():
            name, seed = waiting.pop(0)
            running[workers.start(f"{name}-{seed}", Task(model, seed, configurations[name]))] = name, seed
        event = workers.next()
        if "history" in event:
            continue
        name, seed = running.pop(event["key"])
        result = workers.result(event["key"])
        if result["status"]:
            failure = f"{name} failed with seed {seed}. The end of what it printed:\n{end_of(result['log'])}"
            configurations = {other: values for other, values in configurations.items() if other != name}
            if name == PRESENT or list(configurations) == [PRESENT]:
                raise InputError(failure)
            say(f"{failure}\n{name} is left out.")
            waiting = [one for one in waiting if one[0] != name]
            for key in [key for key, one in running.items() if one[0] == name]:
                workers.stop(key)
                del running[key]
            continue
        metrics[name, seed] = metrics_of(result)
        say(f"{name}, seed {seed}: {100 * metrics[name, seed]['accuracy']:.2f} %")
    return {name: [metrics[name, seed] for seed in seeds] for name in configurations}


def ranked(
    metrics: dict[str, list[dict]], configurations: dict[str, dict], seeds: list[int], confidence: float
) -> pd.DataFrame:
    """The table of `finalists.compare`, with columns for each seed, for each value, and for the processors."""
    accuracies = {name: [one["accuracy"] for one in trained] for name, trained in metrics.items()}
    table = finalists.compare(accuracies, PRESENT, confidence)
    names = table["configuration"]
    for place, seed in enumerate(seeds):
        table[f"seed_{seed}"] = [accuracies[name][place] for name in names]
    for key in configurations[PRESENT]:
        table[key] = [study.cell(configurations[name][key]) for name in names]
    table["processor"] = ["; ".join(sorted(set(map(processor_of, metrics[name])))) for name in names]
    return table


def draw(
    table: pd.DataFrame, found: study.Study, ranges: dict[str, Range], values: dict[str, Any], dataset: str, model: str
) -> None:
    """Draw and save the figures of all trials, of which at least one is complete; `values` are those of the block."""
    block = (table["state"] == "complete") & (table[list(ranges)] == [study.cell(values[key]) for key in ranges]).all(
        axis=1
    )
    present = table["val_accuracy"][block].max() if block.any() else None
    logarithmic = {key: getattr(one, "log", False) for key, one in ranges.items()}
    figures.draw_history(table, present, FOLDER / f"{model}-history.png", dataset)
    figures.draw_importance(study.importance(found), FOLDER / f"{model}-importance.png", dataset)
    figures.draw_slices(table, logarithmic, FOLDER / f"{model}-slices.png", dataset)


def verdict(best: pd.Series, seeds: list[int]) -> str:
    """The advantage of the best trial over the model's block, in words."""
    text = (
        f"{best['configuration']}, mean of seeds {seeds[0]} to {seeds[-1]}: {100 * best['val_accuracy']:.2f} % of the "
        f"validation images are right, {100 * best['advantage']:+.2f} points compared with the block"
    )
    if pd.isna(best["advantage_low"]):
        return f"{text}. No accuracy varied with the seed."
    better = "significantly better" if best["advantage_low"] > 0 else "not significantly better"
    if best["advantage"] <= 0:
        better = "not better, so keep the block"
    return f"{text} ({100 * best['advantage_low']:+.2f} to {100 * best['advantage_high']:+.2f}): {better}."


@entry_point
def main() -> None:
    given = arguments()
    os.environ |= environment() | {RUN: str(os.getpid())}  # for DVC in and below this process, and for workers here
    run_stage("check", quiet=True)
    model, block = given.model, models.read_block(given.model)
    section, all_seeds, confidence = read_parameters("search", "seeds", "statistics.confidence")
    ranges = read_ranges({model: section[model]}, {model: block})[model]
    seed, values = all_seeds[0], block.model_dump()
    seeds = list(range(seed + 1, seed + 1 + given.seeds))  # not that of the trials, which flatters the best of them
    stage, task = f"train@{run_name(model, seed)}", Task(model, seed, {})
    with alone():
        if status := repro("--quiet", "prepare"):
            sys.exit(status)
        dataset = load_summary()["dataset"]
        found = study.open_study(model, conditions_of(stage, model, ranges))
        if not study.propose_first(found, ranges, values):
            say(f"note: the present block of {model} lies outside of its ranges, and is no trial.")
        say(f"study {found.study_name}: {len(study.ended(found))} of {given.trials} trials have ended")
        with workers_for(given) as (client, token):
            workers = Workers(client, token, stage, found.study_name)
            search(workers, found, ranges, task, block.epochs, given.trials)
            table = study.table(found, list(ranges))
            write_csv(FOLDER / f"{model}.csv", table)
            candidates = {f"trial {one.number}": one for one in study.best(found, CANDIDATES, values)}
            if not candidates:
                say("no trial with other values than the block's is complete: try more trials.")
                return
            draw(table, found, ranges, values, dataset, model)
            configurations = {name: one.user_attrs["values"] for name, one in candidates.items()}
            configurations[PRESENT] = {key: values[key] for key in ranges}
            metrics = with_seeds(workers, model, configurations, seeds)
        compared = ranked(metrics, configurations, seeds, confidence)
        write_csv(FOLDER / f"{model}-finalists.csv", compared)
        columns = [f"seed_{one}" for one in seeds]
        figures.draw_finalists(compared, columns, confidence, FOLDER / f"{model}-finalists.png", dataset)
        best = compared[compared["configuration"] != PRESENT].iloc[0]
        winner = candidates[best["configuration"]]
        if winner.user_attrs["runs"]:
            restore(winner.user_attrs["runs"])
    processors = sorted({*table["processor"].dropna(), *compared["processor"]})
    if len(processors) > 1:
        say(f"note: different processors give slightly different numbers. Here: {'; '.join(processors)}.")
    say(verdict(best, seeds))
    say(
        f"{FOLDER}/{model}*: all trials, the best ones over seeds, figures. To have {best['configuration']} in the project:"
    )
    say(line_of(Task(model, seed, winner.user_attrs["values"])))


if __name__ == "__main__":
    main()
