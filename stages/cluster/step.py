"""A worker's program, in its copy of the project: run one stage by `dvc repro`, which restores what the stage needs.

`python -m stages.cluster.step STAGE [VALUE ...]`. On another machine, `RUNS` holds the entries in DVC's cache of runs of
the stages that ran elsewhere; data comes from DVC's default remote, and goes there. Afterwards, `RUNS` holds this stage's
entry, too.

`dvc push` leaves out results that are not cached (`cache: false`), and `dvc push --run-cache` sends all entries each time:
so DVC's own functions send and get what the stage needs.

With values of parameters, as for `dvc exp run --set-param`, the stage alone runs, on the project's parameters with these
values. Then the copy holds what the stage reads, and nothing else of the data.
"""

import shutil
import sys
from pathlib import Path

from dvc.cli import main as dvc
from dvc.repo import Repo
from dvc.stage.cache import _can_hash, _get_cache_hash, _get_stage_hash
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils.hydra import apply_overrides
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from stages.common.entry import entry_point
from stages.common.environment import REQUIREMENTS, other_versions
from stages.common.errors import InputError
from stages.common.files import read_json, read_text, write_json, write_text
from stages.common.orphans import end_with_dvc
from stages.common.parameters import load_yaml

FILLED = Path(".dvc/tmp/filled")  # it is there if what did not change has been restored
RUNS = Path(".dvc/tmp/runs.json")
PARAMETERS, ORIGINAL = Path("params.yaml"), Path(".dvc/tmp/params.yaml")  # the latter: without values


def restore(runs: dict[str, str]) -> None:
    """Get runs that took place on other machines: then `dvc repro` restores their results.

    Args:
        runs: Entries of DVC's cache of runs: their paths in the cache, and their text.

    Raises:
        InputError: DVC's default remote does not give the results.
    """
    with Repo() as repo:
        entries = {Path(repo.cache.legacy.path) / path: text for path, text in runs.items()}
        for entry, text in entries.items():
            if not entry.exists():
                write_text(entry, text)
        results = {HashInfo("md5", result["md5"]) for entry in entries for result in load_yaml(entry)["outs"]}
        travel(repo.cloud.pull, results, "get data from")
        travel(repo.cloud.pull, inside(repo, results), "get data from")


def record(name: str, remote: bool) -> dict[str, str]:
    """Put the results of a stage that ran into DVC's cache of runs, and if it says so, into DVC's default remote.

    `dvc repro` itself puts no stage into the cache of runs that has results in `outs` that are not cached.

    Returns:
        The path of its entry in the cache, and the text.

    Raises:
        InputError: DVC's default remote does not take the results.
    """
    with Repo() as repo:
        (stage,) = repo.stage.collect(name)
        if not _can_hash(stage):  # it has no results, for example: each copy runs it
            return {}
        repo.stage_cache.save(stage)
        key = _get_stage_hash(stage)
        path = Path("runs", key[:2], key, _get_cache_hash(to_single_stage_lockfile(stage)))
        if remote:
            results = {result.hash_info for result in stage.outs}
            travel(repo.cloud.push, inside(repo, results), "send data to")
            travel(repo.cloud.push, results, "send data to")  # a folder's list last: where it is, DVC expects its files
        return {str(path): (Path(repo.cache.legacy.path) / path).read_text(encoding="utf-8")}


def inside(repo: Repo, results: set[HashInfo]) -> set[HashInfo]:
    """The files in those of the results that are folders, whose lists are in DVC's cache."""
    return {file for result in results if result.isdir for _, _, file in Tree.load(repo.cache.local, result)}


def has_uncached(name: str) -> bool:
    """Whether a stage has results in `outs` that are not cached; faster than by DVC, which reads all of its files anew."""
    entry = load_yaml(Path("dvc.yaml"))["stages"][name.partition("@")[0]]
    return any(
        isinstance(out, dict) and not next(iter(out.values())).get("cache", True) for out in entry.get("outs", [])
    )


def refuse_unreachable() -> None:
    """Raise `InputError` if DVC's default remote cannot be reached from here."""
    with Repo() as repo:
        try:
            remote = repo.cloud.get_remote_odb(None, "pull")
            remote.fs.exists(remote.path)
        except Exception as error:  # of DVC, or of any library for any kind of remote
            raise InputError(f"DVC's default remote cannot be reached from here: {error}. Try `dvc pull -v`.") from None


def travel(transfer, hashes: set[HashInfo], what: str) -> None:
    """Send or get what has these hashes. Raises `InputError`, in one sentence, if that fails in any way."""
    try:
        failed = transfer(hashes).failed
        reason = f"{len(failed)} of {len(hashes)} results failed"
    except Exception as error:  # of DVC, or of any library for any kind of remote
        failed, reason = hashes, f"{type(error).__name__}: {error}"
    if failed:
        raise InputError(f"cannot {what} DVC's default remote: {reason}. `dvc push -v` and `dvc pull -v` show more.")


def set_values(values: list[str]) -> None:
    """Write the project's parameters with these values, and no others, into the copy, as `dvc exp run` does."""
    if not ORIGINAL.exists():
        ORIGINAL.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PARAMETERS, ORIGINAL)
    shutil.copy(ORIGINAL, PARAMETERS)
    apply_overrides(PARAMETERS, values)


def missing(name: str) -> list[str]:
    """The data that a stage reads and that is not in the copy."""
    with Repo() as repo:
        (stage,) = repo.stage.collect(name)
        return [dep.def_path for dep in stage.deps if not Path(dep.def_path).exists()]


def get(paths: list[str], remote: bool) -> None:
    """Restore results that did not change, all of them if `paths` is empty. Where one is nowhere, its stage runs.

    Raises:
        InputError: They are at DVC's default remote, and it cannot be reached.
    """
    if dvc(["pull" if remote else "checkout", "--quiet", *paths]) and remote:
        refuse_unreachable()


@entry_point
def main() -> None:
    name, *values = sys.argv[1:]
    end_with_dvc()  # with the worker, and on this machine with the command
    remote = RUNS.exists()
    others = other_versions(read_text(REQUIREMENTS)) if remote else []
    if others:
        raise InputError(
            f"this host has other versions of packages than the project: {', '.join(others)}. Install those of "
            f"{REQUIREMENTS} there: `make installed-parallel`."
        )
    runs = read_json(RUNS) if remote else {}
    if values:
        set_values(values)
        if wanted := missing(name):
            get(wanted, remote)
    elif not FILLED.exists():
        get([], remote)
        FILLED.touch()
    if runs:
        restore(runs)
    if status := dvc(["repro", *(["--single-item"] if values else []), name]):
        sys.exit(status)
    if remote:
        write_json(RUNS, runs | record(name, remote))
    elif has_uncached(name):
        record(name, remote)


if __name__ == "__main__":
    main()
