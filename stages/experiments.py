"""Record the results of experiments: `python -m stages.experiments NAME ...` writes them to `reports/experiments.csv`.

NAME is the name that `dvc exp run --name NAME` got. The table has one row per run (a model trained with a seed) that the
experiment trained. If the experiment changed only the seeds, earlier runs of these models belong to it, too. DVC stores
experiments in git's `refs/exps`, which a clone does not contain; the table is committed. This command is no stage.
"""

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from stages.base.errors import InputError
from stages.base.files import write_csv
from stages.base.runs import EXPERIMENTS, METRICS, MODELS, PREDICTIONS, TIMING, run_name
from stages.page.tables import fingerprint
from stages.runner.entry import entry_point


def output(*command: str) -> str:
    """What a command prints. Raises `InputError` if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise InputError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def base_and_experiment(name: str) -> tuple[dict, dict]:
    """What `dvc exp show --json` says of the newest experiment of this name, after what it says of its base commit.

    Raises:
        InputError: There is no such experiment.
    """
    refs = output("git", "for-each-ref", "--sort=-committerdate", "--format=%(parent)", f"refs/exps/*/*/{name}").split()
    if not refs:
        raise InputError(f"there is no experiment {name}. Type `dvc exp list --all-commits` to list all.")
    shown = json.loads(output(sys.executable, "-m", "dvc", "exp", "show", "--json", "--rev", refs[0]))
    base = next(place for place in shown if place["rev"] == refs[0])
    revisions = [revision for one in base["experiments"] for revision in one["revs"] or []]
    return base["data"], next(revision["data"] for revision in revisions if revision["name"] == name)


def parameters_of(commit: dict, models: set[str]) -> dict:
    """`params.yaml` of a commit, without `seeds`, and of these models alone, whose blocks get the defaults, too."""
    parameters = dict(commit["params"]["params.yaml"]["data"])
    defaults, blocks = parameters.pop("defaults", {}), parameters.pop("models")
    parameters["models"] = {model: {**defaults, **(blocks[model] or {})} for model in blocks if model in models}
    return {key: value for key, value in parameters.items() if key != "seeds"}


def new_runs(base: dict, experiment: dict, folder: Path) -> set[str]:
    """The runs of which a file in a folder of DVC's outs is new in an experiment, or differs from that of its base."""
    known = {path: out["hash"] for path, out in base["outs"].items()}
    changed = [Path(path) for path, out in experiment["outs"].items() if out["hash"] not in {None, known.get(path)}]
    return {path.stem for path in changed if path.parent == folder}


def measured(experiment: dict, split: str) -> dict[str, dict]:
    """The metrics on `"val"` or `"test"` of each run that has some."""
    found = {Path(path): metrics.get("data") for path, metrics in experiment["metrics"].items()}
    return {path.stem: data for path, data in found.items() if path.parent == METRICS / split and data}


def rows_of(name: str) -> list[dict]:
    """The rows of one experiment, one per run; its test accuracies are None where the experiment did not evaluate.

    Raises:
        InputError: There is no such experiment, or it trained nothing.
    """
    base, experiment = base_and_experiment(name)
    trained, evaluated = new_runs(base, experiment, MODELS), new_runs(base, experiment, PREDICTIONS / "test")
    if not trained:
        raise InputError(f"experiment {name} trained nothing: it changed no file in {MODELS}.")
    models = {run.rpartition("-")[0] for run in trained}
    parameters = parameters_of(experiment, models)
    before, after = (pd.json_normalize(one).to_dict("records")[0] for one in (parameters_of(base, models), parameters))
    changes = ", ".join(f"{key}={value}" for key, value in after.items() if key not in before or before[key] != value)
    if not changes:  # the base's runs of these models have the same parameters
        seeds = experiment["params"]["params.yaml"]["data"]["seeds"]
        trained = {run_name(model, seed) for model in models for seed in seeds}
        evaluated = trained if evaluated else set()
    val, test = measured(experiment, "val"), measured(experiment, "test")
    rows = []
    for run in [run for run in val if run in trained]:
        # Lists and the table of times are no metrics of DVC's.
        lists = json.loads(output("git", "show", f"{experiment['rev']}:{METRICS}/val/{run}.json"))
        times = io.StringIO(output("git", "show", f"{experiment['rev']}:{TIMING}/train/{run}.csv"))
        row = {"experiment": name, "base": base["rev"][:7], "changes": changes, "run": run}
        row |= {key: lists["network"][0][key] for key in ("epochs", "parameters")}
        for split, metrics in (("val", val[run]), ("test", test.get(run, {}) if run in evaluated else {})):
            row |= {f"{split}_{key}": metrics.get(key) for key in ("accuracy", "accuracy_single_view")}
        row |= {"training_seconds": round(pd.read_csv(times)["seconds"].sum(), 1)}
        row |= {"block": fingerprint(parameters["models"][run.rpartition("-")[0]])}
        rows.append(row | {"processor": lists["conditions"][0]["processor"]})
    return rows


def keep(names: list[str]) -> None:
    """Write the rows of these experiments into the table. They replace earlier rows of the same experiments."""
    table = pd.DataFrame([row for name in dict.fromkeys(names) for row in rows_of(name)])
    if EXPERIMENTS.exists():
        kept = pd.read_csv(EXPERIMENTS, dtype={"base": str})
        table = pd.concat([kept[~kept["experiment"].isin(names)], table])
    accuracies = [column for column in table if "_accuracy" in column]  # a column with a None is written in another way
    write_csv(EXPERIMENTS, table.astype(dict.fromkeys(accuracies, float)))


@entry_point
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.experiments", description=f"Record results in {EXPERIMENTS}."
    )
    parser.add_argument("names", nargs="+", help="names of experiments; their earlier rows are replaced")
    names = parser.parse_args().names
    keep(names)
    print(f"{EXPERIMENTS}: {', '.join(names)}. Type `make readme` to update the tables.")


if __name__ == "__main__":
    main()
