"""Record the results of experiments: `python -m stages.experiments NAME ...` writes them to `reports/experiments.csv`.

NAME is the name that `dvc exp run --name NAME` got. The table has one row per run (a model trained with a seed) that the
experiment trained. If the experiment changed only the seeds, earlier runs of these models belong to it, too. DVC stores
experiments in git's `refs/exps`, which a clone does not contain; the table is committed. This command is no stage.
"""

import argparse
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from stages.common.entry import entry_point
from stages.common.errors import InputError
from stages.common.files import write_csv
from stages.common.parameters import fingerprint
from stages.common.runs import EXPERIMENTS, METRICS, TIMING, run_name, with_network


def git(*arguments: str) -> str:
    """The output of a git command. Raises `InputError` if it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise InputError(f"`git {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def flat(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings as pairs: dotted key, value."""
    if not isinstance(content, dict):
        yield path, content
        return
    for key, inner in content.items():
        yield from flat(inner, f"{path}.{key}" if path else str(key))


def parameters_of(commit: str) -> dict:
    """`params.yaml` of a commit. It is not checked, because an older commit may have another schema."""
    return YAML(typ="safe").load(io.StringIO(git("show", f"{commit}:params.yaml")))


def changes(base: str, commit: str) -> str:
    """The parameters that differ in `commit` from `base`, without `seeds`: `models.cnn.dropout=0.5, ...`."""
    before, after = (dict(flat(parameters_of(point))) for point in (base, commit))
    return ", ".join(f"{key}={value}" for key, value in after.items() if before.get(key) != value and key != "seeds")


def new_runs(base: str, commit: str, split: str, stage: str) -> set[str]:
    """The runs whose metrics on `split` or wall times of `stage` are new in `commit`, or differ from `base`.

    A repeated run may have the same metrics, but its wall times differ.
    """
    folders = [f"{METRICS}/{split}", f"{TIMING}/{stage}"]
    paths = git("diff", "--name-only", "--diff-filter=AM", base, commit, "--", *folders).splitlines()
    return {Path(path).stem for path in paths}


def model_of(run: str) -> str:
    """The model of a run: `cnn` of `cnn-0`."""
    return run.rpartition("-")[0]


def with_metrics(commit: str, split: str) -> list[str]:
    """The runs that have metrics on `split` in a commit, sorted by model, then by seed."""
    names = git("ls-tree", "--name-only", f"{commit}:{METRICS}/{split}").splitlines()
    runs = [Path(name).stem for name in names]
    return sorted(runs, key=lambda run: (model_of(run), int(run.rpartition("-")[2])))


def metrics(commit: str, split: str, run: str) -> dict:
    """A run's metrics in a commit. Raises `InputError` if they lack a key that the table needs."""
    path = f"{METRICS}/{split}/{run}.json"
    found = with_network(json.loads(git("show", f"{commit}:{path}")))
    keys = ("accuracy", "accuracy_single_view", *(("epochs", "parameters") if split == "val" else ()))
    for key in keys:
        if key not in found:
            raise InputError(
                f"{path} of commit {commit[:7]} has no {key}: it was written by older code. Run the experiment again."
            )
    return found


def training_seconds(commit: str, run: str) -> float:
    """The wall time in seconds of a run's training in a commit, with validation and teachers."""
    return round(pd.read_csv(io.StringIO(git("show", f"{commit}:{TIMING}/train/{run}.csv")))["seconds"].sum(), 1)


def rows_of(name: str) -> list[dict]:
    """The rows of one experiment, one per run.

    Returns:
        Dicts with experiment, base (the commit that it started from), changes, run, epochs, parameters (weights),
        val_accuracy, val_accuracy_single_view, test_accuracy, test_accuracy_single_view (`_single_view`: without test-time
        augmentation), training_seconds, block (the fingerprint of the model's parameters), processor. Test columns are None
        if the experiment did not evaluate; `processor` is None if older code wrote the metrics.

    Raises:
        InputError: There is no such experiment, it trained nothing, or its metrics lack a key.
    """
    commits = git(
        "for-each-ref", "--sort=committerdate", "--format=%(objectname) %(parent)", f"refs/exps/*/*/{name}"
    ).splitlines()
    if not commits:
        raise InputError(f"there is no experiment {name}. Type `dvc exp list --all-commits` to list all.")
    commit, base = commits[-1].split()[:2]
    changed = changes(base, commit)
    trained, evaluated = new_runs(base, commit, "val", "train"), new_runs(base, commit, "test", "evaluate")
    if not changed:  # the base's runs of these models have the same parameters
        also = {run_name(model_of(run), seed) for run in trained for seed in parameters_of(commit)["seeds"]}
        trained, evaluated = trained | also, evaluated | (also if evaluated else set())
    tested = with_metrics(commit, "test") if evaluated else []
    blocks = parameters_of(commit)["models"]
    rows = []
    for run in with_metrics(commit, "val"):
        if run not in trained:
            continue
        row: dict[str, Any] = {"experiment": name, "base": base[:7], "changes": changed, "run": run}
        validation = metrics(commit, "val", run)
        row |= {key: validation[key] for key in ("epochs", "parameters")}
        row |= {"val_accuracy": validation["accuracy"], "val_accuracy_single_view": validation["accuracy_single_view"]}
        row |= {"test_accuracy": None, "test_accuracy_single_view": None}
        if run in evaluated and run in tested:
            test = metrics(commit, "test", run)
            row |= {"test_accuracy": test["accuracy"], "test_accuracy_single_view": test["accuracy_single_view"]}
        row |= {"training_seconds": training_seconds(commit, run), "block": fingerprint(blocks[model_of(run)])}
        rows.append(row | {"processor": validation.get("conditions", [{}])[0].get("processor")})
    if not rows:
        raise InputError(f"experiment {name} trained nothing: it changed no file in {METRICS}/val or {TIMING}/train.")
    return rows


def keep(names: list[str]) -> None:
    """Write the rows of these experiments into the table. They replace earlier rows of the same experiments."""
    found = [row for name in dict.fromkeys(names) for row in rows_of(name)]
    if EXPERIMENTS.exists():
        kept = pd.read_csv(EXPERIMENTS, dtype={"base": str})
        found = [*kept[~kept["experiment"].isin(names)].to_dict("records"), *found]
    write_csv(EXPERIMENTS, pd.DataFrame(found))


@entry_point
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.experiments", description=f"Record the results of experiments in {EXPERIMENTS}."
    )
    parser.add_argument("names", nargs="+", help="names of experiments; their earlier rows are replaced")
    names = parser.parse_args().names
    keep(names)
    print(f"{EXPERIMENTS}: {', '.join(names)}. Type `make readme` to update the tables.")


if __name__ == "__main__":
    main()
