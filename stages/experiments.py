"""Keep what experiments gave: `python -m stages.experiments NAME ...` writes their rows into `reports/experiments.csv`.

NAMEs are those of `dvc exp run --name NAME`. A row is a run (a model trained with a seed) that the experiment trained.
Where it changed no parameter but the seeds, the runs of these models that were there already count, too. Experiments lie in
git's `refs/exps`, which a clone does not get; the table is committed. No stage of the graph.
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

from stages.errors import InputError, front_door
from stages.files import write_csv
from stages.runs import METRICS, TIMING, run_name, with_network
from stages.table import EXPERIMENTS, fingerprint


def git(*arguments: str) -> str:
    """What a git command prints. Raises `InputError` where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise InputError(f"`git {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def flat(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as pairs of dotted key and value."""
    if not isinstance(content, dict):
        yield path, content
        return
    for key, inner in content.items():
        yield from flat(inner, f"{path}.{key}" if path else str(key))


def parameters_of(commit: str) -> dict:
    """`params.yaml` as it lies in a commit, which may be of another time: its schema is not checked."""
    return YAML(typ="safe").load(io.StringIO(git("show", f"{commit}:params.yaml")))


def changes(base: str, commit: str) -> str:
    """The parameters, but for the seeds, that `commit` has and `base` has not: `models.cnn.dropout=0.5, ...`."""
    before, after = (dict(flat(parameters_of(point))) for point in (base, commit))
    return ", ".join(f"{key}={value}" for key, value in after.items() if before.get(key) != value and key != "seeds")


def made(base: str, commit: str, split: str, stage: str) -> set[str]:
    """The runs whose metrics on `split`, or wall times of `stage`, are others in `commit` than in `base`, or new.

    A run that was made again tells other wall times, even where its metrics came out the same.
    """
    folders = [f"{METRICS}/{split}", f"{TIMING}/{stage}"]
    paths = git("diff", "--name-only", "--diff-filter=AM", base, commit, "--", *folders).splitlines()
    return {Path(path).stem for path in paths}


def model_of(run: str) -> str:
    """The model of a run: `cnn` of `cnn-0`."""
    return run.rpartition("-")[0]


def with_metrics(commit: str, split: str) -> list[str]:
    """The runs that have metrics on `split` in a commit, by model, then by seed."""
    names = git("ls-tree", "--name-only", f"{commit}:{METRICS}/{split}").splitlines()
    runs = [Path(name).stem for name in names]
    return sorted(runs, key=lambda run: (model_of(run), int(run.rpartition("-")[2])))


def metrics(commit: str, split: str, run: str) -> dict:
    """A run's metrics as they lie in a commit. Raises `InputError` where they lack what the table tells."""
    path = f"{METRICS}/{split}/{run}.json"
    found = with_network(json.loads(git("show", f"{commit}:{path}")))
    for key in ("epochs", "parameters", "accuracy", "accuracy_plain"):
        if key not in found:
            raise InputError(
                f"{path} of commit {commit[:7]} has no {key}: it is older than the table. Run the experiment again."
            )
    return found


def training_seconds(commit: str, run: str) -> float:
    """The wall time of a run's epochs, validation and teachers included, as it lies in a commit."""
    return round(pd.read_csv(io.StringIO(git("show", f"{commit}:{TIMING}/train/{run}.csv")))["seconds"].sum(), 1)


def rows_of(name: str) -> list[dict]:
    """A row a run of the experiment: experiment, base, changes, run, epochs, parameters, val_accuracy, ... test_accuracy,
    test_accuracy_plain, training_seconds, block, processor.

    `base` is the commit that it started from; `_plain` are accuracies without other views; `block` is the fingerprint of
    the model's parameters. Test columns are empty where the experiment evaluated nothing on test, `processor` where the
    metrics are of a time before they named it. Raises `InputError` where there is no such experiment, or one that trained
    nothing or whose metrics lack some of these.
    """
    commits = git(
        "for-each-ref", "--sort=committerdate", "--format=%(objectname) %(parent)", f"refs/exps/*/*/{name}"
    ).splitlines()
    if not commits:
        raise InputError(f"there is no experiment {name}. `dvc exp list --all-commits` lists all.")
    commit, base = commits[-1].split()[:2]
    told = changes(base, commit)
    trained, evaluated = made(base, commit, "val", "train"), made(base, commit, "test", "evaluate")
    if not told:  # what the base has of these models is of the same parameters
        also = {run_name(model_of(run), seed) for run in trained for seed in parameters_of(commit)["seeds"]}
        trained, evaluated = trained | also, evaluated | (also if evaluated else set())
    tested = with_metrics(commit, "test") if evaluated else []
    blocks = parameters_of(commit)["models"]
    rows = []
    for run in with_metrics(commit, "val"):
        if run not in trained:
            continue
        row: dict[str, Any] = {"experiment": name, "base": base[:7], "changes": told, "run": run}
        validation = metrics(commit, "val", run)
        row |= {key: validation[key] for key in ("epochs", "parameters")}
        row |= {"val_accuracy": validation["accuracy"], "val_accuracy_plain": validation["accuracy_plain"]}
        row |= {"test_accuracy": None, "test_accuracy_plain": None}
        if run in evaluated and run in tested:
            test = metrics(commit, "test", run)
            row |= {"test_accuracy": test["accuracy"], "test_accuracy_plain": test["accuracy_plain"]}
        row |= {"training_seconds": training_seconds(commit, run), "block": fingerprint(blocks[model_of(run)])}
        rows.append(row | {"processor": validation.get("conditions", [{}])[0].get("processor")})
    if not rows:
        raise InputError(f"experiment {name} trained nothing: it changed no file in {METRICS}/val or {TIMING}/train.")
    return rows


def keep(names: list[str]) -> None:
    """Write the rows of these experiments into the table, in place of those that they have there already."""
    found = [row for name in dict.fromkeys(names) for row in rows_of(name)]
    if EXPERIMENTS.exists():
        kept = pd.read_csv(EXPERIMENTS, dtype={"base": str})
        found = [*kept[~kept["experiment"].isin(names)].to_dict("records"), *found]
    write_csv(EXPERIMENTS, pd.DataFrame(found))


@front_door
def main() -> None:
    parser = argparse.ArgumentParser(description=f"Write what experiments gave into {EXPERIMENTS}.")
    parser.add_argument("names", nargs="+", help="of experiments; rows that they have already are replaced")
    names = parser.parse_args().names
    keep(names)
    print(f"{EXPERIMENTS}: {', '.join(names)}. `make readme` shows them in README.md.")


if __name__ == "__main__":
    main()
