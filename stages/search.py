"""Search for better parameters of a model: `python -m stages.search MODEL --trials 40`, or `make search MODEL=sprint`.

What may be tried stands in the section `search` of `params.yaml`. A trial is stage `train@MODEL-SEED` with other values, in
a copy of the project without test data; the first of `seeds` is used. Bad trials are stopped. The best ones, and the block
as it is, are then trained with other seeds. This command is no stage, and changes no result of the pipeline.
"""

import argparse
import json
import shlex
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from optuna import Study, TrialPruned
from optuna.trial import Trial, TrialState

from stages import models
from stages.base.environment import versions
from stages.base.errors import InputError
from stages.base.files import write_csv
from stages.base.runs import HISTORY, METRICS, run_name
from stages.base.splits import load_summary
from stages.check import check_all
from stages.cluster.copies import Outcome
from stages.cluster.pool import Pool, copies_here
from stages.figures import search as figures
from stages.parameters.runs import Seeds
from stages.parameters.schema import read
from stages.parameters.search import Range, Search, read_ranges
from stages.parameters.statistics import Confidence
from stages.runner.commands import dvc
from stages.runner.entry import entry_point
from stages.runner.graph import fingerprint, read_stage
from stages.runner.notes import show_notes
from stages.tuning import finalists, study

FOLDER = Path("reports/search")
CANDIDATES = 3  # the best trials that are trained with other seeds
CURRENT_BLOCK = "block"  # the name of the model's block as it is, among the finalists
LOG_LINES = 20  # of a failure that are shown


def arguments() -> argparse.Namespace:
    """The options of the command line: model, trials, seeds and jobs. Raises `InputError` if one has a wrong value."""
    parser = argparse.ArgumentParser(prog="python -m stages.search", description="Search for better parameters.")
    parser.add_argument("model", help="a model with ranges in `search`")
    parser.add_argument("--trials", type=int, default=40, help="trials in all, earlier ones included (default: 40)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each of the best (default: 5)")
    parser.add_argument("--jobs", type=int, default=2, help="trainings that run at once (default: 2)")
    given = parser.parse_args()
    for name, least in (("trials", 1), ("seeds", 2), ("jobs", 1)):
        if getattr(given, name) < least:
            raise InputError(f"--{name} is {getattr(given, name)}, but must be {least} or more.")
    if given.model not in (ranges := read("search", Search)):
        raise InputError(
            f"{given.model} has no ranges, but {', '.join(ranges) or 'no model'} has: write them into section `search` of "
            "params.yaml, which shows how."
        )
    return given


def conditions_of(stage: str, block: dict[str, Any], ranges: dict[str, Range]) -> dict[str, Any]:
    """All that the results of a search depend on: what `stage` reads, the ranges instead of what they change, versions."""
    reads = fingerprint(read_stage(stage)).items()
    fixed = {key: value for key, value in reads if not key.startswith(("models.", "defaults."))}
    fixed |= {key: value for key, value in block.items() if key not in ranges}
    return fixed | {f"the range of {key}": str(one) for key, one in ranges.items()} | versions()


def overrides(model: str, values: dict[str, Any]) -> list[str]:
    """Values of a model's block, as for `dvc exp run --set-param`; `++` also sets keys that the block only inherits."""
    return [f"++models.{model}.{key}={json.dumps(value, separators=(',', ':'))}" for key, value in values.items()]


def train(pool: Pool, run: str, values: dict[str, Any], watch=lambda history: None) -> Future[Outcome]:
    """Train a run with other values in a copy of the project; `watch` is called with the history so far, as CSV."""
    model, _, seed = run.rpartition("-")
    given = [*overrides(model, values), f"seeds=[{seed}]"]
    return pool.submit(f"train@{run}", given, str(HISTORY / f"{run}.csv"), watch)


def metrics_of(training: Future[Outcome]) -> dict[str, Any]:
    """The validation metrics of a training that has ended. If it failed, prints the end of its log; raises `InputError`."""
    done = training.result()
    if done["status"]:
        lines = done["log"].strip().splitlines() or [f"nothing; its exit status is {done['status']}"]
        print(f"{done['stage']} failed. The end of what it printed:", *lines[-LOG_LINES:], sep="\n  ")
        raise InputError(next((line for line in lines if line.startswith("error: ")), lines[-1]))
    (files,) = (files for path, files in done["results"].items() if path.startswith(f"{METRICS}/"))
    return json.loads(*files.values())


def run_trials(pool: Pool, found: Study, ranges: dict[str, Range], run: str, epochs: int, count: int) -> None:
    """Run trials until `count` have ended, earlier ones included. Raises `InputError` if the first ones all fail."""
    interrupted = [Trial(found, one._trial_id) for one in found.get_trials(states=(TrialState.RUNNING,))]
    running: dict[Future, Trial] = {}
    while running or len(study.ended(found)) < count:
        while len(running) < min(pool.slots, count - len(study.ended(found))):
            trial = interrupted.pop() if interrupted else found.ask()
            training = train(pool, run, study.propose(trial, ranges), partial(study.report, trial, epochs))
            running[training] = trial
        for training in wait(running, return_when=FIRST_COMPLETED).done:
            trial = running.pop(training)
            print(f"trial {trial.number}: {end(found, trial, training)}", flush=True)
            write_csv(FOLDER / f"{run.rpartition('-')[0]}.csv", study.table(found))
        past = study.ended(found)
        if len(past) > pool.slots and all(one.state == TrialState.FAIL for one in past):
            raise InputError(f"all {len(past)} trials failed. What the last one printed stands above.")


def end(found: Study, trial: Trial, training: Future[Outcome]) -> str:
    """Tell the study what became of a trial, and return it in words."""
    try:
        metrics = metrics_of(training)
    except TrialPruned:
        found.tell(trial, state=TrialState.PRUNED)
        return f"stopped after {trial.user_attrs['trained_epochs']} epochs"
    except InputError as error:
        trial.set_user_attr("reason", str(error))
        found.tell(trial, state=TrialState.FAIL)
        return f"failed: {error}"
    trial.set_user_attr("trained_epochs", metrics["network"][0]["epochs"])
    trial.set_user_attr("processor", metrics["conditions"][0]["processor"])
    found.tell(trial, metrics["accuracy"])
    return f"{metrics['accuracy']:.2%}; best: {found.best_value:.2%}, trial {found.best_trial.number}"


def run_finalists(pool: Pool, model: str, tried: dict[str, dict], seeds: list[int]) -> pd.DataFrame:
    """The validation accuracy, 0 to 1, of each of the configurations `tried` that never fails: one column per seed.

    Raises `InputError` if the model's block as it is failed, or all others did.
    """
    trained = {train(pool, run_name(model, seed), tried[name]): (name, seed) for seed in seeds for name in tried}
    accuracies = pd.DataFrame(index=list(tried), columns=[f"seed_{seed}" for seed in seeds], dtype=float)
    for training in as_completed(trained):
        name, seed = trained[training]
        try:
            accuracies.loc[name, f"seed_{seed}"] = accuracy = metrics_of(training)["accuracy"]
            print(f"{name}, seed {seed}: {accuracy:.2%}", flush=True)
        except InputError as error:
            print(f"{name}, seed {seed}: failed, so it is left out: {error}", flush=True)
    accuracies = accuracies.dropna()
    if CURRENT_BLOCK not in accuracies.index or len(accuracies) < 2:
        raise InputError("too many trainings failed to compare the best trials with the block; see above.")
    return accuracies


@entry_point
def main() -> None:
    given = arguments()
    check_all()
    show_notes()
    if status := dvc("repro", "prepare").returncode:
        raise SystemExit(status)
    model, seed = given.model, read("seeds", Seeds)[0]
    checked = models.read_block(model, load_summary()["mirror"])
    block, ranges = checked.model_dump(), read_ranges({model: read("search", Search)[model]}, {model: checked})[model]
    run = run_name(model, seed)
    seeds = list(range(seed + 1, seed + 1 + given.seeds))  # not that of the trials, which flatters the best of them
    with copies_here(given.jobs) as pool:
        found, notes = study.open_study(model, block, ranges, conditions_of(f"train@{run}", block, ranges))
        for note in notes:
            print(f"note: {note}")
        print(f"{len(study.ended(found))} of {given.trials} trials have ended", flush=True)
        run_trials(pool, found, ranges, run, block["epochs"], given.trials)
        tried = study.best(found, block, ranges, CANDIDATES)
        if not tried:
            raise InputError("no trial with other values than the block's is complete: try more trials.")
        if study.table(found).query("state == 'complete'")["val_accuracy"].nunique() > 1:
            figures.draw_trials(found, f"{FOLDER}/{model}")
        tried[CURRENT_BLOCK] = {key: block[key] for key in ranges}
        accuracies = run_finalists(pool, model, tried, seeds)
    compared = finalists.compare(accuracies, CURRENT_BLOCK, read("statistics.confidence", Confidence))
    table = compared.join([accuracies, pd.DataFrame.from_dict(tried, orient="index")])
    write_csv(FOLDER / f"{model}-finalists.csv", table.reset_index(names="configuration"))
    best = compared.drop(index=CURRENT_BLOCK).iloc[0]
    print(finalists.verdict(best))
    print(f"{FOLDER}/{model}*: all trials, the best ones over seeds, figures. To have {best.name} in the project:")
    options = [part for one in overrides(model, tried[best.name]) for part in ("-S", one)]
    print(shlex.join(["dvc", "exp", "run", *options, f"train@{run}"]))


if __name__ == "__main__":
    main()
