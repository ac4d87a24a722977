"""What runs again, really, when something changes, and that it gives the same bytes: through DVC, on drawn pictures."""

import json

from tests.conftest import edit, ran, run


def test_a_comment_that_changes_no_weight_leaves_evaluate_alone(workspace):
    path = workspace / "stages" / "training" / "fit.py"
    path.write_text(path.read_text() + "\n# a comment\n")
    assert ran(run(workspace, "dvc", "repro", "evaluate@logistic-0")) == {"train@logistic-0"}


def test_going_back_to_old_parameters_trains_nothing(workspace):
    metrics = workspace / "reports/metrics/val/logistic-0.json"
    first = metrics.read_text()
    edit(workspace, lambda content: content["models"]["logistic"].update(learning_rate=0.0123))
    assert ran(run(workspace, "dvc", "repro", "train@logistic-0")) == {"train@logistic-0"}
    assert metrics.read_text() != first
    run(workspace, "git", "restore", "params.yaml")
    assert ran(run(workspace, "dvc", "repro", "train@logistic-0")) == set()
    assert metrics.read_text() == first


def test_a_forced_run_gives_the_same_bytes_but_for_wall_times(workspace):
    results = [workspace / "data/models/sprint-0.keras", workspace / "data/predictions/test/sprint-0.npz"]
    before = [path.read_bytes() for path in results]
    run(workspace, "dvc", "repro", "--force", "--single-item", "eda", "train@sprint-0", "evaluate@sprint-0")
    assert [path.read_bytes() for path in results] == before
    changed = {line[3:] for line in run(workspace, "git", "status", "--porcelain").splitlines()}
    assert "reports/timing/train/sprint-0.csv" in changed  # it did run
    assert all(path == "dvc.lock" or path.startswith("reports/timing/") for path in changed), changed


# --- Growing ---


def test_a_new_model_is_one_file_and_one_block(workspace):
    source = (workspace / "stages/models/logistic.py").read_text()
    (workspace / "stages/models/tiny.py").write_text(source.replace("logistic", "tiny"))
    edit(workspace, lambda content: content["models"].update(tiny=content["models"]["logistic"] | {"epochs": 1}))
    output = run(workspace, "dvc", "repro")
    assert ran(output) == {
        "check",
        "train@tiny-0",
        "evaluate@tiny-0",
        "select",
        "calibrate",
        "compare",
        "report",
    }
    assert "tiny" in json.loads((workspace / "reports/summary.json").read_text())["models"]
    page = (workspace / "reports/report.html").read_text()
    assert "Confusion matrix of tiny" in page
    # taken out again, it is gone from every table, though its files still lie there
    (workspace / "stages/models/tiny.py").unlink()
    edit(workspace, lambda content: content["models"].pop("tiny"))
    run(workspace, "dvc", "repro", "compare")
    assert "tiny" not in json.loads((workspace / "reports/summary.json").read_text())["models"]


def test_a_new_seed_trains_only_the_new_runs_and_gives_deviations(workspace):
    (workspace / "stages/models/sprint.py").unlink()
    edit(workspace, lambda content: content["models"].pop("sprint"))
    edit(workspace, lambda content: content.update(seeds=[0, 1]))
    edit(workspace, lambda content: content["audit"].update(model="logistic"))
    expected = {"train@logistic-1", "evaluate@logistic-1", "select", "calibrate", "folds", "audit", "compare"}
    assert ran(run(workspace, "dvc", "repro", "compare")) == expected
    row = json.loads((workspace / "reports/summary.json").read_text())["models"]["logistic"]
    assert row["runs"] == 2
    assert row["test_accuracy_deviation"] is not None
    assert "±" in run(workspace, "python", "-m", "stages.table")
