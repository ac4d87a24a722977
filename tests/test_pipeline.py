"""The whole graph through DVC, in a temporary repository, on a few images: what a user does with it, day by day."""

import inspect
import json
import re
from pathlib import Path

import pytest

from stages.results.metrics import with_network
from tests import test_page_numbers
from tests.conftest import MODELS, commit, edit, make_copy, ran, run
from tests.test_graph import STAGES, outputs


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, published) -> Path:
    """A copy of the project with its quickest model alone, where the whole graph has run in the least time."""
    folder = tmp_path_factory.mktemp("tiny") / "project"
    folder.mkdir()
    make_copy(folder, tuple(array[:600] for array in published), train=500)
    (folder / "stages/models/small.py").unlink()

    def shrink(content: dict) -> None:
        del content["models"]["small"]
        content["threads"] = 1
        content["prepare"]["val_per_class"] = 10
        content["search"] = {}
        content["folds"]["model"] = "plain"
        content["eda"]["embedded_images"] = content["statistics"]["resamples"] = content["robustness"]["images"] = 100
        content["explain"]["samples"] = content["report"]["samples"] = 1

    edit(folder, shrink)
    (folder / "first_run.log").write_text(run(folder, "dvc", "repro"))
    commit(folder, "First run")
    return folder


def test_the_whole_graph_runs_once_and_its_results_agree(tiny):
    log = (tiny / "first_run.log").read_text()
    assert {name.partition("@")[0] for name in ran(log)} == set(STAGES)
    assert not re.search("Traceback|Warning|absl|cuda", log)

    reports = tiny / "reports"
    for path in set().union(*map(outputs, STAGES)):
        path = re.sub(r"\$\{item\.(\w+)\}", lambda key: {"model": "plain", "seed": "0"}[key[1]], path)
        assert (tiny / path).exists(), path
    selection = json.loads((reports / "selection.json").read_text())
    assert (selection["selected"], selection["run"]) == ("plain", "plain-0")
    assert (tiny / "data/selected/model.keras").read_bytes() == (tiny / "data/models/plain-0.keras").read_bytes()

    summary = json.loads((reports / "summary.json").read_text())
    val, test = (
        with_network(json.loads((reports / f"metrics/{split}/plain-0.json").read_text())) for split in ("val", "test")
    )
    row = summary["models"]["plain"]
    assert summary["ensemble"] is None
    assert [row[key] for key in ("val_accuracy", "test_accuracy")] == [val["accuracy"], test["accuracy"]]
    assert {row[key] == val[key] for key in ("parameters", "multiply_adds", "epochs")} == {True}
    assert row["test_accuracy"] > 0.3
    layers = (tiny / "data/models/plain-0.txt").read_text()
    assert re.search(rf"Multiply-adds.* {val['multiply_adds']:,}$", layers, re.MULTILINE)
    for path in reports.rglob("*"):  # wall times stand in files of their own
        if path.suffix in {".json", ".csv"} and not re.search("timing|benchmark|experiments", str(path)):
            assert "seconds" not in path.read_text(), path

    page = test_page_numbers.Page(tiny)
    for name, check in list(vars(test_page_numbers).items()):
        if name.startswith("test_") and list(inspect.signature(check).parameters) == ["page"]:
            check(page)
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", page.markup)
    assert not re.findall(r"url\((?!data:|#|\$\{sheet.src\})|@import", page.markup)

    shown = run(tiny, "dvc", "metrics", "show")
    assert max(map(len, shown.splitlines())) <= 140  # it fits a terminal
    assert len(re.findall(r"plain-0\.json", shown)) == 3
    assert ran(run(tiny, "dvc", "repro")) == set()
    assert run(tiny, "git", "status", "--porcelain") == ""


# --- With several models, as DVC's users look at them ---


def test_the_best_model_by_validation_is_selected(finished):
    models = json.loads((finished / "reports/summary.json").read_text())["models"]
    best = max(models, key=lambda name: (models[name]["val_accuracy"], -models[name]["val_loss"]))
    assert json.loads((finished / "reports/selection.json").read_text())["selected"] == best
    shown = json.loads(run(finished, "dvc", "metrics", "show", "--json"))[""]["data"]
    columns = {(Path(file).parent, tuple(entry["data"])) for file, entry in shown.items()}
    assert (len(shown), len(columns)) == (3 * len(MODELS), 3)  # for each split, all have the same columns


def test_everything_is_compared_with_main_in_a_fresh_clone_without_cache(finished, tmp_path):
    folder = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(finished), str(folder))
    run(folder, "git", "switch", "--quiet", "--create", "try")
    metrics = folder / "reports/metrics/test/small-0.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"accuracy": 0.123}))
    edit(folder, lambda content: content["models"]["small"].update(momentum=0.75))
    commit(folder, "Try another momentum")
    difference = json.loads(run(folder, "dvc", "metrics", "diff", "main", "--json"))
    assert {path: list(changed) for path, changed in difference.items()} == {
        "reports/metrics/test/small-0.json": ["accuracy"]
    }
    parameters = json.loads(run(folder, "dvc", "params", "diff", "main", "--json"))
    assert list(parameters["params.yaml"]) == ["models.small.momentum"]
    run(folder, "dvc", "plots", "diff", "main", "--out", "plots")
    page = (folder / "plots" / "index.html").read_text()
    assert not re.findall(r"<script[^>]+src=|<link[^>]+href=", page)  # it needs no network
    images = re.findall(r"<img[^>]+src=[\"']([^\"']+)", re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
    assert len(images) > 20
    assert all((folder / "plots" / image).exists() for image in images)
    for model in MODELS:
        assert f"Confusion matrix of {model}, seed 0" in page


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
