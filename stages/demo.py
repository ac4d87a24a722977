"""`make demo`: run the whole pipeline in a copy, `data/demo`, on images that the project draws itself.

It needs no network and no data. The tests use it, too. The project's own results do not change, and the results of the
copy state that they are not on Fashion-MNIST.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pygit2
import yaml

from stages.common.entry import ROOT, entry_point
from stages.common.orphans import RUN

FOLDER = Path("data/demo")
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
    """Copy what the pipeline needs into the empty `folder`, with `dataset: drawn` and parameters for a short training.

    Frozen stages are left out: DVC would fail, because their results are not in the copy.
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
    """The parameters, changed for a small set of drawn images: fewer seeds, epochs, images and resamples."""
    parameters["dataset"] = "drawn"
    parameters["seeds"] = [0]
    parameters["devices"] = 1
    parameters["backend"] = "tensorflow"
    parameters["prepare"]["val_per_class"] = 50
    parameters["eda"]["embedded_images"] = 400
    parameters["statistics"]["resamples"] = 100
    parameters["audit"] |= {"epochs": 1, "folds": 2}
    parameters["robustness"]["images"] = 100
    for block in parameters["models"].values():
        block["epochs"] = min(block["epochs"], 3)
        block["batch_size"] = 64
        block["epoch_fraction"] = max(block["epoch_fraction"], 0.25)
        block["teachers"] = [min(epochs, 3) for epochs in block["teachers"][:2]]
        block["test_time_augmentation"] = "none"
    return parameters


def commit_all(folder: Path) -> None:
    """Commit what git does not ignore: the commands of DVC that compare results or keep experiments need a commit."""
    repository, who = pygit2.Repository(folder), pygit2.Signature("demo", "demo@localhost")
    repository.index.add_all()
    repository.index.write()
    repository.create_commit("HEAD", who, who, "Results on drawn images", repository.index.write_tree(), [])


def repro(folder: Path) -> subprocess.CompletedProcess:
    """Run `dvc repro` in `folder`, with this Python's environment first on the path."""
    return subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=folder, env=environment(), check=False)


def environment() -> dict[str, str]:
    """This process's environment variables, with this Python first on the path and without those of git (`GIT_`)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@entry_point
def main() -> None:
    if subprocess.run([sys.executable, "-m", "stages.check"], stdout=subprocess.DEVNULL, check=False).returncode:
        sys.exit(1)  # the errors name the project's params.yaml, not the copy's
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    make_copy(FOLDER)
    os.environ[RUN] = str(os.getpid())
    print(f"The pipeline runs in {FOLDER} on drawn images, NOT on Fashion-MNIST.", flush=True)
    if repro(FOLDER).returncode:
        sys.exit(f"error: the demo failed. Its files are in {FOLDER}.")
    commit_all(FOLDER)
    subprocess.run([sys.executable, "-m", "stages.table"], cwd=FOLDER, check=True)


if __name__ == "__main__":
    main()
