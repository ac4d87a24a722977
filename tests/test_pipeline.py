"""The whole graph through DVC, in a temporary repository, on drawn pictures: what a user does with it, day by day."""

import json
import re
import shutil
import textwrap

import pandas as pd
import pytest
import yaml

from stages import dataset
from stages.demo import make_copy, shrink
from stages.runs import with_network
from tests.conftest import MODELS, ROOT, commit, edit, planned, ran, run

# --- The first run ---


def test_the_copy_is_small_whatever_the_parameters_ask_for():
    asked = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"seeds": [0, 1], "devices": 8}
    asked["models"]["cnn"] |= {"epochs": 50, "epoch_size": 0.01, "teachers": [28, 2, 28], "batch_size": 16384}
    small = shrink(asked)
    assert (small["seeds"], small["devices"]) == ([0], 1)
    block = small["models"]["cnn"]
    assert (block["epochs"], block["epoch_size"], block["teachers"], block["batch_size"]) == (3, 0.25, [3, 2], 64)


def test_every_result_says_that_it_is_not_on_fashion_mnist(finished):
    metrics = list((finished / "reports" / "metrics").rglob("*.json"))
    assert len(metrics) == 3 * len(MODELS)  # val, test, robustness
    assert {json.loads(path.read_text())["dataset"] for path in metrics} == {"drawn"}
    assert json.loads((finished / "reports" / "summary.json").read_text())["dataset"] == "drawn"
    notice = dataset.notice("drawn")
    assert notice in (finished / "reports" / "report.html").read_text()
    log = (finished / "first_run.log").read_text()
    assert log.count(notice) >= 2 * len(MODELS)
    assert notice in run(finished, "python", "-m", "stages.table")


def test_the_log_has_no_start_up_chatter_of_tensorflow(finished):
    log = (finished / "first_run.log").read_text()
    assert "absl" not in log
    assert "cuda" not in log
    assert "Warning" not in log


def test_the_summary_agrees_with_the_metrics(finished):
    summary = json.loads((finished / "reports" / "summary.json").read_text())
    assert set(summary["models"]) == set(MODELS)
    for model, row in summary["models"].items():
        val, test = (
            with_network(json.loads((finished / f"reports/metrics/{split}/{model}-0.json").read_text()))
            for split in ("val", "test")
        )
        assert (row["val_accuracy"], row["test_accuracy"], row["test_loss"]) == (
            val["accuracy"],
            test["accuracy"],
            test["loss"],
        )
        assert {row[key] == val[key] == test[key] for key in ("parameters", "multiply_adds", "epochs")} == {True}
    best = max(
        MODELS, key=lambda model: (summary["models"][model]["val_accuracy"], -summary["models"][model]["val_loss"])
    )
    assert summary["selected"] == best
    assert json.loads((finished / "reports" / "selection.json").read_text())["selected"] == best


def test_the_selected_model_is_a_file_that_keras_loads(finished):
    selection = json.loads((finished / "reports" / "selection.json").read_text())
    chosen = finished / "data" / "selected" / "model.keras"
    assert chosen.read_bytes() == (finished / "data" / "models" / f"{selection['run']}.keras").read_bytes()


def test_the_readmes_lines_on_using_the_model_work_without_the_project(finished):
    code = textwrap.dedent(re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[1])
    (finished / "use.py").write_text(
        f"import sys, numpy\npictures = numpy.zeros((3, 28, 28, 1))\n{code}\n"
        "print(logits.shape, [name for name in sys.modules if name.startswith('stages')])\n"
    )
    assert "(3, 10) []" in run(finished, "python", "use.py")
    (finished / "use.py").unlink()


def test_models_learn_the_drawn_pictures(finished):
    summary = json.loads((finished / "reports" / "summary.json").read_text())
    assert summary["models"]["sprint"]["test_accuracy"] > summary["models"]["logistic"]["test_accuracy"] > 0.5


def test_wall_times_stand_in_files_of_their_own(finished):
    timing = pd.read_csv(finished / "reports" / "timing.csv")
    assert set(timing["model"]) == {*MODELS, "ensemble: sprint + logistic, 2 runs"}
    for path in (finished / "reports").rglob("*"):
        if path.suffix in {".json", ".csv"} and not re.search("timing|benchmark|experiments", str(path)):
            assert "seconds" not in path.read_text()


def test_the_report_is_one_file_that_needs_no_network(finished):
    page = (finished / "reports" / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert not re.findall(r"url\((?!data:|#|\$\{sheet.src\})|@import", page)
    for model in MODELS:
        assert f"Confusion matrix of {model}" in page
    assert len(page) < 5e6


def test_layers_are_kept_as_text_with_their_cost(finished):
    text = (finished / "data" / "models" / "sprint-0.txt").read_text()
    metrics = with_network(json.loads((finished / "reports/metrics/val/sprint-0.json").read_text()))
    assert f"Total params: {metrics['parameters']:,}" in text
    assert f"Multiply-adds a picture: {metrics['multiply_adds']:,}" in text


# --- Metrics, parameters and plots, as DVC's users know them ---


def test_metrics_are_one_table_with_the_same_columns_for_every_run(finished):
    shown = json.loads(run(finished, "dvc", "metrics", "show", "--json"))[""]["data"]
    assert len(shown) == 3 * len(MODELS)
    assert len({tuple(entry["data"]) for path, entry in shown.items() if "robustness" not in path}) == 1


@pytest.mark.fault("`dvc metrics show` prints lines of 2,604 characters.", "They fit a terminal of 120 columns.")
def test_metrics_fit_a_terminal(finished):
    assert max(map(len, run(finished, "dvc", "metrics", "show").splitlines())) <= 120
    metrics = [
        entry
        for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
        for entry in stage.get("metrics", [])
    ]
    assert not any("benchmark" in str(entry) for entry in metrics)


@pytest.mark.fault(
    "A clone with Windows's line ends (`core.autocrlf=true`) runs every stage again.", "It keeps Unix's."
)
def test_a_clone_that_would_change_line_ends_keeps_them(finished, tmp_path):
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", "-c", "core.autocrlf=true", str(finished), str(clone))
    for path in clone.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            assert path.read_bytes() == (finished / path.relative_to(clone)).read_bytes(), path


@pytest.mark.fault("Without the program git, or with an old one, `make demo` ends in a traceback.", "It needs none.")
def test_the_copy_of_the_demo_needs_no_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    make_copy(tmp_path)
    assert (tmp_path / ".git").is_dir()


def test_everything_is_compared_with_main_in_a_fresh_clone_without_cache(finished, tmp_path):
    folder = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(finished), str(folder))
    run(folder, "git", "switch", "--quiet", "--create", "try")
    metrics = folder / "reports/metrics/test/sprint-0.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"accuracy": 0.123}))
    edit(folder, lambda content: content["models"]["sprint"].update(momentum=0.75))
    commit(folder, "Try another momentum")
    difference = json.loads(run(folder, "dvc", "metrics", "diff", "main", "--json"))
    assert list(difference) == ["reports/metrics/test/sprint-0.json"]
    assert list(difference["reports/metrics/test/sprint-0.json"]) == ["accuracy"]
    parameters = json.loads(run(folder, "dvc", "params", "diff", "main", "--json"))
    assert list(parameters["params.yaml"]) == ["models.sprint.momentum"]
    run(folder, "dvc", "plots", "diff", "main", "--out", "plots")
    page = (folder / "plots" / "index.html").read_text()
    for picture in ("samples.png", "sprint_confusion.png"):
        assert len(re.findall(rf"<img[^>]*{picture}", page)) == 2 or page.count(picture) >= 2
    assert page.count("vegaEmbed('#") >= 4 * len(MODELS)


def test_the_page_of_plots_needs_no_network(finished, tmp_path):
    run(finished, "dvc", "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots" / "index.html").read_text()
    assert not re.findall(r"<script[^>]+src=", page)
    assert not re.findall(r"<link[^>]+href=", page)
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    pictures = re.findall(r"<img[^>]+src=[\"']([^\"']+)", body)
    assert len(pictures) > 10
    for picture in pictures:
        assert picture.startswith("data:") or (tmp_path / "plots" / picture).exists()
    assert "Validation accuracy by epoch" in page
    assert len(re.findall(r"Confusion of \w+, seed 0", page)) >= len(MODELS)


# --- Only what changed runs again ---


def test_nothing_runs_twice(workspace):
    assert ran(run(workspace, "dvc", "repro")) == set()


ROWS = {
    "`models.sprint.learning_rate`": lambda content: content["models"]["sprint"].update(learning_rate=0.5),
    "`models.logistic.learning_rate`": lambda content: content["models"]["logistic"].update(learning_rate=0.5),
    "`models.sprint.views`": lambda content: content["models"]["sprint"].update(views="flips"),
    "`prepare.val_per_class`": lambda content: content["prepare"].update(val_per_class=40),
    "`eda.samples_per_class`": lambda content: content["eda"].update(samples_per_class=3),
    "`report.samples`": lambda content: content["report"].update(samples=3),
    "`seeds: [0, 1]`": lambda content: content.update(seeds=[0, 1]),
    "`stages/models/sprint.py`": "stages/models/sprint.py",
    "`stages/training/fit.py`": "stages/training/fit.py",
    "`stages/evaluation/classes.py`": "stages/evaluation/classes.py",
    "`stages/figures/exploration.py`": "stages/figures/exploration.py",
    "`stages/figures/results.py`": "stages/figures/results.py",
    "`stages/page/report.html.jinja`": "stages/page/report.html.jinja",
    "`statistics.bins`": lambda content: content["statistics"].update(bins=10),
    "`audit.near`": lambda content: content["audit"].update(near=0.1),
    "`robustness.pictures`": lambda content: content["robustness"].update(pictures=120),
}


def readme_rows() -> dict[str, str]:
    """The README's table "change this, these run again"."""
    rows = re.findall(r"^\| (`.*?`) +\| (.*?) +\|$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    return {change: stages for change, stages in rows if change in ROWS}


def expand(cell: str, seeds: list[int]) -> set[str]:
    """The stages that a cell of the README names: `train` is all of its runs, `train@cnn` those of every seed."""
    names = (
        {"select", "calibrate", "audit", "explain", "compare", "report"} if "what follows from all" in cell else set()
    )
    for name in re.findall(r"`([\w@*-]+)`", cell):
        stage, _, which = name.partition("@")
        if stage not in {"train", "evaluate"}:
            names.add(name)
        elif which.startswith("*-"):
            names |= {f"{stage}@{model}-{which[2:]}" for model in MODELS}
        else:
            names |= {f"{stage}@{model}-{seed}" for model in ([which] if which else MODELS) for seed in seeds}
    return names


def test_every_row_of_the_readmes_table_is_tested():
    assert set(readme_rows()) == set(ROWS)


@pytest.mark.parametrize("change", ROWS)
def test_the_readmes_table_of_what_runs_again_is_true(change, dry_workspace):
    run(dry_workspace, "git", "restore", "params.yaml", "stages")
    action = ROWS[change]
    if callable(action):
        edit(dry_workspace, action)
    else:
        path = dry_workspace / action
        comment = "{# a comment #}" if path.suffix == ".jinja" else "# a comment"
        path.write_text(f"{path.read_text()}\n{comment}\n")
    expected = expand(readme_rows()[change], seeds=[0]) | ({"check"} if callable(action) else set())
    if change == "`stages/models/sprint.py`":
        expected |= {"check"}
    options = ["--allow-missing"] if "seeds" in change else []
    assert planned(dry_workspace, "--force-downstream", *options) == expected


# --- Bad input: a sentence, a non-zero exit, nothing lost ---


def test_a_bad_parameter_stops_everything_before_anything_is_removed(workspace):
    edit(workspace, lambda content: content["models"]["sprint"].update(momentum=2))
    edit(workspace, lambda content: content["models"]["logistic"].update(learning_rat=1))
    output = run(workspace, "dvc", "repro", succeeds=False)
    assert "models.sprint.momentum is 2, but must be a number from 0 up to, but not including, 1" in output
    assert "models.logistic.learning_rat is unknown; did you mean learning_rate?" in output
    assert "Traceback" not in output
    assert ran(output) == {"check"}
    assert run(workspace, "git", "status", "--porcelain").split() == ["M", "params.yaml"]
    assert (workspace / "data/models/sprint-0.keras").exists()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("stages.train", "sprnt"), "there is no model sprnt; did you mean sprint? The models are"),
        (("stages.train", "sprint", "--seed", "-1"), "--seed is -1, but must be a whole number from 0"),
        (("stages.evaluate", "resnet"), "there is no model resnet"),
        (
            ("stages.evaluate", "sprint", "--seed", "7"),
            "reports/metrics/val/sprint-7.json is missing. Type `dvc repro`",
        ),
    ],
)
def test_a_wrong_command_is_told_what_is_right(finished, command, sentence):
    output = run(finished, "python", "-m", *command, succeeds=False)
    assert output.startswith(f"error: {sentence}")
    assert "Traceback" not in output


def test_another_working_directory_is_refused(finished, tmp_path):
    output = run(tmp_path, "python", "-m", "stages.prepare", succeeds=False, PYTHONPATH=str(finished))
    assert output.startswith(f"error: stages run from the project's root: you are in {tmp_path}, type `cd {finished}`")


def test_a_corrupt_raw_file_is_refused_and_the_prepared_data_stays(workspace):
    path = workspace / "data/raw/train-labels-idx1-ubyte.gz"
    path.unlink()  # it may be linked to the cache
    path.write_bytes(b"corrupt")
    before = (workspace / "data/prepared/train.npz").read_bytes()
    output = run(workspace, "python", "-m", "stages.prepare", succeeds=False)
    assert output.startswith("error: data/raw/train-labels-idx1-ubyte.gz is not a whole gzip file")
    assert (workspace / "data/prepared/train.npz").read_bytes() == before


def test_drawn_files_are_never_taken_for_fashion_mnist(workspace):
    edit(workspace, lambda content: content.update(dataset="fashion-mnist"))
    output = run(workspace, "python", "-m", "stages.prepare", succeeds=False)
    assert "is not the publisher's train-images-idx3-ubyte.gz: its SHA-256 is" in output


def test_no_copy_and_no_network_names_every_place(workspace):
    def nowhere(content):
        content["dataset"] = "fashion-mnist"
        content["fetch"] |= {"folders": ["/nonexistent"], "mirrors": ["http://127.0.0.1:9"], "attempts": 1}

    shutil.rmtree(workspace / "data/raw")
    edit(workspace, nowhere)
    output = run(workspace, "python", "-m", "stages.fetch", succeeds=False, FASHION_MNIST_DIR="/also/nonexistent")
    for place in ("/nonexistent/train-images", "/also/nonexistent/train-images", "http://127.0.0.1:9/train-images"):
        assert place in output
    assert "make demo" in output
    assert "Traceback" not in output


def test_a_place_that_cannot_be_written_is_named(workspace):
    shutil.rmtree(workspace / "data")
    (workspace / "data").write_text("a file where the folder should be")
    output = run(workspace, "python", "-m", "stages.fetch", succeeds=False)
    assert output.startswith("error: cannot read or write data")
    assert "Traceback" not in output
