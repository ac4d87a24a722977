"""Stage `calibrate`: the temperature of each model, and of the ensemble, fitted on validation; the test set plays no part.

Writes `reports/temperatures.json`: dataset, and temperatures by name; `compare` shows what they do on test. A model keeps
the probabilities that it gave: the temperature is for those who need them calibrated.
"""

from pathlib import Path

from stages.errors import front_door
from stages.evaluation.ensemble import contenders, vote
from stages.evaluation.uncertainty import fit_temperature
from stages.files import read_json, write_json
from stages.parameters import read_parameters
from stages.runs import SELECTION

TEMPERATURES = Path("reports/temperatures.json")


@front_door
def main() -> None:
    blocks, seeds = read_parameters("models", "seeds")
    selection, fitted = read_json(SELECTION), {}
    for name, runs in contenders(selection, list(blocks), seeds).items():
        val = vote("val", runs)
        fitted[name] = round(fit_temperature(val["probabilities"], val["labels"]), 6)
        print(f"{name}: temperature {fitted[name]:.3f}")
    write_json(TEMPERATURES, {"dataset": selection["dataset"], "temperatures": fitted})


if __name__ == "__main__":
    main()
