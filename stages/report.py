"""Stage `report`: the figures of the results, and a self-contained page with all of them.

It reads what the other stages wrote; nothing is trained or predicted here. One run represents a model with several seeds:
the one with the best validation accuracy (see `stages/select.py`). Only the table of models and its figure show means, and
only the learning curves show all seeds. The template, style and script of the page are in `stages/page`.
"""

import hashlib
import json
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from stages.base.environment import machine
from stages.base.files import read_json, write_text
from stages.base.runs import EXPERIMENTS, FASHION_MNIST, MODELS, OOD, ROBUSTNESS, SELECTION, TEMPERATURES
from stages.base.splits import load_split, load_summary
from stages.data.publisher import DESCRIPTION
from stages.data.transforms import TUNED_SIZE
from stages.figures import results as draw
from stages.figures import robustness as draw_robustness
from stages.figures.style import MAX_CLASSES, as_shown, figure_names, model_colours, save
from stages.page.descriptions import description
from stages.page.inline import inline, sheet
from stages.page.payload import galleries, payload, shown
from stages.page.tables import (
    EXPORT,
    FILES_HEADER,
    HEADER,
    REPORT,
    SUMMARY,
    TIMING,
    exported_files,
    mean_and_std,
    over_seeds,
    read_rows,
    rows,
)
from stages.parameters.report import Report
from stages.parameters.schema import read
from stages.parameters.statistics import Statistics
from stages.results.git import git
from stages.results.origin import read_origin
from stages.results.predictions import load_predictions
from stages.scoring.scores import confusion_matrix

FIGURES = Path("reports/figures")
STATISTICS = Path("reports/statistics")
AUDIT = Path("reports/audit")
EDA = Path("reports/eda")
EXPLAIN = Path("reports/explain")
CURVES = Path("reports/curves.csv")
PAGE = Path(__file__).parent / "page"
TEXT = dict.fromkeys(("class", "actual", "predicted", "majority_prediction"), str)  # a class may be called 7 or nan


def by_model(folder: Path, runs: dict[str, str]) -> pd.DataFrame:
    """The tables `folder/RUN.csv` of the given runs, one below the other, with a column model in front."""
    tables = [pd.read_csv(folder / f"{run}.csv") for run in runs.values()]
    for model, table in zip(runs, tables, strict=True):
        table.insert(0, "model", model)
    return pd.concat(tables, ignore_index=True)


def moved(summary: dict) -> list[str] | None:
    """The last commit, then sentences on accuracies that differ from its own; None if there is nothing to compare with."""
    before = json.loads(git("show", f"HEAD:./{SUMMARY}") or "{}")
    if before.get("dataset") != summary["dataset"]:
        return None
    found = [git("rev-parse", "--short", "HEAD").strip()]
    for model, now in summary["models"].items():
        if then := before["models"].get(model):
            for split in ("val", "test"):
                old, new = (100 * row[f"{split}_accuracy"] for row in (then, now))
                if f"{old:.2f}" != f"{new:.2f}":
                    found.append(f"{model}: {split} accuracy {old:.2f} to {new:.2f} % ({new - old:+.2f})")
        else:
            found.append(f"{model} is new")
    return found + [f"{model} is gone" for model in before["models"] if model not in summary["models"]]


def main() -> None:
    parameters, statistics_parameters = read("report", Report), read("statistics", Statistics)
    data, summary, selection = load_summary(), read_json(SUMMARY), read_json(SELECTION)
    (images, labels), names = load_split("test"), data["class_names"]
    named, in_colour = figure_names(names), images.shape[-1] == 3
    runs = selection["best_runs"]
    origins = {model: read_origin(MODELS / f"{run}.keras") for model, run in runs.items()}
    curves = pd.read_csv(CURVES)
    options = {"dtype": TEXT, "keep_default_na": False, "na_values": ""}
    statistics = {path.stem: pd.read_csv(path, **options) for path in STATISTICS.glob("*.csv")}
    temperatures = read_json(TEMPERATURES)["temperatures"]
    robustness, ood = by_model(ROBUSTNESS, runs), by_model(OOD, runs)

    exported = read_json(EXPORT)
    blocks = {model: origin["parameters"] for model, origin in origins.items()}
    seeds_recorded = over_seeds(read_rows(EXPERIMENTS), blocks, data["dataset"])

    table = pd.DataFrame([{"model": model, **row} for model, row in summary["models"].items()])
    about = DESCRIPTION if data["dataset"] == FASHION_MNIST else {"title": data["dataset"]}
    example = images[np.argsort(labels != names.index(about.get("example_class", names[0])), kind="stable")[:1]]
    predictions = {model: load_predictions("test", run) for model, run in runs.items()}
    overview = {
        "comparison": draw.comparison(table, selection["selected"]),
        "differences": draw.differences(statistics["pairs"], statistics_parameters.confidence),
        "reliability": draw.reliability(statistics["reliability"], temperatures),
        "coverage": draw.coverage(statistics["coverage"]),
        "robustness": draw_robustness.strengths(robustness, selection["selected"], len(images[0])),
        "corruptions": draw_robustness.samples(example, parameters.seed),
    }
    if len(names) == 2:
        overview["roc"] = draw.roc(predictions, named)
    for name, figure in overview.items():
        save(figure, FIGURES / f"{name}.png")

    order = sorted(runs, key=lambda model: (model != selection["selected"], -summary["models"][model]["val_accuracy"]))
    found = {model: galleries(one["probabilities"], labels, parameters) for model, one in predictions.items()}
    chosen = {model: {name: numbers for name, (_, numbers) in of_model.items()} for model, of_model in found.items()}
    for model, one in predictions.items():
        counts = confusion_matrix(labels, one["probabilities"].argmax(axis=1), len(names))
        save(draw.confusion(counts, named, model), FIGURES / f"{model}-confusion.png")
    best, tested = selection["selected"], np.bincount(labels, minlength=len(names))
    own = statistics["classes"].query("model == @best")
    own = own[own["class"].isin(np.array(names)[tested > 0])]  # a class without test images has no recall
    for name, (title, numbers) in found[best].items():
        some = as_shown(images[numbers], data["dataset"]), labels[numbers], predictions[best]["probabilities"][numbers]
        file = "selected" if name == "random" else name
        save(draw.predictions(*some, named, f"{best}: {title}"), FIGURES / f"{file}.png")
    large = images.shape[1] >= TUNED_SIZE
    low_resolution = {  # as `stages.training.epochs.low_resolution_epochs` says
        model: min(round(large * block["low_resolution_fraction"] * block["epochs"]), block["epochs"] - 1)
        for model, block in blocks.items()
    }
    on_page = shown(predictions, chosen, parameters.seed, images[0, ..., 0].size)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("report.html.jinja").render(
        style=(PAGE / "report.css").read_text(encoding="utf-8"),
        script=(PAGE / "report.js").read_text(encoding="utf-8"),
        payload=payload(predictions, on_page, chosen, curves, low_resolution, order, model_colours(list(runs)), names),
        sheet=sheet(as_shown(images[on_page], data["dataset"])),
        data=data,
        summary=summary,
        selection=selection,
        confidence=statistics_parameters.confidence,
        bins=statistics_parameters.bins,
        temperatures=temperatures,
        header=HEADER,
        rows=rows(summary, read_rows(TIMING), seeds_recorded),
        over_seeds=mean_and_std(seeds_recorded.get(selection["selected"], [])),
        about=about,
        class_names=names,
        figure_names=named,
        tested=tested.tolist(),
        weakest=own.loc[own["recall"].idxmin()].to_dict(),
        shape=images.shape[1:],
        statistics={name: table.to_dict("records") for name, table in statistics.items()},
        robustness=robustness[robustness["strength"] > 0]
        .pivot_table(index=["corruption", "images"], columns="model", values="accuracy", sort=False)
        .reset_index()
        .to_dict("records"),
        ood=ood.to_dict("records"),
        strangers=read_json(Path("reports/strangers.json")),
        audit=read_json(AUDIT / "summary.json"),
        origin=origins[selection["selected"]],
        model_sha256=hashlib.sha256((MODELS / f"{selection['run']}.keras").read_bytes()).hexdigest(),
        machine=machine(),
        exported=exported,
        files_header=FILES_HEADER,
        file_rows=exported_files(),
        models=[
            {
                "name": model,
                "seed": origins[model]["seed"],
                "processor": origins[model]["processor"],
                "description": description(model),
                "parameters": blocks[model],
                "layers": (MODELS / f"{runs[model]}.txt").read_text(encoding="utf-8"),
                "per_class": statistics["classes"]
                .query("model == @model")
                .nsmallest(MAX_CLASSES, "f1")
                .sort_index()
                .to_dict("records"),
            }
            for model in order
        ],
        figures={name: inline(FIGURES / f"{name}.png", in_colour) for name in overview},
        moved=moved(summary),
        eda={path.stem: inline(path, in_colour) for path in sorted(EDA.glob("*.png"))},
        audit_figures={path.stem: inline(path, in_colour) for path in sorted(AUDIT.glob("*.png"))},
        explain={path.stem: inline(path, in_colour) for path in sorted(EXPLAIN.glob("*.png"))},
    )
    write_text(REPORT, page)
    print(f"{REPORT}: {REPORT.stat().st_size / 1e6:.1f} MB.")


if __name__ == "__main__":
    main()
