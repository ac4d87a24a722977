"""How time and memory grow with the number of images: `python -m tests.scale 1000 10000` prints a table in Markdown.

The images are those of Fashion-MNIST, repeated and shifted by up to three pixels, a sixth of them for the test. The stages
run on a copy of the project, each in its own process; `train` is two epochs of `sprint`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from tabulate import tabulate

from stages.base.environment import cores, processor
from stages.data.idx import read_idx
from stages.data.publisher import PUBLISHED, RAW
from stages.data.transforms import shift

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("prepare", "eda", "train", "evaluate")


def write_images(path: Path, count: int) -> None:
    """Write a set of `count` images as an .npz file."""
    images, labels, *_ = (read_idx(ROOT / RAW / name, axes) for name, axes in zip(PUBLISHED, (3, 1, 3, 1), strict=True))
    rng = np.random.default_rng(0)
    rows = np.arange(count) % len(images)
    made = np.concatenate(
        [
            shift(images[part, ..., None], rng.integers(-3, 4, (len(part), 2)))[..., 0]
            for part in np.array_split(rows, -(-count // 50000))
        ]
    )
    test = count // 6
    np.savez(path, x_train=made[test:], y_train=labels[rows[test:]], x_test=made[:test], y_test=labels[rows[:test]])


def seconds_and_gib(folder: Path, *command: str) -> tuple[float, float, float]:
    """The wall time of a stage, seconds; its peak memory, GiB; and the seconds until its first epoch begins."""
    started, first = time.perf_counter(), 0.0
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=folder, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("Epoch 1/"):
            first = time.perf_counter() - started
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{command} failed"
    return time.perf_counter() - started, usage.ru_maxrss / 2**20, first


def main() -> None:
    rows = []
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name in ("stages", "params.yaml"):
                (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
            write_images(folder / "images.npz", count)
            parameters = yaml.safe_load((folder / "params.yaml").read_text())
            parameters["dataset"] |= {"name": "scale", "path": "images.npz"}
            parameters["models"]["sprint"] |= {"epochs": 2, "low_resolution_fraction": 0}
            (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
            cells = [f"{count:,}"]
            for stage in STAGES:
                arguments = ["sprint"] if stage in ("train", "evaluate") else []
                took, memory, first = seconds_and_gib(folder, f"stages.{stage}", *arguments)
                cells += [f"{took:.0f} s, {memory:.1f} GiB"] + ([f"{first:.0f} s"] if stage == "train" else [])
            rows.append(cells)
            print(cells, file=sys.stderr, flush=True)
    header = ("images", "prepare", "eda", "train, two epochs", "its first batch after", "evaluate")
    print(tabulate(rows, header, tablefmt="pipe", disable_numparse=True))
    print(f"\n{processor()}, {cores()} cores.")


if __name__ == "__main__":
    main()
