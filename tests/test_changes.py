"""What runs again, really, when something changes, and that it gives the same bytes: through DVC, on a few images."""

import functools
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from tests.conftest import MODELS, ROOT, edit, ran, run
from tests.test_graph import STAGES
from tests.test_readme import DOCUMENTS


def parameters(folder: Path) -> dict:
    return yaml.safe_load((folder / "params.yaml").read_text())


def replace(folder: Path, pattern: str, text: str) -> None:
    """Replace the first place that `pattern` finds in `params.yaml`; the rest of the text stays as it is."""
    path = folder / "params.yaml"
    changed, count = re.subn(pattern, lambda _: text, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(changed)


def block(model: str) -> str:
    """A pattern for a model's block in the text of `params.yaml`."""
    return rf"^  {model}:\n(    .*\n|\n)*"


def add_comment(path: Path) -> None:
    path.write_text(path.read_text() + ("\n{# a comment #}\n" if path.suffix == ".jinja" else "\n# a comment\n"))


def test_a_training_repeats_its_bytes_so_that_nothing_follows_a_comment(workspace):
    add_comment(workspace / "stages/training/fit.py")
    assert ran(run(workspace, "dvc", "repro", "evaluate@small-0")) == {"train@small-0"}
    changed = {line[3:] for line in run(workspace, "git", "status", "--porcelain").splitlines()}
    assert changed == {"dvc.lock", "stages/training/fit.py", "reports/timing/train/small-0.csv"}


def test_going_back_to_old_parameters_trains_nothing(workspace):
    metrics = workspace / "reports/metrics/val/plain-0.json"
    first = metrics.read_text()
    edit(workspace, lambda content: content["models"]["plain"].update(learning_rate=0.0123))
    assert ran(run(workspace, "dvc", "repro", "train@plain-0")) == {"train@plain-0"}
    assert metrics.read_text() != first
    run(workspace, "git", "restore", "params.yaml")
    assert ran(run(workspace, "dvc", "repro", "train@plain-0")) == set()
    assert metrics.read_text() == first


# --- `dvc exp run -S` ---


@pytest.mark.parametrize(
    ("key", "option", "value", "trained"),
    [
        ("models.small.dropout", "models.small.dropout", 0.4, ["small"]),
        ("models.plain.momentum", "+models.plain.momentum", 0.8, ["plain"]),  # a default, for one model alone
        ("defaults.weight_decay", "defaults.weight_decay", 0.001, ["plain", "small"]),
    ],
)
def test_an_experiment_changes_one_value(workspace, key, option, value, trained):
    expected = parameters(workspace)
    *above, last = key.split(".")
    functools.reduce(dict.__getitem__, above, expected)[last] = value
    targets = [f"train@{model}-0" for model in MODELS]
    if option != key:  # Hydra refuses a key that is not in the block, and says what to do
        assert "+" in run(workspace, "dvc", "exp", "run", "-S", f"{key}={value}", *targets, succeeds=False)
    output = run(workspace, "dvc", "exp", "run", "-S", f"{option}={value}", *targets)
    assert ran(output) == {f"train@{model}-0" for model in trained}
    assert parameters(workspace) == expected


def test_an_experiment_keeps_the_comments_of_params_yaml(tmp_path):
    path = tmp_path / "params.yaml"
    before = shutil.copy(ROOT / "params.yaml", path).read_text()
    apply_overrides(path, ["defaults.weight_decay=0.0123"])  # as `dvc exp run -S` does
    after = path.read_text()
    assert re.findall("#.*", after) == re.findall("#.*", before)
    assert after.count("0.0123") == 1  # no block gets what it inherits


# --- Growing, and shrinking ---

NEW = """\
  custom:
    units: 16
    epochs: 6
    batch_size: 64
    epoch_fraction: 1
    hard_example_fraction: 0

  separable:
    filters: 8
    epochs: 1
    batch_size: 64
    learning_rate: 0.000001

  nested:
    epochs: 1
    batch_size: 64
    learning_rate: 0.000001

"""


def test_new_models_of_any_kind_are_one_file_and_one_block_each(workspace):
    models = re.findall(r"^  (\w+):$", NEW, re.MULTILINE)
    for model in models:
        shutil.copy(ROOT / "tests" / "models" / f"{model}.py", workspace / "stages" / "models")
    (workspace / "stages/models/small.py").unlink()
    replace(workspace, block("small"), NEW)
    replace(workspace, r"^search:\n(  .*\n)+", "search: {}\n")
    replace(workspace, r"^  model: small", "  model: custom")
    new = {f"{stage}@{model}-0" for stage in ("train", "evaluate") for model in models}
    assert ran(run(workspace, "dvc", "repro")) == new | set(STAGES) - {"prepare", "eda", "train", "evaluate"}
    # the one with a layer of its own was loaded by explain and audit, as the selected model and as that of the folds
    summary = json.loads((workspace / "reports/summary.json").read_text())
    assert summary["selected"] == "custom"
    assert set(summary["models"]) == {"plain", *models}
    page, table = (workspace / "reports/report.html").read_text(), run(workspace, "python", "-m", "stages.table")
    for model in models:
        assert f'data-model="{model}"' in page
        assert re.search(rf"^{model}\b", table, re.MULTILINE)
    # taken out again, it is gone from every table, though its files still lie there
    (workspace / "stages/models/nested.py").unlink()
    replace(workspace, block("nested"), "")
    run(workspace, "dvc", "repro", "compare")
    assert "nested" not in json.loads((workspace / "reports/summary.json").read_text())["models"]
    assert (workspace / "data/models/nested-0.keras").exists()


def test_a_model_is_removed_as_the_documents_say(workspace):
    (command,) = re.findall(r"^rm -f stages/models/\w+\.py .*$", "\n".join(DOCUMENTS.values()), re.MULTILINE)
    name = re.search(r"models/(\w+)\.py", command)[1]
    replace(workspace, block("plain"), "")
    run(workspace, "sh", "-c", re.sub(rf"\b{name}\b", "plain", command))
    left = [path for folder in ("data", "reports", "stages") for path in (workspace / folder).rglob("plain[-_.]*")]
    assert left == []
    assert not {stage for stage in ran(run(workspace, "dvc", "repro")) if "@" in stage}  # nothing trains
    assert ran(run(workspace, "dvc", "repro")) == set()
    summary = json.loads((workspace / "reports/summary.json").read_text())
    assert (list(summary["models"]), summary["ensemble"]) == (["small"], None)
