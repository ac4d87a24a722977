"""Stage `audit`: look at the data itself, for twins and doubtful labels; it decides nothing, and nothing is taken out.

Reads all three parts, the selected model, for its features and for what it says of the test pictures (without other
views), and the probabilities of the other pictures from `folds`. Writes pictures and the numbers behind them into
`reports/audit`.
"""

from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from stages.dataset import CLASS_NAMES, load_split, load_summary, notice
from stages.errors import InputError, front_door
from stages.figures import audit as draw
from stages.figures.style import save
from stages.files import write_csv, write_json
from stages.parameters import read_parameters
from stages.runs import FOLDS, load_folds
from stages.selection import SELECTED

REPORTS = Path("reports/audit")
SPLITS = ("train", "val", "test")
PAIRS_KEPT = 3000  # in twins.csv, the nearest
SUSPECTS_KEPT = 200  # of train and val together in suspects.csv, the most doubtful; of test all


def named_pairs(pairs: pd.DataFrame, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """The pairs of `stages.evaluation.twins.twins`, with split, number within the split and class of both pictures."""
    splits = np.repeat(list(parts), [len(labels) for _, labels in parts.values()])
    pictures = np.concatenate([np.arange(len(labels)) for _, labels in parts.values()])
    classes = np.array(CLASS_NAMES)[np.concatenate([labels for _, labels in parts.values()])]
    table = pd.DataFrame()
    for side, column in (("a", "first"), ("b", "second")):
        places = pairs[column].to_numpy()
        table[f"split_{side}"] = splits[places]
        table[f"picture_{side}"] = pictures[places]
        table[f"label_{side}"] = classes[places]
    return table.join(pairs[["distance", "exact", "mirrored", "found_in"]])


def count_twins(table: pd.DataFrame, near: float, confidence: float) -> dict:
    """The counts of `summary.json` on the twins, from the table of `named_pairs`; the interval is Clopper and Pearson's."""
    pairs = {}
    for split_a, split_b in combinations_with_replacement(SPLITS, 2):
        rows = table[(table["split_a"] == split_a) & (table["split_b"] == split_b)]
        pairs[f"{split_a}-{split_b}"] = {"exact": int(rows["exact"].sum()), "near": int((rows["exact"] == 0).sum())}
    differ = int((table["label_a"] != table["label_b"]).sum())
    across = table[(table["split_a"] != "test") & (table["split_b"] == "test")]
    interval = binomtest(differ, len(table)).proportion_ci(confidence, method="exact") if len(table) else (0.0, 1.0)
    return {
        "near": near,
        "confidence": confidence,
        "unit": "root of the summed squared grey differences, as a share of the contrast within the two articles",
        "pairs": pairs,
        "pairs_in_all": len(table),
        "mirrored": int(table["mirrored"].sum()),
        "pairs_in_csv": min(len(table), PAIRS_KEPT),
        "different_labels": differ,
        "share_with_different_labels": round(differ / len(table), 6) if len(table) else None,
        "share_with_different_labels_ends": [round(float(end), 6) for end in interval],
        "test_with_twin": int(across["picture_b"].nunique()),
    }


def named_suspects(rows: pd.DataFrame, split: np.ndarray, picture: np.ndarray) -> pd.DataFrame:
    """The rows of `stages.evaluation.suspects.suspects`, with split, number within it, class names, and rank within it."""
    place = rows["place"].to_numpy()
    table = pd.DataFrame({"split": split[place], "picture": picture[place]})
    for column in ("given", "suggested"):
        table[column] = np.array(CLASS_NAMES)[rows[column].to_numpy(dtype=int)]
    table = table.join(rows[["probability_given", "probability_suggested"]])
    return table.assign(rank=table.groupby("split").cumcount() + 1)


def reasoning(mistakes: int, suspected: int, twins: dict) -> str:
    """How much of the test error the labels may explain, and how well that is known."""
    if not mistakes:
        return "The selected model makes no mistake on the test pictures, so there is no error for labels to explain."
    bound = f"{suspected:,} of the {mistakes:,} mistakes of the selected model on the test pictures (one view of each)"
    low, high = (100 * end for end in twins["share_with_different_labels_ends"])
    independent = (
        f"{twins['different_labels']} of {twins['pairs_in_all']} pairs of twins carry different labels "
        f"({100 * twins['confidence']:g} % interval {low:.1f} to {high:.1f} %); twins may well have been labelled "
        "together, so their agreement proves less than it seems"
        if twins["pairs_in_all"]
        else "no twins were found"
    )
    return (
        f"Confident learning flags {bound}, and suggests what the model said: if every flag is right, "
        f"{100 * suspected / mistakes:.0f} % of the test error is label noise. This is no measurement but roughly an upper "
        "bound, since the flags come from the same model's probabilities, and where it is sure and wrong, its own errors "
        "are flagged; a wrong label that the model agrees with is never seen. Without any model's judgement of classes, "
        f"{independent}."
    )


def shown_twins(table: pd.DataFrame) -> pd.DataFrame:
    """The pairs for the picture: different labels first, then pairs across splits, then the nearest."""
    order = table.assign(same=table["label_a"] == table["label_b"], within=table["split_a"] == table["split_b"])
    return order.sort_values(["same", "within", "distance"], kind="stable")


@front_door
def main() -> None:
    near, confidence = read_parameters("audit.near", "statistics.confidence")
    dataset = load_summary()["dataset"]
    parts = {"train": load_split("train"), "val": load_split("val"), "test": load_split("test")}
    folds = load_folds()
    fitted = np.concatenate([parts[split][1] for split in ("train", "val")])
    if not np.array_equal(folds["labels"], fitted):
        raise InputError(f"{FOLDS} was made from other pictures than data/prepared holds. Type `dvc repro audit`.")

    from stages.evaluation.features import features_and_probabilities  # after the checks: TensorFlow takes seconds
    from stages.evaluation.suspects import suspects
    from stages.evaluation.twins import twins
    from stages.training.saving import load_model

    images = np.concatenate([pictures for pictures, _ in parts.values()])
    features, probabilities = features_and_probabilities(load_model(SELECTED), images)
    pairs = named_pairs(twins(images, features, near), parts)
    test_labels, test_probabilities = parts["test"][1], probabilities[len(fitted) :]

    split = np.repeat(list(parts), [len(labels) for _, labels in parts.values()])
    picture = np.concatenate([np.arange(len(labels)) for _, labels in parts.values()])
    of_fitted, estimate = suspects(folds["probabilities"], folds["labels"])
    of_test, test_estimate = suspects(test_probabilities, test_labels)
    of_fitted = named_suspects(of_fitted, split, picture)
    of_test = named_suspects(of_test, split[len(fitted) :], picture[len(fitted) :])
    counts = pd.concat([of_fitted, of_test])["split"].value_counts()

    mistakes = int((test_probabilities.argmax(axis=1) != test_labels).sum())
    found = count_twins(pairs, near, confidence)
    summary = {
        "dataset": dataset,
        "twins": found,
        "suspects": {
            name: {
                "pictures": len(labels),
                "suspects": int(counts.get(name, 0)),
                "share": round(int(counts.get(name, 0)) / len(labels), 6),
            }
            for name, (_, labels) in parts.items()
        },
        "estimated_label_errors": {"train and val": estimate, "test": test_estimate},
        "test_error": {
            "mistakes": mistakes,
            "suspected": len(of_test),
            "share_at_most": round(len(of_test) / mistakes, 6) if mistakes else None,
            "reasoning": reasoning(mistakes, len(of_test), found),
        },
    }
    write_csv(REPORTS / "twins.csv", pairs[:PAIRS_KEPT])
    write_csv(REPORTS / "suspects.csv", pd.concat([of_test, of_fitted[:SUSPECTS_KEPT]]))
    write_json(REPORTS / "summary.json", summary)
    pictures = {name: part for name, (part, _) in parts.items()}
    save(draw.twins(shown_twins(pairs), pictures, near), REPORTS / "twins.png", dataset)
    half = draw.SHOWN // 2
    shown = pd.concat([of_test[:half], of_fitted[:half]])
    save(draw.suspects(shown, pictures), REPORTS / "suspects.png", dataset)
    print(
        f"{found['pairs_in_all']} pairs of twins, {found['test_with_twin']} test pictures with one in train or val; "
        f"{len(of_test)} doubtful test labels. {notice(dataset)}"
    )


if __name__ == "__main__":
    main()
