"""Stage `report`: the pictures of the results, and one self-contained page around them.

Everything comes from what the other stages left; nothing is trained or predicted here. A model with several seeds shows
the pictures of the first one.
"""

import base64
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from stages.dataset import CLASS_NAMES, load_split, load_summary, notice
from stages.errors import front_door
from stages.figures import results as draw
from stages.figures.style import save
from stages.files import read_json, write_text
from stages.parameters import Report, read_parameters
from stages.runs import CONFUSION, HISTORY, MODELS, PER_CLASS, SELECTION, load_predictions, run_name
from stages.table import HEADER, REPORT, SUMMARY, TIMING, rows

FIGURES = Path("reports/figures")
EDA = Path("reports/eda")
COMPARISON = Path("reports/comparison.csv")
CURVES = Path("reports/curves.csv")
TEMPLATE = Path("stages/report.html.jinja")


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


def inline(path: Path) -> str:
    """A picture as a data address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


@front_door
def main() -> None:
    blocks, parameters, seeds = read_parameters("models", "report", "seeds")
    data, summary, selection = load_summary(), read_json(SUMMARY), read_json(SELECTION)
    images, _ = load_split("test")
    runs = {model: run_name(model, seeds[0]) for model in blocks}

    save(draw.learning_curves(pd.read_csv(CURVES)), FIGURES / "learning_curves.png", data["dataset"])
    table = pd.read_csv(COMPARISON)
    table = table[table.model.isin(list(blocks))]  # without the ensemble
    save(draw.comparison(table, selection["selected"]), FIGURES / "comparison.png", data["dataset"])
    for model, run in runs.items():
        draw_model(model, run, images, data["dataset"], parameters)

    order = sorted(blocks, key=lambda model: -summary["models"][model]["val_accuracy"])
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    page = environment.get_template(TEMPLATE.name).render(
        notice=notice(data["dataset"]),
        data=data,
        summary=summary,
        selection=selection,
        header=HEADER,
        rows=rows(summary, pd.read_csv(TIMING)),
        class_names=CLASS_NAMES,
        models=[
            {
                "name": model,
                "seed": seeds[0],
                "parameters": blocks[model].model_dump(),
                "layers": (MODELS / f"{runs[model]}.txt").read_text(encoding="utf-8"),
                "per_class": pd.read_csv(PER_CLASS / f"{runs[model]}.csv").to_dict("records"),
                "figures": {
                    name: inline(FIGURES / f"{model}_{name}.png")
                    for name in ("curves", "confusion", "random", "right", "mistakes")
                },
            }
            for model in order
        ],
        figures={path.stem: inline(path) for path in (FIGURES / "learning_curves.png", FIGURES / "comparison.png")},
        eda={path.stem: inline(path) for path in sorted(EDA.glob("*.png"))},
    )
    write_text(REPORT, page)
    print(f"{REPORT}: {REPORT.stat().st_size / 1e6:.1f} MB. {notice(data['dataset'])}")


if __name__ == "__main__":
    main()
