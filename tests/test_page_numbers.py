"""Every table of the report page, cell by cell, against the files it is made from; the committed page and a fresh one."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from stages.dataset import CLASS_NAMES
from tests.conftest import ROOT


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
            (cells(re.search(r"<thead>(.*?)</thead>", table, re.DOTALL)[1]), self.body(table))
            for table in re.findall(r"<table.*?</table>", self.markup, re.DOTALL)
            if "<thead>" in table
        ]

    @staticmethod
    def body(table: str) -> list[list[str]]:
        body = re.search(r"<tbody>(.*?)</tbody>", table, re.DOTALL)[1]
        return [cells(row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)]

    def with_header(self, *names: str) -> list[list[list[str]]]:
        """The rows of every table whose first headings these are."""
        return [rows for header, rows in self.tables if header[: len(names)] == list(names)]

    def csv(self, path: str) -> pd.DataFrame:
        return pd.read_csv(self.reports / path)

    def json(self, path: str) -> dict:
        return json.loads((self.reports / path).read_text(encoding="utf-8"))

    def runs(self) -> dict[str, str]:
        """The run of each model that the page shows."""
        return {
            run.rpartition("-")[0]: run
            for run in sorted((p.stem for p in self.reports.glob("confusion/*")), reverse=True)
        }


@pytest.fixture(scope="module", params=[pytest.param("committed", marks=pytest.mark.record), "fresh"])
def page(request) -> Page:
    return Page(ROOT if request.param == "committed" else request.getfixturevalue("finished"))


def percent(value: float, digits: int = 2) -> str:
    return f"{100 * value:.{digits}f}"


def ends(row, form: Callable[[float], str], name: str = "") -> str:
    return f"{form(row[f'{name}low'])} to {form(row[f'{name}high'])}"


def thousandths(value: float) -> str:
    return f"{value:.3f}"


def test_the_table_of_models(page):
    summary = page.json("summary.json")
    ((*rows,),) = page.with_header("model", "validation accuracy")
    for row in rows:
        name = row[0].removesuffix(" (selected)")
        values = summary["models"].get(name, summary["ensemble"])
        assert row[1] == f"{percent(values['val_accuracy'])} %"
        assert row[2] == f"{percent(values['test_accuracy'])} %"
        assert row[4] == f"{percent(values['test_accuracy_plain'])} %"
        assert row[5] == thousandths(values["test_loss"])
        assert row[6:8] == [f"{values['parameters']:,}", f"{values['multiply_adds']:,}"]
    assert len(rows) == len(summary["models"]) + (summary["ensemble"] is not None)


def test_the_headline(page):
    summary, selection = page.json("summary.json"), page.json("selection.json")
    accuracy = summary["models"][selection["selected"]]["test_accuracy"]
    table = page.csv("statistics/intervals.csv").query("metric == 'accuracy'").set_index("model")
    assert f"{percent(accuracy)} % of " in page.text
    assert f"interval of {ends(table.loc[selection['selected']], percent)} %." in page.text
    assert selection["reason"] in page.text


def test_the_intervals(page):
    table = page.csv("statistics/intervals.csv").set_index(["model", "metric"])
    (rows,) = page.with_header("model", "accuracy, %", "interval", "macro-F1, %")
    assert len(rows) == len(table) / 5
    for model, *values in rows:
        for place, metric in enumerate(("accuracy", "macro_f1", "loss", "brier", "ece")):
            form = thousandths if metric in ("loss", "brier") else percent
            row = table.loc[(model, metric)]
            assert values[2 * place : 2 * place + 2] == [form(row["value"]), ends(row, form)]


def test_the_pairs(page):
    (rows,) = page.with_header("in words")
    expected = [
        [
            row["verdict"], str(row["only_better"]), str(row["only_worse"]), percent(row["difference"]),
            ends(row, percent, "difference_"), f"{row['p_holm']:.2g}",
        ]
        for _, row in page.csv("statistics/pairs.csv").iterrows()
    ]  # fmt: skip
    assert rows == expected
    assert f"for {len(expected)} questions at once" in page.text


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
        assert re.search(rf"mistaken by {selected}: [^.]*{row.pictures} for {re.escape(row.predicted)}", page.text)


def test_each_models_classes(page):
    found = page.with_header("class", "precision", "recall", "F1")
    tables = [page.csv(f"per_class/{run}.csv") for run in page.runs().values()]
    expected = [
        [
            [row["class"], *(thousandths(row[key]) for key in ("precision", "recall", "f1"))]
            for _, row in table.iterrows()
        ]
        for table in tables
    ]
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
    pictures = next(iter(tables.values()))["pictures"].iloc[0]
    assert f"{pictures:,} test pictures, corrupted in {len(rows)} ways" in page.text


def test_unfamiliar_input(page):
    (rows,) = page.with_header("model", "input")
    expected = [
        [model, row["input"], *(percent(row[key], 1) for key in ("auroc", "fpr_at_95", "mean_confidence"))]
        for model, run in page.runs().items()
        for _, row in page.csv(f"unfamiliar/{run}.csv").iterrows()
    ]
    assert sorted(rows) == sorted(expected)


def test_the_datas_faults(page):
    audit = page.json("audit/summary.json")
    twins = audit["twins"]
    (rows,) = page.with_header("splits")
    assert rows == [[name, str(counts["exact"]), str(counts["near"])] for name, counts in twins["pairs"].items()]
    assert re.search(rf"\b{twins['pairs_in_all']:,} pairs? differs? by less", page.text)
    assert re.search(rf"\b{twins['test_with_twin']:,} test pictures? (has|have) such a twin", page.text)
    assert re.search(rf"\b{twins['different_labels']:,} pairs? carr", page.text)
    for name, row in audit["suspects"].items():
        said = f"{row['suspects']:,} of {row['pictures']:,} labels are doubtful in {name} ({percent(row['share'])} %)"
        assert said in page.text
    assert audit["test_error"]["reasoning"] in page.text
    (rows,) = page.with_header("model", "all, %")
    assert rows == [
        [
            row["model"],
            percent(row["accuracy_of_all"]),
            percent(row["accuracy"]),
            ends(row, percent),
            f"{row['pictures']:,}",
        ]
        for _, row in page.csv("statistics/without_twins.csv").iterrows()
    ]


def test_shared_errors(page):
    table = page.csv("statistics/shared_errors.csv")
    alike = (table["models_that_say_so"] == len(page.runs())).sum()
    assert (
        f"{len(table)} test pictures are wrong in every model; of {alike} of them all models say the same" in page.text
    )


def test_no_table_is_left_untested(page):
    tested = {"model", "in words", "class", "corruption", "splits"}
    assert {header[0] for header, _ in page.tables} == tested
    assert len(page.tables) == 8 + 10 + len(page.runs())
