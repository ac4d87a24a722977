"""`make demo`: the whole graph in a temporary copy, on pictures that the project draws itself.

For someone without a network, and for the tests. The workspace's data and reports are not touched, and every result says
that it is not on Fashion-MNIST.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pygit2
import yaml

from stages.errors import ROOT, front_door
from stages.parameters import read_parameters

PARTS = (
    "stages",
    "dvc.yaml",
    "params.yaml",
    "reports/experiments.csv",
    ".dvc",
    ".dvcignore",
    ".gitignore",
    ".gitattributes",
)


def make_copy(folder: Path) -> None:
    """Copy what the graph needs into the empty `folder`, with `dataset: drawn` and settings for seconds of training.

    Frozen stages are left out: without their committed results DVC would stop at them.
    """
    left_out = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=left_out)
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(source, folder / name)
    graph = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))
    graph["stages"] = {name: stage for name, stage in graph["stages"].items() if not stage.get("frozen")}
    (folder / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False), encoding="utf-8")
    parameters = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump(shrink(parameters), sort_keys=False), encoding="utf-8")
    pygit2.init_repository(folder, initial_head="main")


def shrink(parameters: dict) -> dict:
    """The same parameters for a small set of drawn pictures: less of everything that takes time."""
    parameters["dataset"] = "drawn"
    parameters["seeds"] = [0]
    parameters["devices"] = 1
    parameters["backend"] = "tensorflow"
    parameters["prepare"]["val_per_class"] = 50
    parameters["eda"]["embedded_images"] = 400
    parameters["statistics"]["resamples"] = 100
    parameters["audit"] |= {"epochs": 1, "folds": 2}
    parameters["robustness"]["pictures"] = 100
    for block in parameters["models"].values():
        block["epochs"] = min(block["epochs"], 3)
        block["batch_size"] = 64
        block["epoch_size"] = max(block["epoch_size"], 0.25)
        block["teachers"] = [min(epochs, 3) for epochs in block["teachers"][:2]]
        block["views"] = "plain"
    return parameters


def repro(folder: Path) -> subprocess.CompletedProcess:
    """Run `dvc repro` in `folder` with this Python's environment first on the path."""
    return subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=folder, env=environment(), check=False)


def environment() -> dict[str, str]:
    """This process's environment, with this Python first on the path and no word of another git repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@front_door
def main() -> None:
    read_parameters("models")  # a fault is told here, not in the copy
    folder = Path(tempfile.mkdtemp(prefix="fashion-mnist-demo-"))
    make_copy(folder)
    print(f"The graph runs in {folder}, on drawn pictures: NOT on Fashion-MNIST.", flush=True)
    if repro(folder).returncode:
        sys.exit(f"error: the demo failed; what it left lies in {folder}.")
    subprocess.run([sys.executable, "-m", "stages.table"], cwd=folder, check=True)


if __name__ == "__main__":
    main()
