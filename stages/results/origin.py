"""What a saved model says of its origin, and whether it is the one that is asked for."""

import json
import zipfile
from pathlib import Path

from stages.base.environment import versions
from stages.base.errors import Damaged
from stages.base.files import DAMAGED
from stages.base.runs import run_name

ORIGIN_KEYS = ("model", "parameters", "seed", "split_sha256", "versions")  # of what a saved model's origin says


def read_origin(path: Path) -> dict:
    """The origin of a saved model, from `origin.json` in its file.

    Returns:
        A dict: dataset, split_sha256, model, seed, parameters, precision, backend, processor, threads, versions.

    Raises:
        Damaged: The file has no origin.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            origin = json.loads(archive.read("origin.json"))
        if not isinstance(origin, dict) or any(
            not isinstance(origin.get(key, {}), dict) for key in ("parameters", "versions")
        ):
            raise ValueError("its origin.json is no mapping of what this project writes")
        return origin
    except DAMAGED as error:
        raise Damaged(path, f"it has no origin.json of this project ({error})") from None


def refuse_another_run(path: Path, run: str, parameters: dict | None = None, split_sha256: str | None = None) -> None:
    """Raise `Damaged` if a saved model is not the one that is asked for, whoever put it there.

    Args:
        path: A file from `stages.trained.saving.save_model`.
        run: The name of the run that it should be.
        parameters: If given, the block that it should have been trained with.
        split_sha256: If given, of the split that it should have been trained on, with the packages that are installed.
    """
    origin = read_origin(path)
    missing = [key for key in ORIGIN_KEYS if key not in origin]
    if missing:
        raise Damaged(path, f"it does not say its {', '.join(missing)}, so it was not saved by this project")
    found, expected = {"run": run_name(origin["model"], origin["seed"])}, {"run": run}
    if parameters is not None:
        found |= dict.fromkeys(parameters) | origin["parameters"]
        expected |= json.loads(json.dumps(parameters))  # as the file has them: no tuples
    if split_sha256 is not None:
        packages = ("tensorflow", "keras")
        found |= {"split_sha256": origin["split_sha256"]} | {name: origin["versions"].get(name) for name in packages}
        expected |= {"split_sha256": split_sha256} | {name: versions()[name] for name in packages}
    for key, value in found.items():
        if value != expected.get(key):
            reason = f"it is another model, whose {key} is {value}, but should be {expected.get(key)}"
            raise Damaged(path, reason)
