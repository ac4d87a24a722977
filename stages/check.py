"""Stage `check`: refuse a bad `params.yaml` before anything runs.

It is the first stage of `dvc.yaml`, reads all of `params.yaml` and writes nothing. Without it, the stage that reads a
mistyped key would find it: after DVC removed that stage's results, and perhaps after minutes of training another model.
"""

import re

from pydantic import create_model

from stages import models
from stages.base.errors import InputError
from stages.base.runs import ENSEMBLE
from stages.parameters.audit import Audit
from stages.parameters.dataset import Dataset, refuse_misplaced
from stages.parameters.eda import Eda
from stages.parameters.explain import Explain
from stages.parameters.folds import Folds
from stages.parameters.prepare import Prepare
from stages.parameters.report import Report
from stages.parameters.robustness import Robustness
from stages.parameters.runs import Defaults, Devices, Models, Seeds, Threads
from stages.parameters.schema import PARAMETERS, Section, load_yaml, refuse, unknown, validate
from stages.parameters.search import Search, read_ranges
from stages.parameters.select import Select
from stages.parameters.statistics import Statistics
from stages.parameters.strangers import Strangers

SECTIONS = {
    "dataset": Dataset, "prepare": Prepare, "eda": Eda, "seeds": Seeds, "threads": Threads, "devices": Devices,
    "defaults": Defaults, "models": Models, "search": Search, "statistics": Statistics, "folds": Folds, "audit": Audit,
    "robustness": Robustness, "explain": Explain, "report": Report, "select": Select, "strangers": Strangers,
}  # fmt: skip


def check() -> list[str]:
    """The names of the models, if `params.yaml` is right.

    Raises:
        InputError: It has errors, a block has no file, or a file has no block. The message lists all errors.
    """
    content, faults, blocks = load_yaml(PARAMETERS), [], {}
    schema = create_model("Parameters", __base__=Section, **{key: (kind, ...) for key, kind in SECTIONS.items()})
    sections = validate(schema, content, faults)
    given = content.get("models") if isinstance(content, dict) else None
    given, defaults = given if isinstance(given, dict) else {}, content.get("defaults") if given else None
    for name, block in given.items():
        if name == ENSEMBLE:
            faults.append(
                f"models.{name} has the name of the row of the ensemble: give the block, and its file, another."
            )
        elif not str(name).isidentifier():
            better = re.sub(r"\W", "_", str(name))
            faults.append(f"models.{name} is no name for a Python module: use letters, digits and _, such as {better}.")
        else:
            try:
                blocks[name] = models.validate_block(
                    name, block, defaults if isinstance(defaults, dict) else {}, faults
                )
            except InputError as error:
                faults.append(str(error))
    faults += [
        f"stages/models/{name}.py has no block models.{name}: add one, or remove the file."
        for name in models.names()
        if given and name not in given
    ]
    if sections and sections.folds.model not in given:
        model = sections.folds.model
        faults.append(f"folds.model is {model!r}, which has no block; {unknown(model, list(given), 'models')}")
    refuse(faults)
    read_ranges(sections.search, blocks)
    return list(blocks)


def check_all() -> None:
    """Before anything runs: `check`, and whether the images are there. A stage on another machine would not find them."""
    check()
    refuse_misplaced(Dataset(**load_yaml(PARAMETERS)["dataset"]))


def main() -> None:
    print(f"params.yaml is valid; models: {', '.join(check())}")


if __name__ == "__main__":
    main()
