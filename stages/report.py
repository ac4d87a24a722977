"""Stage `report`: the pictures of the results, and one self-contained page around them.

Everything comes from what the other stages left; nothing is trained or predicted here. A model with several seeds shows
the pictures of the first one. The page's parts lie in `stages/page/`: template, style and script.
"""

import base64
import hashlib
import io
import json
import zipfile
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from stages.dataset import CLASS_NAMES, load_split, load_summary, notice
from stages.environment import machine
from stages.errors import front_door
from stages.figures import results as draw
from stages.figures import robustness as draw_robustness
from stages.figures.style import save
from stages.files import read_json, write_text
from stages.parameters import Report, read_parameters
from stages.runs import (
    CONFUSION,
    HISTORY,
    MODELS,
    PER_CLASS,
    ROBUSTNESS,
    SELECTION,
    UNFAMILIAR,
    load_predictions,
    run_name,
)
from stages.table import EXPERIMENTS, HEADER, REPORT, SUMMARY, TIMING, mean_and_deviation, over_seeds, rows

FIGURES = Path("reports/figures")
STATISTICS = Path("reports/statistics")
AUDIT = Path("reports/audit")
EDA = Path("reports/eda")
EXPLAIN = Path("reports/explain")
COMPARISON = Path("reports/comparison.csv")
CURVES = Path("reports/curves.csv")
TEMPERATURES = Path("reports/temperatures.json")
PAGE = Path("stages/page")
COLUMNS = 50  # pictures in a row of the sheet
RIGHT_PER_CLASS = 12  # pictures that every model has right, to look at beside the mistakes
COLOURS = 32  # of each figure on the page; `reports/figures` holds them whole
SHEET_QUALITY = 25  # of WebP, 0 to 100: the error within an article is 10 of 255 grey levels (root mean square)


def galleries(probabilities: np.ndarray, labels: np.ndarray, parameters: Report) -> dict[str, tuple[str, np.ndarray]]:
    """Which test pictures to show: for each gallery a title and indices.

    Args:
        probabilities: (N, 10); labels (N,).

    Returns:
        `random`, `right` (drawn at random among the right ones) and `mistakes` (the wrong ones with the highest
        probability, that one first).
    """
    rng = np.random.default_rng(parameters.seed)
    count = parameters.samples
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right, wrong = np.flatnonzero(predicted == labels), np.flatnonzero(predicted != labels)
    return {
        "random": ("Test pictures drawn at random", rng.permutation(len(labels))[:count]),
        "right": ("Right: drawn at random among the right ones", rng.permutation(right)[:count]),
        "mistakes": ("The most confident mistakes", wrong[np.argsort(-confidence[wrong], kind="stable")][:count]),
    }


def draw_model(model: str, run: str, images: np.ndarray, dataset: str, parameters: Report) -> None:
    """All pictures of one model, into `reports/figures/MODEL_*.png`."""
    save(draw.model_curves(pd.read_csv(HISTORY / f"{run}.csv"), model), FIGURES / f"{model}_curves.png", dataset)
    save(draw.confusion(pd.read_csv(CONFUSION / f"{run}.csv"), model), FIGURES / f"{model}_confusion.png", dataset)
    predictions = load_predictions("test", run)
    probabilities, labels = predictions["probabilities"], predictions["labels"]
    for name, (title, chosen) in galleries(probabilities, labels, parameters).items():
        figure = draw.predictions(images[chosen], labels[chosen], probabilities[chosen], f"{model}: {title}")
        save(figure, FIGURES / f"{model}_{name}.png", dataset)


def as_webp(picture: Image.Image, **options: object) -> str:
    """A picture as a WebP data address, so that the page needs no other file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="webp", **options)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def inline(path: Path) -> str:
    """A figure's PNG file as a data address: without loss, but for its colours, of which `COLOURS` are left."""
    with Image.open(path) as figure:
        few = figure.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        return as_webp(few.convert("RGB"), lossless=True, quality=100)


def shown(
    predictions: dict[str, dict[str, np.ndarray]], chosen: dict[str, dict[str, np.ndarray]], seed: int
) -> np.ndarray:
    """The test pictures that the page holds: all that some model has wrong, a few of each class that all have right, and
    those of the galleries.

    Args:
        predictions: Of each model, as `load_predictions`.
        chosen: Of each model, the galleries' pictures, by the gallery's name: see `galleries`.
        seed: Of those that are right.

    Returns:
        Their numbers, rising.
    """
    labels = next(iter(predictions.values()))["labels"]
    right = [one["probabilities"].argmax(axis=1) == labels for one in predictions.values()]
    everyone, rng = np.all(right, axis=0), np.random.default_rng(seed)
    good = [rng.permutation(np.flatnonzero(everyone & (labels == which)))[:RIGHT_PER_CLASS] for which in range(10)]
    of_galleries = [numbers for named in chosen.values() for numbers in named.values()]
    return np.unique(np.concatenate([np.flatnonzero(~everyone), *good, *of_galleries]))


def sheet(images: np.ndarray) -> str:
    """Pictures (N, 28, 28, 1) as one picture, dark clothing on white, `COLUMNS` in a row; a data address."""
    lines = -(-len(images) // COLUMNS)
    padded = np.zeros((lines * COLUMNS, 28, 28), np.uint8)
    padded[: len(images)] = images[..., 0]
    pixels = padded.reshape(lines, COLUMNS, 28, 28).transpose(0, 2, 1, 3).reshape(lines * 28, COLUMNS * 28)
    return as_webp(Image.fromarray(255 - pixels).convert("RGB"), quality=SHEET_QUALITY, method=6)


def answers(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What the page shows beside each picture: three classes and their probabilities in percent, uint8 (N, 5).

    The answer comes first, then the next ones by probability; the label stands last if it is none of these three. The first
    two classes share a byte.

    Args:
        probabilities: (N, 10); labels (N,).
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :3]
    absent = (order != labels[:, None]).all(axis=1)
    order[absent, 2] = labels[absent]
    percent = np.rint(100 * np.take_along_axis(probabilities, order, axis=1))
    return np.column_stack([16 * order[:, 0] + order[:, 1], order[:, 2], percent]).astype(np.uint8)


def payload(
    predictions: dict[str, dict[str, np.ndarray]],
    pictures: np.ndarray,
    chosen: dict[str, dict[str, np.ndarray]],
    curves: pd.DataFrame,
    order: list[str],
) -> dict:
    """What the page's script needs, as plain numbers and text.

    Args:
        predictions: Of each model, as `load_predictions`.
        pictures: The numbers of the test pictures on the sheet, in its order.
        chosen: Of each model, the galleries' pictures, by the gallery's name: see `galleries`.
        curves: `reports/curves.csv`.
        order: The models, the best first.
    """
    models = list(curves["model"].unique())
    labels = next(iter(predictions.values()))["labels"]
    chances = {model: predictions[model]["probabilities"] for model in order}

    def packed(values: np.ndarray) -> str:
        return base64.b64encode(values.astype(np.uint8).tobytes()).decode()

    return {
        "classes": CLASS_NAMES,
        "models": order,
        "selected": order[0],
        "columns": COLUMNS,
        "pictures": pictures.tolist(),
        "labels": packed(labels[pictures]),
        "answers": {model: packed(answers(chances[model][pictures], labels[pictures])) for model in order},
        "galleries": {
            model: {name: np.searchsorted(pictures, numbers).tolist() for name, numbers in named.items()}
            for model, named in chosen.items()
        },
        "confusion": {
            model: np.bincount(10 * labels.astype(int) + chances[model].argmax(axis=1), minlength=100)
            .reshape(10, 10)
            .tolist()
            for model in order
        },
        "curves": [
            {"model": str(model), "seed": int(seed), "colour": draw.model_colour(models.index(model))}
            | {name: run[name].tolist() for name in ("epoch", "accuracy", "loss", "val_accuracy", "val_loss")}
            for (model, seed), run in curves.groupby(["model", "seed"], sort=False)
        ],
    }


def origin(run: str) -> dict:
    """Where a run's model comes from, as its saved file says: dataset, split_sha256, model, seed, parameters,
    precision, backend, processor, threads, versions.
    """
    with zipfile.ZipFile(MODELS / f"{run}.keras") as archive:
        return json.loads(archive.read("origin.json"))


def by_model(folder: Path, runs: dict[str, str]) -> pd.DataFrame:
    """The tables `folder/RUN.csv` of several models under each other, with a column model in front."""
    tables = [pd.read_csv(folder / f"{run}.csv") for run in runs.values()]
    for model, table in zip(runs, tables, strict=True):
        table.insert(0, "model", model)
    return pd.concat(tables, ignore_index=True)


@front_door
def main() -> None:
    blocks, parameters, seeds, certainty = read_parameters("models", "report", "seeds", "statistics")
    data, summary, selection = load_summary(), read_json(SUMMARY), read_json(SELECTION)
    images, labels = load_split("test")
    runs = {model: run_name(model, seeds[0]) for model in blocks}
    curves = pd.read_csv(CURVES)
    statistics = {path.stem: pd.read_csv(path) for path in STATISTICS.glob("*.csv")}
    temperatures = read_json(TEMPERATURES)["temperatures"]
    robustness, unfamiliar = by_model(ROBUSTNESS, runs), by_model(UNFAMILIAR, runs)

    recorded = pd.read_csv(EXPERIMENTS, dtype={"base": str})
    dumped = {model: block.model_dump() for model, block in blocks.items()}
    seeds_recorded = over_seeds(recorded, data["dataset"], dumped)

    table = pd.read_csv(COMPARISON)
    table = table[table.model.isin(list(blocks))]  # without the ensemble
    example = images[labels == CLASS_NAMES.index("Coat")][:1]
    overview = {
        "learning_curves": draw.learning_curves(curves),
        "comparison": draw.comparison(table, selection["selected"]),
        "differences": draw.differences(statistics["pairs"], certainty.confidence),
        "reliability": draw.reliability(statistics["reliability"], temperatures),
        "coverage": draw.coverage(statistics["coverage"]),
        "robustness": draw_robustness.curves(robustness),
        "corruptions": draw_robustness.samples(example, parameters.seed),
    }
    for name, figure in overview.items():
        save(figure, FIGURES / f"{name}.png", data["dataset"])
    for model, run in runs.items():
        draw_model(model, run, images, data["dataset"], parameters)

    order = sorted(
        blocks, key=lambda model: (model != selection["selected"], -summary["models"][model]["val_accuracy"])
    )
    predictions = {model: load_predictions("test", run) for model, run in runs.items()}
    chosen = {
        model: {
            name: numbers for name, (_, numbers) in galleries(one["probabilities"], one["labels"], parameters).items()
        }
        for model, one in predictions.items()
    }
    pictures = shown(predictions, chosen, parameters.seed)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("report.html.jinja").render(
        notice=notice(data["dataset"]),
        style=(PAGE / "report.css").read_text(encoding="utf-8"),
        script=(PAGE / "report.js").read_text(encoding="utf-8"),
        payload=payload(predictions, pictures, chosen, curves, order),
        sheet=sheet(images[pictures]),
        data=data,
        summary=summary,
        selection=selection,
        confidence=certainty.confidence,
        bins=certainty.bins,
        header=HEADER,
        rows=rows(summary, pd.read_csv(TIMING), seeds_recorded),
        over_seeds=mean_and_deviation(seeds_recorded.get(selection["selected"], [])),
        class_names=CLASS_NAMES,
        statistics={name: table.to_dict("records") for name, table in statistics.items()},
        robustness=robustness[robustness["strength"] > 0]
        .pivot_table(index=["corruption", "pictures"], columns="model", values="accuracy", sort=False)
        .reset_index()
        .to_dict("records"),
        unfamiliar=unfamiliar.to_dict("records"),
        audit=read_json(AUDIT / "summary.json"),
        origin=origin(selection["run"]),
        model_sha256=hashlib.sha256((MODELS / f"{selection['run']}.keras").read_bytes()).hexdigest(),
        machine=machine(),
        models=[
            {
                "name": model,
                "seed": seeds[0],
                "parameters": blocks[model].model_dump(),
                "layers": (MODELS / f"{runs[model]}.txt").read_text(encoding="utf-8"),
                "per_class": pd.read_csv(PER_CLASS / f"{runs[model]}.csv").to_dict("records"),
            }
            for model in order
        ],
        figures={name: inline(FIGURES / f"{name}.png") for name in overview if name != "learning_curves"},
        eda={path.stem: inline(path) for path in sorted(EDA.glob("*.png"))},
        audit_figures={path.stem: inline(path) for path in sorted(AUDIT.glob("*.png"))},
        explain={path.stem: inline(path) for path in sorted(EXPLAIN.glob("*.png"))},
    )
    write_text(REPORT, page)
    print(f"{REPORT}: {REPORT.stat().st_size / 1e6:.1f} MB. {notice(data['dataset'])}")


if __name__ == "__main__":
    main()
