"""Metrics on cases small enough to count by hand, and the choice of the best model."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common.errors import InputError
from stages.common.parameters import Report
from stages.common.runs import TIMING, save_predictions
from stages.common.splits import CLASS_NAMES
from stages.compare import combine, ensemble, times
from stages.evaluation.classes import confusion, per_class
from stages.evaluation.ensemble import members, runs_to_compare
from stages.evaluation.scores import scores
from stages.page.documents import with_table
from stages.page.payload import galleries
from stages.page.tables import HEADER, aligned, rows
from stages.select import rank, reason

LABELS = np.array([0, 0, 1, 2])
PROBABILITIES = np.full((4, 10), 0.02)
for place, (guess, chance) in enumerate([(0, 0.82), (1, 0.82), (1, 0.82), (2, 0.82)]):
    PROBABILITIES[place, guess] = chance


def test_scores_of_four_images_one_of_them_wrong():
    result = scores(PROBABILITIES, PROBABILITIES[:, [2, 1, 0, *range(3, 10)]], LABELS)
    assert result["accuracy"] == 0.75
    assert result["accuracy_single_view"] == 0.25
    assert result["loss"] == pytest.approx(-(3 * np.log(0.82) + np.log(0.02)) / 4, abs=1e-6)
    assert result["macro_f1"] == round((2 / 3 + 2 / 3 + 1) / 10, 6)
    assert scores(PROBABILITIES, PROBABILITIES, LABELS)["accuracy_single_view"] == 0.75


def test_precision_and_recall_of_each_class():
    table = per_class(PROBABILITIES, LABELS).set_index("class")
    assert table.loc["T-shirt/top", ["precision", "recall", "images"]].tolist() == [1, 0.5, 2]
    assert table.loc["Trouser", ["precision", "recall", "images"]].tolist() == [0.5, 1, 1]
    assert table.loc["Bag", ["precision", "recall", "f1", "images"]].tolist() == [0, 0, 0, 0]


def test_confusion_counts_actual_against_predicted():
    table = confusion(PROBABILITIES, LABELS)
    assert len(table) == 100
    assert table["images"].sum() == 4
    cell = table[(table["actual"] == CLASS_NAMES[0]) & (table["predicted"] == CLASS_NAMES[1])].iloc[0]
    assert (cell["images"], cell["share"]) == (1, 0.5)
    shares = table.pivot(index="actual", columns="predicted", values="share").loc[list(CLASS_NAMES), list(CLASS_NAMES)]
    assert np.diag(shares).tolist() == [0.5, 1, 1, *[0] * 7]  # 0 for a class without images


def run(accuracy: float, loss: float = 0.3, epochs: int = 5) -> dict:
    numbers = {"accuracy": accuracy, "accuracy_single_view": accuracy, "loss": loss, "macro_f1": accuracy}
    return numbers | {"epochs": epochs, "parameters": 10, "multiply_adds": 20}


def test_the_highest_validation_accuracy_wins_and_ties_go_to_the_lower_loss():
    ranking = rank({"a": [run(0.9, 0.2)], "b": [run(0.92, 0.5)], "c": [run(0.92, 0.4)]})
    assert [entry["model"] for entry in ranking] == ["c", "b", "a"]
    assert reason(ranking) == (
        "c and b have the same validation accuracy, 92.00 %; c has the lower loss, 0.4000 against 0.5000."
    )


def test_a_tie_in_everything_is_said_to_be_one():
    ranking = rank({"b": [run(0.9)], "a": [run(0.9)]})
    assert [entry["model"] for entry in ranking] == ["a", "b"]
    assert "same loss" in reason(ranking)
    assert "lower" not in reason(ranking)


def test_several_seeds_are_compared_by_their_mean():
    ranking = rank({"steady": [run(0.91), run(0.91)], "lucky": [run(0.93), run(0.88)]})
    assert ranking[0]["model"] == "steady"
    assert reason(ranking) == "steady has the highest validation accuracy, 91.00 %; lucky is next with 90.50 %."


def test_a_tie_of_several_seeds_goes_to_the_lower_mean_loss_of_six_decimals():
    ranking = rank({"b": [run(0.9, 0.5), run(0.8, 0.1)], "a": [run(0.85, 0.4)]})
    assert ranking[0] == {"model": "b", "val_accuracy": 0.85, "val_loss": 0.3}
    third = [run(0.9, 0.3), run(0.9, 0.3), run(0.8, 0.2)]
    assert rank({"a": third}) == [{"model": "a", "val_accuracy": 0.866667, "val_loss": 0.266667}]
    assert rank({"b": [run(0.9, 0.3)], "a": [run(0.9 - 1e-7, 0.3 + 1e-7)]})[0]["model"] == "a"  # equal when rounded


def test_one_model_is_selected_without_a_comparison():
    assert reason(rank({"a": [run(0.9)]})) == "a is the only model; its validation accuracy is 90.00 %."


def test_times_are_means_over_runs_of_seconds_and_milliseconds_per_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "evaluate"):
        (TIMING / name).mkdir(parents=True)
    for run_name, seconds in (("a-0", [1.0, 2.0]), ("a-1", [3.0, 6.0])):
        pd.DataFrame({"seconds": seconds}).to_csv(TIMING / "train" / f"{run_name}.csv")
        pd.DataFrame({"seconds": seconds, "images": [500, 400]}).to_csv(TIMING / "evaluate" / f"{run_name}.csv")
    assert times("a", ["a-0", "a-1"]) == {"model": "a", "training_seconds": 6, "milliseconds_per_image": 12}


def test_seeds_combine_to_mean_and_sample_std():
    row = combine([run(0.9, epochs=5), run(0.92, epochs=6)], [run(0.88), run(0.9)])
    assert row["val_accuracy"] == 0.91
    assert row["test_accuracy"] == 0.89
    assert row["test_accuracy_std"] == pytest.approx(np.std([0.88, 0.9], ddof=1), abs=1e-6)
    assert (row["epochs"], row["runs"]) == (5.5, 2)
    thirds = combine([run(0.9), run(0.9), run(0.7)], [run(0.9), run(0.9), run(0.7)])
    assert (thirds["test_accuracy"], thirds["test_accuracy_std"]) == (0.833333, 0.11547)
    alone = combine([run(0.9)], [run(0.88)])
    assert alone["test_accuracy_std"] is None
    assert alone["epochs"] == 5


def test_the_ensemble_averages_the_probabilities_of_all_runs_of_the_two_best(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    certain, unsure = np.full((4, 10), 0.01), np.full((4, 10), 0.05)
    certain[:, 0], unsure[:, 1] = 0.91, 0.55
    names = ["a-0", "a-1", "b-0", "b-1"]
    for run_name, probabilities in zip(names, [certain, certain, unsure, unsure], strict=True):
        for split in ("val", "test"):
            save_predictions(split, run_name, probabilities, unsure, LABELS)
    models = {model: combine([run(0.9)], [run(0.88)]) for model in "abc"}
    selection = {"ranking": [{"model": model} for model in "abc"]}
    selection["runs"] = {model: [f"{model}-{seed}" for seed in (0, 1)] for model in "cba"}
    name, row = ensemble(selection, models)
    assert name == "ensemble: a + b, 4 runs"
    assert (row["val_accuracy"], row["test_accuracy"]) == (0.5, 0.5)  # class 0, as the more certain half says
    assert row["test_accuracy_single_view"] == 0.25
    assert row["test_loss"] == pytest.approx(-np.log([0.48, 0.48, 0.28, 0.03]).mean(), abs=1e-6)
    assert (row["multiply_adds"], row["parameters"], row["epochs"], row["runs"]) == (80, 40, 20, 4)
    assert ensemble({"ranking": selection["ranking"][:1], "runs": {"a": ["a-0"]}}, models) is None


def test_two_runs_make_an_ensemble_and_one_does_not():
    selection = {"ranking": [{"model": "b"}, {"model": "a"}], "best_runs": {"a": "a-0", "b": "b-0"}}
    both = selection | {"runs": {"a": ["a-0"], "b": ["b-0"]}}
    assert members(both) == ["b-0", "a-0"]
    assert runs_to_compare(both) == {"a": ["a-0"], "b": ["b-0"], "ensemble": ["b-0", "a-0"]}
    alone = {"ranking": [{"model": "b"}], "best_runs": {"b": "b-0"}, "runs": {"b": ["b-0"]}}
    assert members(alone) == []
    assert runs_to_compare(alone) == {"b": ["b-0"]}


def table_of(**models: dict) -> list[list[str]]:
    timing = pd.DataFrame({"model": list(models), "training_seconds": 61.2, "milliseconds_per_image": 0.123})
    return rows({"selected": "b", "models": models, "ensemble": None}, timing, {"a": [0.87, 0.89]})


def test_the_table_marks_the_selected_model_and_shows_standard_deviations():
    one = combine([run(0.9)], [run(0.88)])
    two = combine([run(0.95), run(0.97)], [run(0.9), run(0.92)])
    cells = table_of(a=one, b=two)
    assert cells[0][:3] == ["b (selected)", "96.00 ± 1.41 %", "91.00 ± 1.41 %"]
    assert cells[0][3] == "-"
    assert cells[1] == [
        "a",
        "90.00 %",
        "88.00 %",
        "88.00 ± 1.41 (2)",
        "88.00 %",
        "0.300",
        "10",
        "20",
        "5",
        "61",
        "0.123",
    ]
    assert len({len(line) for line in aligned(HEADER, cells).splitlines()}) == 1


def test_a_document_keeps_everything_outside_the_marks():
    begin, end = "<!-- speed: begin (written by `make readme`) -->", "<!-- speed: end -->"
    text = f"before\n{begin}\nold\n{end}\nafter\n"
    path = Path("reports/benchmark.md")
    assert with_table(text, "speed", "new", path) == f"before\n{begin}\nnew\n{end}\nafter\n"
    with pytest.raises(InputError, match=r"reports/benchmark\.md has lost the marks"):
        with_table("no marks here", "speed", "new", path)


def test_galleries_show_what_their_titles_say():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(10), size=200)
    labels = np.where(rng.random(200) < 0.5, probabilities.argmax(axis=1), 0)
    shown = galleries(probabilities, labels, Report(seed=0, samples=6))
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    assert {len(chosen) for _, chosen in shown.values()} == {6}
    assert (predicted[shown["right"][1]] == labels[shown["right"][1]]).all()
    mistakes = shown["mistakes"][1]
    assert (predicted[mistakes] != labels[mistakes]).all()
    assert confidence[mistakes[0]] == confidence[predicted != labels].max()
