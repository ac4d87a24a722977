"""The whole graph through DVC, in a temporary repository, on drawn images: what a user does with it, day by day."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pygit2
import pytest
import yaml

from stages import demo
from stages.common.runs import with_network
from stages.common.splits import CLASS_NAMES, notice
from stages.demo import make_copy, shrink
from stages.quality.label_issues import label_issues
from stages.trained import prediction, saving
from tests.conftest import MODELS, ROOT, commit, edit, planned, ran, run

# --- The first run ---


def test_the_copy_is_small_whatever_the_parameters_ask_for():
    asked = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"seeds": [0, 1], "devices": 8}
    model = next(iter(asked["models"]))
    asked["models"][model] |= {"epochs": 50, "epoch_fraction": 0.01, "teachers": [28, 2, 28], "batch_size": 16384}
    small = shrink(asked)
    assert (small["seeds"], small["devices"]) == ([0], 1)
    block = small["models"][model]
    assert (block["epochs"], block["epoch_fraction"], block["teachers"], block["batch_size"]) == (3, 0.25, [3, 2], 64)


def test_every_result_says_that_it_is_not_on_fashion_mnist(finished):
    metrics = list((finished / "reports" / "metrics").rglob("*.json"))
    assert len(metrics) == 3 * len(MODELS)  # val, test, robustness
    assert {json.loads(path.read_text())["dataset"] for path in metrics} == {"drawn"}
    assert json.loads((finished / "reports" / "summary.json").read_text())["dataset"] == "drawn"
    said = notice("drawn")
    assert said in (finished / "reports" / "report.html").read_text()
    log = (finished / "first_run.log").read_text()
    assert log.count(said) >= 2 * len(MODELS)
    assert said in run(finished, "python", "-m", "stages.table")


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
        assert {row[key] == val[key] for key in ("parameters", "multiply_adds", "epochs")} == {True}
    best = max(
        MODELS, key=lambda model: (summary["models"][model]["val_accuracy"], -summary["models"][model]["val_loss"])
    )
    assert summary["selected"] == best
    assert json.loads((finished / "reports" / "selection.json").read_text())["selected"] == best


def test_the_selected_model_is_a_file_that_keras_loads(finished):
    selection = json.loads((finished / "reports" / "selection.json").read_text())
    chosen = finished / "data" / "selected" / "model.keras"
    assert chosen.read_bytes() == (finished / "data" / "models" / f"{selection['run']}.keras").read_bytes()


def test_the_selected_model_loads_without_the_project(finished, tmp_path):
    code = (
        "import sys, keras, numpy\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "logits = model.predict(numpy.zeros((3, 28, 28, 1)), verbose=0)\n"
        "print(logits.shape, [name for name in sys.modules if name.startswith('stages')])\n"
    )
    output = run(tmp_path, "python", "-I", "-c", code, str(finished / "data/selected/model.keras"))
    assert "(3, 10) []" in output


def test_labels_of_the_test_set_are_judged_by_the_model_of_the_first_fold(finished):
    with np.load(finished / "data/prepared/test.npz") as test:
        images, labels = test["images"].reshape(-1, 28, 28, 1), test["labels"]
    judge = saving.load_model(finished / "data/folds/model.keras")
    issues, _ = label_issues(prediction.classify(judge, images), labels)
    table = pd.read_csv(finished / "reports/audit/label_issues.csv").query("split == 'test'")
    assert table["image"].tolist() == issues["place"].tolist()
    assert table["given"].tolist() == [CLASS_NAMES[label] for label in issues["given"]]
    counts = json.loads((finished / "reports/audit/summary.json").read_text())["label_issues"]
    assert {split: row["images"] for split, row in counts.items()} == {"train": 2000, "val": 500, "test": 500}
    assert counts["test"]["flagged"] == len(issues)


def test_models_learn_the_drawn_images(finished):
    summary = json.loads((finished / "reports" / "summary.json").read_text())
    assert summary["models"]["small"]["test_accuracy"] > summary["models"]["plain"]["test_accuracy"] > 0.5


def test_wall_times_stand_in_files_of_their_own(finished):
    timing = pd.read_csv(finished / "reports" / "timing.csv")
    summary = json.loads((finished / "reports" / "summary.json").read_text())
    assert set(timing["model"]) == {*MODELS, summary["ensemble"]["name"]}
    for path in (finished / "reports").rglob("*"):
        if path.suffix in {".json", ".csv"} and not re.search("timing|benchmark|experiments", str(path)):
            assert "seconds" not in path.read_text()


def test_the_report_is_one_file_that_needs_no_network(finished):
    page = (finished / "reports" / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert not re.findall(r"url\((?!data:|#|\$\{sheet.src\})|@import", page)
    for model in MODELS:
        assert f'data-matrix="{model}"' in page
    assert len(page) < 5e6


def test_layers_are_kept_as_text_with_their_cost(finished):
    text = (finished / "data" / "models" / "small-0.txt").read_text()
    metrics = with_network(json.loads((finished / "reports/metrics/val/small-0.json").read_text()))
    assert f"Total params: {metrics['parameters']:,}" in text
    assert re.search(rf"Multiply-adds.* {metrics['multiply_adds']:,}$", text, re.MULTILINE)


# --- Metrics, parameters and plots, as DVC's users know them ---


def test_metrics_are_tables_with_the_same_columns_for_every_run(finished):
    shown = json.loads(run(finished, "dvc", "metrics", "show", "--json"))[""]["data"]
    assert len(shown) == 3 * len(MODELS)
    for split in ("val", "test", "robustness"):
        assert len({tuple(entry["data"]) for path, entry in shown.items() if f"/{split}/" in path}) == 1


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


def test_the_demo_ends_with_the_table_of_its_own_results(finished, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(demo, "FOLDER", tmp_path / "demo")
    left_out = shutil.ignore_patterns(".git", ".dvc", "data")

    def make_copy(folder: Path) -> None:
        shutil.copytree(finished, folder, ignore=left_out, dirs_exist_ok=True)
        pygit2.init_repository(folder, initial_head="main")

    monkeypatch.setattr(demo, "make_copy", make_copy)
    monkeypatch.setattr(demo, "repro", lambda folder: subprocess.CompletedProcess([], returncode=0))
    demo.main()
    output = capfd.readouterr().out
    assert re.search(r"^small \(selected\) ", output, re.MULTILINE)
    assert notice("drawn") in output
    assert run(tmp_path / "demo", "git", "status", "--porcelain") == ""  # `dvc exp run` needs a commit


def test_everything_is_compared_with_main_in_a_fresh_clone_without_cache(finished, tmp_path):
    folder = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(finished), str(folder))
    run(folder, "git", "switch", "--quiet", "--create", "try")
    metrics = folder / "reports/metrics/test/small-0.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"accuracy": 0.123}))
    edit(folder, lambda content: content["models"]["small"].update(momentum=0.75))
    commit(folder, "Try another momentum")
    difference = json.loads(run(folder, "dvc", "metrics", "diff", "main", "--json"))
    assert list(difference) == ["reports/metrics/test/small-0.json"]
    assert list(difference["reports/metrics/test/small-0.json"]) == ["accuracy"]
    parameters = json.loads(run(folder, "dvc", "params", "diff", "main", "--json"))
    assert list(parameters["params.yaml"]) == ["models.small.momentum"]
    run(folder, "dvc", "plots", "diff", "main", "--out", "plots")
    page = (folder / "plots" / "index.html").read_text()
    for image in ("samples.png", "small-confusion.png"):
        assert len(re.findall(rf"<img[^>]*{image}", page)) == 2 or page.count(image) >= 2
    assert page.count("vegaEmbed('#") >= 4 * len(MODELS)


def test_the_page_of_plots_needs_no_network(finished, tmp_path):
    run(finished, "dvc", "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots" / "index.html").read_text()
    assert not re.findall(r"<script[^>]+src=", page)
    assert not re.findall(r"<link[^>]+href=", page)
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    images = re.findall(r"<img[^>]+src=[\"']([^\"']+)", body)
    assert len(images) > 10
    for image in images:
        assert image.startswith("data:") or (tmp_path / "plots" / image).exists()
    assert "Validation accuracy by epoch" in page
    for model in MODELS:
        assert f"Confusion matrix of {model}, seed 0" in page


# --- Only what changed runs again ---


def test_nothing_runs_twice(workspace):
    assert ran(run(workspace, "dvc", "repro")) == set()


ALL = {"select", "calibrate", "export", "audit", "explain", "compare", "report"}
AND_ALL = ", and what follows from all"


def set_key(section: str, key: str, value: object):
    return lambda content: content[section].update({key: value})


def set_block(model: str, key: str, value: object):
    return lambda content: content["models"][model].update({key: value})


# Of each change what runs again, spelled as in the README; `small` is the model of `audit.model`.
ROWS = {
    "models.plain.learning_rate": (
        set_block("plain", "learning_rate", 0.5),
        "`train@plain`, `evaluate@plain`" + AND_ALL,
    ),
    "models.small.learning_rate": (
        set_block("small", "learning_rate", 0.5),
        "`train@small`, `evaluate@small`, `folds`" + AND_ALL,
    ),
    "models.plain.test_time_augmentation": (
        set_block("plain", "test_time_augmentation", "flip"),
        "`train@plain`, `evaluate@plain`" + AND_ALL,
    ),
    "seeds": (lambda content: content.update(seeds=[0, 1]), "`train@*-1`, `evaluate@*-1`" + AND_ALL),
    "prepare.val_per_class": (
        set_key("prepare", "val_per_class", 40),
        "`prepare`, `eda`, `train`, `evaluate`, `folds`" + AND_ALL,
    ),
    "eda.samples_per_class": (set_key("eda", "samples_per_class", 3), "`eda`, `report`"),
    "report.samples": (set_key("report", "samples", 3), "`explain`, `report`"),
    "statistics.bins": (set_key("statistics", "bins", 10), "`compare`, `report`"),
    "audit.near_duplicate_distance": (
        set_key("audit", "near_duplicate_distance", 0.1),
        "`audit`, `compare`, `report`",
    ),
    "robustness.images": (set_key("robustness", "images", 120), "`evaluate`, `export`, `compare`, `report`"),
    "stages/models/plain.py": (
        "stages/models/plain.py",
        "`train@plain`, `evaluate@plain`, `audit`, `explain`" + AND_ALL,
    ),
    "stages/models/small.py": (
        "stages/models/small.py",
        "`train@small`, `evaluate@small`, `folds`, `audit`, `explain`" + AND_ALL,
    ),
    "stages/training/fit.py": ("stages/training/fit.py", "`train`, `evaluate`, `folds`" + AND_ALL),
    "stages/evaluation/classes.py": (
        "stages/evaluation/classes.py",
        "`evaluate`, `calibrate`, `export`, `compare`, `report`",
    ),
    "stages/figures/eda.py": ("stages/figures/eda.py", "`eda`, `report`"),
    "stages/figures/results.py": ("stages/figures/results.py", "`report`"),
    "stages/page/report.html.jinja": ("stages/page/report.html.jinja", "`report`"),
}


def expand(cell: str, seeds: list[int]) -> set[str]:
    """The stages that a cell names: `train` is all of its runs, `train@plain` those of every seed."""
    names = set(ALL) if AND_ALL.strip(", ") in cell else set()
    for name in re.findall(r"`([\w@*-]+)`", cell):
        stage, _, which = name.partition("@")
        if stage not in {"train", "evaluate"}:
            names.add(name)
        elif which.startswith("*-"):
            names |= {f"{stage}@{model}-{which[2:]}" for model in MODELS}
        else:
            names |= {f"{stage}@{model}-{seed}" for model in ([which] if which else MODELS) for seed in seeds}
    return names


def test_the_readmes_table_of_what_runs_again_is_true():
    text = (ROOT / "README.md").read_text()
    _, _, table = text.partition("these run again |\n")
    rows = re.findall(r"^\| `(.*?)` +\| (.*?) +\|$", table.partition("\n\n")[0], flags=re.MULTILINE)
    assert len(rows) == len(table.partition("\n\n")[0].splitlines()) - 1 > 0
    for change, cell in rows:  # `plain` stands for a model that is not that of `audit.model`
        model = re.search(r"models[./](\w+)", change)
        change, cell = (part.replace(model[1], "plain") if model else part for part in (change, cell))
        if change.startswith("models.plain.") and change not in ROWS:
            change = "models.plain.learning_rate"  # the keys of a block are one parameter
        change = change.partition(":")[0]
        assert expand(cell, seeds=[0]) == expand(ROWS[change][1], seeds=[0]), change
    (sentence,) = re.findall(r"^What follows from all: (.*?)\. ", text, re.MULTILINE | re.DOTALL)
    following, _, more = sentence.partition(";")
    assert set(re.findall(r"`(\w+)`", following)) == ALL
    assert "`folds`" in more  # for the model of `audit.model`


@pytest.mark.parametrize("change", ROWS)
def test_only_what_depends_on_a_change_runs_again(change, dry_workspace):
    run(dry_workspace, "git", "restore", "params.yaml", "stages")
    action, cell = ROWS[change]
    if callable(action):
        edit(dry_workspace, action)
    else:
        path = dry_workspace / action
        comment = "{# a comment #}" if path.suffix == ".jinja" else "# a comment"
        path.write_text(f"{path.read_text()}\n{comment}\n")
    expected = expand(cell, seeds=[0])
    if callable(action) or action.startswith("stages/models"):
        expected.add("check")
    options = ["--allow-missing"] if change == "seeds" else []
    assert planned(dry_workspace, "--force-downstream", *options) == expected


# --- Bad input: a sentence, a non-zero exit, nothing lost ---


def test_a_bad_parameter_stops_everything_before_anything_is_removed(workspace):
    edit(workspace, lambda content: content["models"]["small"].update(momentum=2))
    edit(workspace, lambda content: content["models"]["plain"].update(learning_rat=1))
    output = run(workspace, "dvc", "repro", succeeds=False)
    assert "models.small.momentum is 2, but must be a number from 0 up to, but not including, 1" in output
    assert "models.plain.learning_rat is unknown; did you mean learning_rate?" in output
    assert "Traceback" not in output
    assert ran(output) == {"check"}
    assert run(workspace, "git", "status", "--porcelain").split() == ["M", "params.yaml"]
    assert (workspace / "data/models/small-0.keras").exists()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("stages.train", "smal"), "there is no model smal; did you mean small? The models are"),
        (("stages.train", "small", "--seed", "-1"), "the seed of small is -1, but must be a whole number from 0"),
        (("stages.evaluate", "zebra"), "there is no model zebra"),
        (
            ("stages.evaluate", "small", "--seed", "7"),
            "data/models/small-7.keras is missing. Type `dvc repro`",
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
