"""What runs again, really, when something changes, and that it gives the same bytes: through DVC, on drawn images."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, commit, edit, ran, run


def parameters(folder: Path) -> dict:
    return yaml.safe_load((folder / "params.yaml").read_text())


def replace(folder: Path, pattern: str, text: str) -> None:
    """Replace the one place that `pattern` finds in `params.yaml`; the rest of the text stays as it is."""
    path = folder / "params.yaml"
    changed, count = re.subn(pattern, text, path.read_text(), flags=re.MULTILINE)
    assert count == 1
    path.write_text(changed)


def block(model: str) -> str:
    """A pattern for a model's block in the text of `params.yaml`."""
    return rf"^  {model}:\n    <<: .*\n(    .*\n|\n)*"


def test_a_comment_that_changes_no_weight_leaves_evaluate_alone(workspace):
    path = workspace / "stages" / "training" / "fit.py"
    path.write_text(path.read_text() + "\n# a comment\n")
    assert ran(run(workspace, "dvc", "repro", "evaluate@plain-0")) == {"train@plain-0"}


def test_going_back_to_old_parameters_trains_nothing(workspace):
    metrics = workspace / "reports/metrics/val/plain-0.json"
    first = metrics.read_text()
    edit(workspace, lambda content: content["models"]["plain"].update(learning_rate=0.0123))
    assert ran(run(workspace, "dvc", "repro", "train@plain-0")) == {"train@plain-0"}
    assert metrics.read_text() != first
    run(workspace, "git", "restore", "params.yaml")
    assert ran(run(workspace, "dvc", "repro", "train@plain-0")) == set()
    assert metrics.read_text() == first


def test_a_forced_run_gives_the_same_bytes_but_for_wall_times(workspace):
    results = [workspace / "data/models/small-0.keras", workspace / "data/predictions/test/small-0.npz"]
    before = [path.read_bytes() for path in results]
    run(workspace, "dvc", "repro", "--force", "--single-item", "eda", "train@small-0", "evaluate@small-0")
    assert [path.read_bytes() for path in results] == before
    changed = {line[3:] for line in run(workspace, "git", "status", "--porcelain").splitlines()}
    assert "reports/timing/train/small-0.csv" in changed  # it did run
    assert all(path == "dvc.lock" or path.startswith("reports/timing/") for path in changed), changed


def test_what_fits_stops_selects_or_calibrates_runs_without_the_test_set(workspace):
    for place in ("data/prepared/test.npz", "data/raw", "data/predictions/test", "reports/metrics/test"):
        path = workspace / place
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for command in (("eda",), ("train", "plain"), ("select",), ("calibrate",), ("export",), ("folds",)):
        run(workspace, "python", "-m", f"stages.{command[0]}", *command[1:])


# --- `dvc exp run -S`, with the anchor and the merge keys of params.yaml ---


@pytest.mark.parametrize(
    ("model", "key", "value", "own"), [("small", "dropout", 0.4, True), ("plain", "momentum", 0.8, False)]
)
def test_an_experiment_sets_a_key_of_a_block_or_one_that_the_block_inherits(workspace, model, key, value, own):
    text, before = (workspace / "params.yaml").read_text(), parameters(workspace)
    assert text.count("<<: *defaults") == len(before["models"])
    assert bool(re.search(rf"    {key}:", re.search(block(model), text, re.MULTILINE)[0])) == own
    assert (before["models"][model] | before["defaults"]).get(key) != value
    output = run(workspace, "dvc", "exp", "run", "-S", f"models.{model}.{key}={value}", f"train@{model}-0")
    assert ran(output) == {f"train@{model}-0"}
    after = parameters(workspace)
    assert after["models"][model].pop(key) == value
    before["models"][model].pop(key)
    assert after == before
    other = next(name for name in before["models"] if name != model)
    following = ran(run(workspace, "dvc", "repro", "--dry", "--force-downstream"))
    assert f"evaluate@{model}-0" in following
    assert not following & {f"train@{other}-0", f"evaluate@{other}-0", "prepare", "eda"}


# --- Growing, and shrinking ---

NEW = """\
  custom:
    <<: *defaults
    units: 16
    epochs: 6
    batch_size: 64
    epoch_fraction: 1
    hard_example_fraction: 0

  separable:
    <<: *defaults
    filters: 8
    epochs: 1
    batch_size: 64
    learning_rate: 0.000001

  nested:
    <<: *defaults
    epochs: 1
    batch_size: 64
    learning_rate: 0.000001

"""
# Counted by hand: of each, parameters and multiply-adds.
COSTS = {
    "custom": ((9 + 1) * 8 + (13 * 13 * 8 + 1) * 32 + (16 + 1) * 10, 13 * 13 * (9 * 8 + 8 * 32) + 16 * 10),
    "separable": (9 + 8 + 8 + (13 * 13 * 8 + 1) * 10, 13 * 13 * (9 + 8 + 80)),
    "nested": ((1 + 1) * 4 + (9 * 4 + 1) * 4 + (4 + 1) * 10, 14 * 14 * (4 + 2 * 9 * 4 * 4) + 40),
}


@pytest.mark.slow
def test_new_models_of_any_kind_are_one_file_and_one_block_each(workspace):
    assert max(len(lines.splitlines()) for lines in NEW.strip().split("\n\n")) <= 10
    for model in COSTS:
        shutil.copy(ROOT / "tests" / "models" / f"{model}.py", workspace / "stages" / "models")
    (workspace / "stages/models/small.py").unlink()
    replace(workspace, block("small"), NEW)
    replace(workspace, r"^search:\n(  .*\n)+", "search: {}\n")
    replace(workspace, r"^  model: small", "  model: custom")
    new = {f"{stage}@{model}-0" for stage in ("train", "evaluate") for model in COSTS}
    others = {"check", "select", "calibrate", "export", "folds", "audit", "explain", "compare", "report"}
    assert ran(run(workspace, "dvc", "repro")) == new | others
    for model, costs in COSTS.items():
        (network,) = json.loads((workspace / f"reports/metrics/val/{model}-0.json").read_text())["network"]
        assert (network["parameters"], network["multiply_adds"]) == costs, model
    # the one with a layer of its own was loaded by explain and audit, as the selected model and as that of the folds
    summary = json.loads((workspace / "reports/summary.json").read_text())
    assert summary["selected"] == "custom"
    assert set(summary["models"]) == {"plain", *COSTS}
    page, table = (workspace / "reports/report.html").read_text(), run(workspace, "python", "-m", "stages.table")
    for model in COSTS:
        assert f'data-matrix="{model}"' in page
        assert re.search(rf"^{model}\b", table, re.MULTILINE)
    # taken out again, it is gone from every table, though its files still lie there
    (workspace / "stages/models/nested.py").unlink()
    replace(workspace, block("nested"), "")
    run(workspace, "dvc", "repro", "compare")
    assert "nested" not in json.loads((workspace / "reports/summary.json").read_text())["models"]
    assert (workspace / "data/models/nested-0.keras").exists()


def test_a_model_is_removed_as_the_readme_says_and_what_is_left_can_be_shared(workspace, tmp_path):
    (command,) = re.findall(r"^rm -f stages/models/\w+\.py .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    name = re.search(r"models/(\w+)\.py", command)[1]
    replace(workspace, block("plain"), "")
    run(workspace, "sh", "-c", re.sub(rf"\b{name}\b", "plain", command))
    left = [path for folder in ("data", "reports", "stages") for path in (workspace / folder).rglob("plain[-_.]*")]
    assert left == []
    output = run(workspace, "dvc", "repro")
    assert not {stage for stage in ran(output) if "@" in stage}  # nothing trains
    assert ran(run(workspace, "dvc", "repro")) == set()
    summary = json.loads((workspace / "reports/summary.json").read_text())
    assert (list(summary["models"]), summary["ensemble"]) == (["small"], None)

    run(workspace, "dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    run(workspace, "dvc", "push", "--quiet")
    commit(workspace, "Without plain")
    run(tmp_path, "git", "clone", "--quiet", str(workspace), "clone")
    run(tmp_path / "clone", "dvc", "pull", "--quiet")
    assert ran(run(tmp_path / "clone", "dvc", "repro")) == set()
