"""Stage `calibrate`: fit the temperature of each model, and of the ensemble, on validation. The test set is not read.

Writes `reports/temperatures.json`: `dataset`, and `temperatures` by name. `compare` shows their effect on the test set. The
saved models and predictions do not change: divide the logits by the temperature to get calibrated probabilities.
"""

from stages.base.files import read_json, write_json
from stages.base.runs import SELECTION, TEMPERATURES
from stages.comparison.ensemble import mean_predictions, runs_to_compare
from stages.scoring.temperature import fit_temperature


def main() -> None:
    selection, fitted = read_json(SELECTION), {}
    for name, runs in runs_to_compare(selection).items():
        val = mean_predictions("val", runs)
        fitted[name] = round(fit_temperature(val["probabilities"], val["labels"]), 6)
        print(f"{name}: temperature {fitted[name]:.3f}")
    write_json(TEMPERATURES, {"dataset": selection["dataset"], "temperatures": fitted})


if __name__ == "__main__":
    main()
