"""Start one stage: `python -m stages.start train@cnn-0`, as `dvc.yaml` does.

The stage runs from a copy of `stages/`, which is made before anything of it is loaded. So what runs is what was there at
the start and what DVC records at the end, whatever is edited meanwhile: see `stages.runner.guard`.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import stages


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("error: name one stage, such as `python -m stages.start train@cnn-0`. `dvc stage list` shows all.")
    with tempfile.TemporaryDirectory(prefix="stages-") as copy:
        code = Path(copy) / "stages"
        copy_code(Path(stages.__path__[0]), code)
        stages.__path__[:] = [str(code)]
        from stages.runner import guard  # of the copy, as all that follows

        guard.run(sys.argv[1], code)


def copy_code(original: Path, copy: Path) -> None:
    """Copy `stages/` without what `.dvcignore` leaves out, such as bytecode and the files of editors."""
    left_out = (original.parent / ".dvcignore").read_text(encoding="utf-8").splitlines()
    try:
        shutil.copytree(original, copy, ignore=shutil.ignore_patterns(*left_out))
    except OSError as error:
        sys.exit(
            f"error: the code of the stage cannot be copied to {copy.parent}: {error}. `df -h` shows the free space; "
            "`TMPDIR=FOLDER` before the command names another folder."
        )


if __name__ == "__main__":
    main()
