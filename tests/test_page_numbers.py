"""Every table of the report page, cell by cell, against the files it is made from: the committed page, a fresh one, and one
of two seeds, where one run has to stand for each model."""

import base64
import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.data.publisher import CLASS_NAMES
from stages.figures import results
from stages.figures.style import save
from stages.results.predictions import load_predictions
from stages.scoring.temperature import fit_temperature
from tests.conftest import MODELS, ROOT, clone_with_data, edit, ran, run


def words(markup: str) -> str:
    """Markup as the text that a reader sees."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def cells(markup: str) -> list[str]:
    return [words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", markup, re.DOTALL)]


class Page:
    """A report page and the files beside it."""

    def __init__(self, folder: Path):
        self.reports = folder / "reports"
        self.markup = (self.reports / "report.html").read_text(encoding="utf-8")
        self.text = words(re.sub(r"<(script|style).*?</\1>", " ", self.markup, flags=re.DOTALL))
        self.tables = [
            (cells(head), [cells(row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)])
            for head, body in re.findall(r"<thead>(.*?)</thead>\s*<tbody>(.*?)</tbody>", self.markup, re.DOTALL)
        ]

    def with_header(self, *names: str) -> list[list[list[str]]]:
        """The rows of every table whose first headings these are."""
        return [rows for header, rows in self.tables if header[: len(names)] == list(names)]

    def says(self, *parts: str, within: int = 200) -> bool:
        """Whether all parts, in any order, stand close together in the text, each as words of its own."""
        places = [
            [found.start() for found in re.finditer(rf"(?<![\w.,]){re.escape(part)}(?![\w]|[.,]\d)", self.text)]
            for part in parts
        ]
        return any(
            all(any(start <= place < start + within for place in others) for others in places)
            for starts in places
            for start in starts
        )

    def csv(self, path: str) -> pd.DataFrame:
        return pd.read_csv(self.reports / path)

    def json(self, path: str) -> dict:
        return json.loads((self.reports / path).read_text(encoding="utf-8"))

    def runs(self) -> dict[str, str]:
        """The run of each model that the page shows."""
        return self.json("selection.json")["best_runs"]


@pytest.fixture(scope="module")
def two_seeds(finished, tmp_path_factory) -> Path:
    """A clone of `finished` with a second seed, in which the graph has run again."""
    folder = tmp_path_factory.mktemp("seeds")
    cache = shutil.copytree(finished / ".dvc" / "cache", folder / "cache")
    clone_with_data(finished, folder := folder / "workspace", cache)
    edit(folder, lambda content: content.update(seeds=[0, 1]))
    (folder / "second_run.log").write_text(run(folder, "dvc", "repro"))
    return folder


PAGES = [pytest.param("committed", marks=pytest.mark.record), pytest.param("two_seeds", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=PAGES)  # `test_pipeline` has another page, of one model alone
def page(request) -> Page:
    return Page(ROOT if request.param == "committed" else request.getfixturevalue(request.param))


def percent(value: float, digits: int = 2) -> str:
    return f"{100 * value:.{digits}f}"


def ends(row, form: Callable[[float], str], name: str = "") -> str:
    return f"{form(row[f'{name}low'])} to {form(row[f'{name}high'])}"


def thousandths(value: float) -> str:
    return f"{value:.3f}"


def with_std(row: dict, name: str, form: Callable[[float], str]) -> str:
    std = row[f"{name}_std"]
    return form(row[name]) if std is None else f"{form(row[name])} ± {form(std)}"


def test_the_table_of_models(page):
    summary = page.json("summary.json")
    ((*rows,),) = page.with_header("model", "validation accuracy")
    for row in rows:
        name = row[0].removesuffix(" (selected)")
        values = summary["models"].get(name, summary["ensemble"])
        assert row[1] == f"{with_std(values, 'val_accuracy', percent)} %"
        assert row[2] == f"{with_std(values, 'test_accuracy', percent)} %"
        assert row[4] == f"{with_std(values, 'test_accuracy_single_view', percent)} %"
        assert row[5] == with_std(values, "test_loss", thousandths)
        cost = values["multiply_adds"]
        assert row[6:8] == [f"{values['parameters']:,}", "unknown" if cost is None else f"{cost:,}"]
    assert len(rows) == len(summary["models"]) + (summary["ensemble"] is not None)


def test_the_first_table(page):
    summary = page.json("summary.json")
    table = page.csv("statistics/intervals.csv").query("metric == 'accuracy'").set_index("model")
    (rows,) = page.with_header("model", "validation, %")
    assert len(rows) == len(summary["models"]) + (summary["ensemble"] is not None)
    for row in rows:
        name = row[0].removesuffix(" (selected)")
        values = summary["models"].get(name, summary["ensemble"])
        assert row[1:3] == [with_std(values, "val_accuracy", percent), with_std(values, "test_accuracy", percent)]
        assert row[3] == ends(table.loc[name if name in table.index else "ensemble"], percent)


def test_the_headline(page):
    summary, selection = page.json("summary.json"), page.json("selection.json")
    table = page.csv("statistics/intervals.csv").query("metric == 'accuracy'").set_index("model")
    selected = selection["selected"]
    assert page.says(f"{percent(table['value'][selected])} % test accuracy", selected, "trained on", "tested on")
    assert summary["models"][selected]["runs"] == 1 or page.says(
        "Mean", f"{percent(summary['models'][selected]['test_accuracy'])} %"
    )
    assert page.says("tested on", "interval", f"{ends(table.loc[selected], percent)} %", within=400)
    assert selection["reason"] in page.text
    recalls = page.csv("statistics/classes.csv").query("model == @selected").set_index("class")["recall"]
    weakest = [name for name in recalls.index[recalls == recalls.min()] if page.says(f"Weakest class: {name}")]
    assert len(weakest) == 1
    assert page.says("Weakest class", f"{percent(recalls.min(), 1)} %")
    confused = page.csv("statistics/confused.csv").query("model == @selected and actual in @weakest")
    for row in confused.head(1).itertuples():
        assert page.says(
            "Weakest class", f"{row.images} {'image is' if row.images == 1 else 'images are'} taken for {row.predicted}"
        )
    corrupted = page.csv(f"robustness/{selection['run']}.csv").query("strength > 0")
    means = 100 * corrupted.groupby("corruption")["accuracy"].mean()
    assert any(page.says(f"withstands {name} best") for name in means.index[means == means.max()])
    assert any(page.says("withstands", f"{name} worst") for name in means.index[means == means.min()])
    assert page.says("withstands", f"{means.max():.0f} %", f"{means.min():.0f} %")


def test_the_intervals(page):
    table = page.csv("statistics/intervals.csv").set_index(["model", "metric"])
    (rows,) = page.with_header("model", "accuracy, %", "interval", "macro-F1, %")
    ece = page.csv("statistics/temperature.csv").set_index("model")["ece"]
    assert len(rows) == len(table) / 4 == len(ece)
    for model, *values in rows:
        for place, metric in enumerate(("accuracy", "macro_f1", "loss", "brier")):
            form = thousandths if metric in ("loss", "brier") else percent
            row = table.loc[(model, metric)]
            assert values[2 * place : 2 * place + 2] == [form(row["value"]), ends(row, form)]
        assert values[8:] == [percent(ece[model])]


def test_the_pairs(page):
    tables = page.with_header("in words")
    if len(page.runs()) == 1:
        assert not tables
        assert page.says("only one model", "nothing to compare")
        return
    (rows,) = tables
    expected = [
        [
            row["verdict"], str(row["only_better"]), str(row["only_worse"]), percent(row["difference"]),
            ends(row, percent, "difference_"), f"{row['p_holm']:.2g}",
        ]
        for _, row in page.csv("statistics/pairs.csv").iterrows()
    ]  # fmt: skip
    assert rows == expected
    assert page.says("Holm", str(len(expected)))


def test_the_classes(page):
    table = page.csv("statistics/classes.csv")
    found = page.with_header("model", "precision", "interval")
    assert len(found) == 10
    for name, rows in zip(CLASS_NAMES, found, strict=True):
        expected = [
            [row["model"]]
            + [
                text
                for key in ("precision", "recall", "f1")
                for text in (thousandths(row[key]), ends(row, thousandths, f"{key}_"))
            ]
            for _, row in table[table["class"] == name].iterrows()
        ]
        assert rows == expected
    selected = page.json("selection.json")["selected"]
    for row in page.csv("statistics/confused.csv").query("model == @selected").itertuples():
        assert page.says(selected, f"{row.images} for {row.predicted}", within=300)


def test_each_models_classes(page):
    found = page.with_header("class", "precision", "recall", "F1")
    keys = ("precision", "recall", "f1")
    tables = [page.csv(f"per_class/{run}.csv").set_index("class") for run in page.runs().values()]
    expected = [[[name, *(thousandths(row[key]) for key in keys)] for name, row in one.iterrows()] for one in tables]
    assert sorted(found) == sorted(expected)


def test_the_temperatures(page):
    (rows,) = page.with_header("model", "temperature")
    assert rows == [
        [
            row["model"], f"{row['temperature']:.2f}", thousandths(row["loss"]), thousandths(row["loss_scaled"]),
            thousandths(row["brier"]), thousandths(row["brier_scaled"]), percent(row["ece"]), percent(row["ece_scaled"]),
        ]
        for _, row in page.csv("statistics/temperature.csv").iterrows()
    ]  # fmt: skip


def test_robustness(page):
    header = next(header for header, _ in page.tables if header[0] == "corruption")
    (rows,) = page.with_header("corruption")
    tables = {model: page.csv(f"robustness/{run}.csv").query("strength > 0") for model, run in page.runs().items()}
    assert sorted(header[1:]) == sorted(tables)
    for name, *values in rows:
        for model, value in zip(header[1:], values, strict=True):
            table = tables[model]
            mean = 100 * table[table["corruption"] == name]["accuracy"].mean()
            assert float(value) == pytest.approx(mean, abs=0.0501)  # of a tie either neighbour
    images = next(iter(tables.values()))["images"].iloc[0]
    assert page.says(f"{images:,}", "test images", str(len(rows)))


def test_ood_inputs(page):
    (rows,) = page.with_header("model", "input")
    expected = [
        [model, row["input"], *(percent(row[key], 1) for key in ("auroc", "fpr_at_95", "mean_confidence"))]
        for model, run in page.runs().items()
        for _, row in page.csv(f"ood/{run}.csv").iterrows()
    ]
    assert sorted(rows) == sorted(expected)


def test_pictures_of_none_of_the_classes(page):
    found = page.json("strangers.json")
    (rows,) = page.with_header("made-up pictures")
    assert rows == [
        [
            row["kind"], f"{100 * row['noticed']:.0f}", percent(row["auroc"], 1), percent(row["auroc_of_confidence"], 1),
        ]
        for row in found["kinds"]
    ]  # fmt: skip
    assert page.says(f"{percent(found['false_alarms'])} %", f"{percent(found['val_alarms'])} %", "strange")


def test_the_quality_of_the_data(page):
    audit = page.json("audit/summary.json")
    near_duplicates = audit["near_duplicates"]
    (rows,) = page.with_header("splits")
    assert rows == [
        [name, str(counts["exact"]), str(counts["near"])] for name, counts in near_duplicates["pairs"].items()
    ]
    numbers = (near_duplicates[name] for name in ("pairs_in_all", "test_with_near_duplicate", "different_labels"))
    assert page.says(*(f"{number:,}" for number in numbers), "train", within=600)
    for name, row in audit["label_issues"].items():
        assert page.says(f"{row['flagged']:,}", f"{row['images']:,}", name, f"{percent(row['share'])} %")
    assert audit["test_error"]["reasoning"] in page.text
    (rows,) = page.with_header("model", "all, %")
    accuracies = ("accuracy_of_all", "accuracy")
    assert rows == [
        [row["model"], *(percent(row[key]) for key in accuracies), ends(row, percent), f"{row['images']:,}"]
        for _, row in page.csv("statistics/without_near_duplicates.csv").iterrows()
    ]


def test_the_data_of_the_pages_script(page):
    pattern = r'<script type="application/json" id="payload">(.*?)</script>'
    data = json.loads(re.search(pattern, page.markup, re.DOTALL)[1])
    curves = page.csv("curves.csv")
    for one in data["curves"]:
        rows = curves[(curves["model"] == one["model"]) & (curves["seed"] == one["seed"])]
        assert one["val_accuracy"] == rows["val_accuracy"].tolist()
    for model, counts in data["confusion"].items():
        table = page.csv(f"confusion/{page.runs()[model]}.csv")
        assert np.ravel(counts).tolist() == table["images"].tolist()
        guesses = np.frombuffer(base64.b64decode(data["answers"][model]), np.uint8).reshape(-1, 6)[:, 0]
        wrong = (guesses != np.frombuffer(base64.b64decode(data["labels"]), np.uint8)).sum()
        assert wrong == table.query("actual != predicted")["images"].sum()  # the page holds every mistake


def test_no_table_is_left_untested(page):
    several = len(page.runs()) > 1
    tested = {"model", "class", "corruption", "splits", "file", "made-up pictures"} | (
        {"in words"} if several else set()
    )
    assert {header[0] for header, _ in page.tables} == tested
    unbalanced = "test_balanced_accuracy" in (page.reports / "summary.json").read_text()
    assert len(page.tables) == 10 + several + unbalanced + 10 + len(page.runs())


def test_the_exported_files(page):
    exported, times = page.json("export.json"), page.csv("timing/export.csv").set_index("file")
    (rows,) = page.with_header("file")
    assert rows == [
        [
            row["file"], f"{row['bytes']:,}", f"{row['images']:,}", f"{percent(row['val_accuracy'])} %",
            f"{percent(row['same_class'])} %", f"{row['largest_difference']:.1g}",
            thousandths(times["p50_ms"][row["file"]]), thousandths(times["p99_ms"][row["file"]]),
            f"{times['images_per_second'][row['file']]:,.0f}",
        ]
        for row in exported["files"]
    ]  # fmt: skip
    found = exported["detected_out_of_distribution"][0]
    assert page.says(*(f"{percent(share)} % of {kind}" for kind, share in found.items()), within=200)


# --- Two seeds: one run stands for a model, the best by validation, wherever there is room for one ---


def test_a_new_seed_trains_only_the_new_runs(two_seeds):
    new = {f"{stage}@{model}-1" for stage in ("train", "evaluate") for model in MODELS}
    found = ran((two_seeds / "second_run.log").read_text())
    assert {name for name in found if "@" in name} == new
    assert not found & {"prepare", "eda", "folds"}
    assert "±" in run(two_seeds, "python", "-m", "stages.table")


def test_every_place_for_one_run_shows_the_best_one_by_validation(two_seeds, tmp_path, monkeypatch):
    page, runs = Page(two_seeds), Page(two_seeds).runs()
    selection = page.json("selection.json")
    monkeypatch.chdir(two_seeds)
    chosen = (two_seeds / "data/selected/model.keras").read_bytes()
    assert chosen == (two_seeds / f"data/models/{runs[selection['selected']]}.keras").read_bytes()
    accuracies = page.csv("statistics/intervals.csv").query("metric == 'accuracy'").set_index("model")["value"]
    temperatures = page.json("temperatures.json")["temperatures"]
    details = dict(re.findall(r"<summary>(\w+): [\d.]+&nbsp;% test(.*?)</details>", page.markup, re.DOTALL))
    for model, best in runs.items():
        metrics = {run: page.json(f"metrics/val/{run}.json") for run in (f"{model}-0", f"{model}-1")}
        assert best == max(metrics, key=lambda run: (metrics[run]["accuracy"], -metrics[run]["loss"]))
        assert accuracies[model] == pytest.approx(page.json(f"metrics/test/{best}.json")["accuracy"], abs=1e-6)
        val = load_predictions("val", best)
        assert temperatures[model] == pytest.approx(fit_temperature(val["probabilities"], val["labels"]), abs=1e-5)
        assert re.search(rf"\bseed {best.rpartition('-')[2]}\b", words(details[model]))
        counts = page.csv(f"confusion/{best}.csv")["images"].to_numpy().reshape(10, 10)
        save(results.confusion(counts, CLASS_NAMES, model), tmp_path / "again.png")
        drawn = page.reports / "figures" / f"{model}-confusion.png"
        assert (tmp_path / "again.png").read_bytes() == drawn.read_bytes()
