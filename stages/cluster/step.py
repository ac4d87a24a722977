"""Runs one stage by DVC in a copy of the project: `python .dvc/tmp/step.py STAGE [--remote] [VALUE ...]`.

Each copy holds this file, which needs DVC and nothing of the project. With `--remote`, data comes from DVC's default remote
and goes there; otherwise, the copy shares the project's cache. VALUES are of parameters, as for `dvc exp run --set-param`.
"""

import json
import logging
import os
import sys
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml

TEMPORARY = Path(".dvc/tmp").resolve()


def data_for(repo: Repo, stage: Stage) -> list[str]:
    """The paths of the results in DVC's cache that a stage reads, and of those of its own that it goes on from."""
    read = [Path(dep.fs_path) for dep in stage.deps]

    def is_read(path: Path) -> bool:
        return any(path.is_relative_to(one) or one.is_relative_to(path) for one in read)

    recorded = [out for out in repo.index.outs if out.use_cache and out.hash_info]
    return [out.fs_path for out in recorded if (out.persist if out.stage == stage else is_read(Path(out.fs_path)))]


def run(name: str, values: list[str], remote: bool) -> None:
    """Run a stage as `dvc repro --single-item` does, and write what `Outcome` needs of it into `done.json`."""
    logging.getLogger("dvc").setLevel(logging.WARNING)  # what is printed is the stage's
    costs = TEMPORARY / "costs"  # in which a stage writes what it took
    costs.mkdir(exist_ok=True)
    first = str(Path(sys.executable).parent)
    os.environ |= {"SHELL": "/bin/sh", "PATH": os.pathsep.join([first, os.environ.get("PATH", os.defpath)])}
    os.environ |= {"FASHION_MNIST_COSTS": str(costs), "DVC_SITE_CACHE_DIR": str(TEMPORARY / "site")}
    if values:  # what is tried may be stopped: no checkpoint may be left of it
        os.environ["FASHION_MNIST_CHECKPOINT_SECONDS"] = "1000000000"
        apply_overrides("params.yaml", values)
    with Repo() as repo:
        (stage,) = repo.stage.collect(name)
        cached = [out.def_path for out in stage.outs if out.use_cache]
        results = [out.def_path for out in stage.outs if not out.use_cache]
        if data := data_for(repo, stage):
            (repo.pull if remote else repo.checkout)(data, allow_missing=True)
        if not repo.reproduce(name, single_item=True):
            print("nothing that it needs changed")
        if remote and cached:
            repo.push(cached)
    took = (costs / name).read_text() if (costs / name).exists() else None
    entry = load_yaml("dvc.lock")["stages"][name]
    done = {"took": took, "entry": entry, "cached": cached, "results": results}
    (TEMPORARY / "done.json").write_text(json.dumps(done))


if __name__ == "__main__":
    try:
        run(sys.argv[1], [value for value in sys.argv[2:] if value != "--remote"], "--remote" in sys.argv)
    except DvcException as error:
        sys.exit(": ".join(str(one) for one in ("error", error, error.__cause__) if one))
