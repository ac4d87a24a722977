"""Stage `audit`: the quality of the data, that is near-duplicates and label issues. It reports; it removes no image.

Reads all three splits and the selected model, for its mistakes on the test images. Also reads the results of `folds`:
out-of-fold probabilities of the training and validation images, and a model of the same kind that judges the test images.
Writes figures and the numbers behind them into `reports/audit`.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages import models
from stages.base.errors import InputError
from stages.base.files import write_csv, write_json
from stages.base.runs import FASHION_MNIST, FOLD_MODEL, FOLDS, SELECTED
from stages.base.splits import PREPARED, load_split, load_summary, sampled
from stages.base.threads import use_threads
from stages.figures import quality as draw
from stages.figures.style import as_shown, figure_names, save
from stages.parameters.audit import Audit
from stages.parameters.runs import Threads
from stages.parameters.schema import read
from stages.parameters.statistics import Confidence
from stages.quality.label_issues import label_issues
from stages.quality.near_duplicates import near_duplicates
from stages.results.origin import read_origin
from stages.results.predictions import load_folds
from stages.scoring.wilson import wilson
from stages.trained import prediction, saving
from stages.trained.backend import start_keras

REPORTS = Path("reports/audit")
SPLITS = ("train", "val", "test")
PAIRS_KEPT = 3000  # rows of near_duplicates.csv at most, the nearest pairs
LABEL_ISSUES_KEPT = 200  # rows of label_issues.csv for train and val together, the least probable labels; test: all


def named_pairs(
    pairs: pd.DataFrame, parts: dict[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str]
) -> pd.DataFrame:
    """The pairs of `stages.quality.near_duplicates`, with the split, number and class of both images."""
    splits, numbers = places_of(parts)
    classes = np.array(names)[np.concatenate([labels for _, labels in parts.values()])]
    table = pd.DataFrame()
    for side, column in (("a", "first"), ("b", "second")):
        places = pairs[column].to_numpy()
        table[f"split_{side}"] = splits[places]
        table[f"image_{side}"] = numbers[places]
        table[f"label_{side}"] = classes[places]
    return table.join(pairs[["distance", "exact", "mirrored"]])


def places_of(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The split of each image and its number (from 0) within the split, for the splits in the order of `parts`."""
    counts = [len(labels) for _, labels in parts.values()]
    return np.repeat(list(parts), counts), np.concatenate([np.arange(count) for count in counts])


def count_near_duplicates(table: pd.DataFrame, near: float, confidence: float, things: str = "images") -> dict:
    """The section `near_duplicates` of `summary.json`, from the table of `named_pairs`. Intervals are Wilson's."""
    pairs = {}
    for split_a, split_b in combinations_with_replacement(SPLITS, 2):
        rows = table[(table["split_a"] == split_a) & (table["split_b"] == split_b)]
        pairs[f"{split_a}-{split_b}"] = {"exact": int(rows["exact"].sum()), "near": int((rows["exact"] == 0).sum())}
    different = table["label_a"] != table["label_b"]
    groups = groups_of(table)
    mixed = len(np.unique(groups[different]))
    count = len(np.unique(groups))
    across = table[(table["split_a"] != "test") & (table["split_b"] == "test")]
    return {
        "near": near,
        "confidence": confidence,
        "unit": f"Euclidean distance of the aligned images' pixels, divided by the contrast of the two {things}",
        "pairs": pairs,
        "pairs_in_all": len(table),
        "mirrored": int(table["mirrored"].sum()),
        "pairs_in_csv": min(len(table), PAIRS_KEPT),
        "different_labels": int(different.sum()),
        "groups": count,
        "groups_with_different_labels": mixed,
        "groups_with_different_labels_ends": [round(end, 6) for end in wilson(mixed, count, confidence)],
        "test_with_near_duplicate": int(across["image_b"].nunique()),
    }


def groups_of(table: pd.DataFrame) -> np.ndarray:
    """The group of each pair, from 0: pairs that share an image, directly or by other pairs, are in the same group.

    Pairs in a group depend on each other, so an interval takes groups as trials.
    """
    images = pd.concat([table[f"split_{side}"] + table[f"image_{side}"].astype(str) for side in ("a", "b")])
    numbers, names = pd.factorize(images)
    first, second = np.split(numbers, 2)
    links = coo_array((np.ones(len(table)), (first, second)), shape=(len(names), len(names)))
    return connected_components(links, directed=False)[1][first] if len(table) else first


def named_label_issues(rows: pd.DataFrame, split: np.ndarray, number: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """The rows of `stages.quality.label_issues`, with split, number in the split, class names, and rank in the split."""
    place = rows["place"].to_numpy()
    table = pd.DataFrame({"split": split[place], "image": number[place]})
    for column in ("given", "suggested"):
        table[column] = np.array(names)[rows[column].to_numpy(dtype=int)]
    table = table.join(rows[["probability_given", "probability_suggested"]])
    return table.assign(rank=table.groupby("split").cumcount() + 1)


def with_files(table: pd.DataFrame, files: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns split and image, or split_a, image_a and so on, name images, with the files of these."""
    for end in ("", "_a", "_b"):
        if f"split{end}" in table:
            table = table.merge(files.add_suffix(end), how="left")
    return table


def reasoning(mistakes: int, flagged: int, duplicates: dict) -> str:
    """How much of the test error label issues may explain, and how reliable that estimate is, as text for the report."""
    if not mistakes:
        return "The selected model makes no mistake on the test images, so there is no error to explain."
    evidence = "no near-duplicates were found"
    if duplicates["pairs_in_all"]:
        low, high = (100 * end for end in duplicates["groups_with_different_labels_ends"])
        evidence = (
            f"{duplicates['groups_with_different_labels']} of {duplicates['groups']} groups of near-duplicates have "
            f"different labels ({100 * duplicates['confidence']:g} % interval {low:.1f} to {high:.1f} %). The images of a "
            "group may have been labelled together, so this share may underestimate the errors of all labels"
        )
    return (
        f"Confident learning flags {flagged:,} of the {mistakes:,} mistakes of the selected model on the test images "
        f"({100 * flagged / mistakes:.0f} %). A flag does not prove that a label is wrong: a model that is confident and "
        "wrong flags a correct label, and it does not flag a wrong label that it agrees with. Evidence without a model: "
        f"{evidence}."
    )


def shown_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """The pairs in the order of the figure: different labels first, then pairs across splits, then the nearest."""
    order = table.assign(same=table["label_a"] == table["label_b"], within=table["split_a"] == table["split_b"])
    return order.sort_values(["same", "within", "distance"], kind="stable")


def main() -> None:
    parameters, confidence = read("audit", Audit), read("statistics.confidence", Confidence)
    near = parameters.near_duplicate_distance
    parts = {"train": load_split("train"), "val": load_split("val"), "test": load_split("test")}
    folds, origin, fold_origin = load_folds(), read_origin(SELECTED), read_origin(FOLD_MODEL)
    dataset = origin["dataset"]
    fitted = np.concatenate([parts[split][1] for split in ("train", "val")])
    if not np.array_equal(folds["labels"], fitted):
        raise InputError(f"{FOLDS} was made from other images than data/prepared holds. Type `dvc repro audit`.")
    threads = read("threads", Threads)
    use_threads(threads)
    test_images, test_labels = parts["test"]

    split, number = places_of(parts)
    chosen = sampled(len(split), parameters.max_images, 0)
    images = np.concatenate([split_images for split_images, _ in parts.values()])[chosen]
    data = load_summary()
    names, found = data["class_names"], near_duplicates(images, near, data["mirror"])
    found[["first", "second"]] = chosen[found[["first", "second"]]]
    pairs = named_pairs(found, parts, names)
    things = "articles" if dataset == FASHION_MNIST else "images"
    duplicates = count_near_duplicates(pairs, near, confidence, things)
    if len(chosen) < len(split):
        duplicates["drawn"] = len(chosen)

    start_keras(threads)  # not before: the search takes memory, too
    model = saving.load_model(SELECTED, models.custom_objects(origin["model"]))
    mistakes = np.flatnonzero(prediction.classify(model, test_images).argmax(axis=1) != test_labels)
    judge = saving.load_model(FOLD_MODEL, models.custom_objects(fold_origin["model"]))
    of_fitted, estimate = label_issues(folds["probabilities"], folds["labels"])
    of_test, test_estimate = label_issues(prediction.classify(judge, test_images), test_labels)
    of_fitted = named_label_issues(of_fitted, split, number, names)
    of_test = named_label_issues(of_test, split[len(fitted) :], number[len(fitted) :], names)
    counts = pd.concat([of_fitted, of_test])["split"].value_counts()
    flagged = int(np.isin(mistakes, of_test["image"]).sum())

    summary = {
        "dataset": dataset,
        "near_duplicates": duplicates,
        "label_issues": {
            name: {
                "images": len(labels),
                "flagged": int(counts.get(name, 0)),
                "share": round(int(counts.get(name, 0)) / len(labels), 6),
            }
            for name, (_, labels) in parts.items()
        },
        "estimated_label_errors": {"train and val": estimate, "test": test_estimate},
        "judge_accuracy": round(float((folds["probabilities"].argmax(axis=1) == folds["labels"]).mean()), 6),
        "test_error": {
            "mistakes": len(mistakes),
            "flagged": flagged,
            "share_flagged": round(flagged / len(mistakes), 6) if len(mistakes) else None,
            "reasoning": reasoning(len(mistakes), flagged, duplicates),
        },
    }
    files, issues = pd.read_csv(PREPARED / "files.csv"), pd.concat([of_test, of_fitted[:LABEL_ISSUES_KEPT]])
    for name, table in (("near_duplicates", pairs[:PAIRS_KEPT]), ("label_issues", issues)):
        write_csv(REPORTS / f"{name}.csv", table if dataset == FASHION_MNIST else with_files(table, files))
    write_json(REPORTS / "summary.json", summary)
    shown_images = {name: as_shown(split_images, dataset) for name, (split_images, _) in parts.items()}
    shown_names = dict(zip(names, figure_names(names), strict=True))
    shown = shown_pairs(pairs)[: draw.SHOWN].replace(shown_names)
    save(draw.near_duplicates(shown, shown_images, near), REPORTS / "near_duplicates.png")
    half = draw.SHOWN // 2
    shown = pd.concat([of_test[:half], of_fitted[:half]]).replace(shown_names)
    save(draw.label_issues(shown, shown_images), REPORTS / "label_issues.png")
    print(
        f"{duplicates['pairs_in_all']} pairs of near-duplicates; {duplicates['test_with_near_duplicate']} test images have "
        f"a near-duplicate in train or val; {len(of_test)} label issues in test."
    )


if __name__ == "__main__":
    main()
