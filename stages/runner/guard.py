"""Run one stage for DVC: it can write its results, what it reads is as recorded, and what ran is what DVC will record.

DVC reads parameters, code and data when a stage has ended, and records them with the results. An edit during a run would be
recorded for results that it had no part in. So the stage runs from a copy of the code, and what it reads is compared at its
end with what it was at its start.
"""

import functools
import gc
import importlib
import inspect
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from stages.base.errors import InputError
from stages.parameters import schema
from stages.runner import checkpoint, lock_file, orphans, progress, workspace
from stages.runner.dvc_files import refuse_damaged
from stages.runner.entry import entry_point
from stages.runner.graph import Stage, fingerprint, read_stage

MAX_NAMED = 5  # changes that an error names


@entry_point
def run(name: str, code: Path) -> None:
    """Run the stage of this name from `code`, a copy of `stages/`. Without DVC, it runs without being guarded."""
    kind = name.partition("@")[0]
    if not (code / f"{kind}.py").exists():
        raise InputError(f"there is no stage {name}: `dvc stage list` shows all.")
    sys.argv = [f"stages/{kind}.py", *([name] if "@" in name else [])]
    if os.environ.get("DVC_STAGE") != name:
        loaded(kind).main()
        return
    orphans.end_with_dvc()
    lock_file.keep_copy()
    checkpoint.remove_recorded()
    stage = read_stage(name)
    # Read once, now: a stage may ask for a value when TensorFlow has loaded.
    schema.load_yaml = functools.cache(schema.load_yaml)
    schema.load_yaml(schema.PARAMETERS)
    with guarded(stage, code) as reads:
        module = loaded(kind)
        kept = None
        if "checkpoint" in inspect.signature(module.main).parameters:
            kept = checkpoint.open_checkpoint(name, reads)
        with progress.report_costs(name, kept):
            module.main(**({"checkpoint": kept} if kept else {}))
    if kept:
        kept.keep_for(stage.results[0])


def loaded(kind: str) -> ModuleType:
    """The module of a stage. The garbage collector never looks at what it loads: that would slow down the whole process."""
    gc.disable()
    try:
        return importlib.import_module(f"stages.{kind}")
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def guarded(stage: Stage, code: Path) -> Iterator[dict[str, str]]:
    """A context in which a stage runs. Yields what it reads: see `fingerprint`.

    Raises:
        InputError: DVC could not record its results: see `workspace.refuse_lost_results`. It reads a damaged file. Or what
            it reads changed while it ran: then its results are removed, so that DVC cannot record them.
        OSError: It cannot write: see `workspace.prepare_to_write`.
    """
    workspace.refuse_lost_results()
    workspace.prepare_to_write(stage)
    before = fingerprint(stage, code)
    refuse_damaged(before)
    yield before
    after = fingerprint(stage)
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if changed:
        for path in stage.results:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise InputError(what_changed(stage, changed, before, after))


def what_changed(stage: Stage, changed: list[str], before: dict[str, str], after: dict[str, str]) -> str:
    """The sentence about what changed while a stage ran."""
    more = f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
    first = changed[0]
    values = f" (from {before.get(first)} to {after.get(first)})" if " of " in first else ""
    return (
        f"{', '.join(changed[:MAX_NAMED])}{more} changed while {stage.name} ran{values}. DVC would record its results for "
        "what is there now, so they were removed. Type the command again, and edit while no stage runs."
    )
