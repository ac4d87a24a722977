"""Start one stage: `python -m stages.start train@cnn-0`, as `dvc.yaml` does.

The stage runs from a copy of `stages/`, made at the start. So what runs is what was there at the start and what DVC records
at the end, whatever is edited meanwhile: see `stages.runner.guard`.
"""

import hashlib
import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

import stages

COPIES = Path(".dvc/tmp/code")  # one for each state of the code, named by its MD5
KEPT_SECONDS = 7 * 24 * 3600  # since a copy was last used


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("error: name one stage, such as `python -m stages.start train@cnn-0`. `dvc stage list` shows all.")
    if folder := os.environ.get("FASHION_MNIST_LOGS"):  # see `stages.runner.progress`
        with open(os.path.join(folder, f"{sys.argv[1]}.log"), "wb") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
    try:
        code = copy_code(Path(stages.__path__[0]))
    except OSError as error:
        sys.exit(f"error: the code of the stage cannot be copied to {COPIES}: {error}. `df -h .` shows the free space.")
    stages.__path__[:] = [str(code)]
    for name in [name for name in sys.modules if name.startswith("stages.")]:
        del sys.modules[name]  # loaded from the original
    from stages.runner import guard  # of the copy, as all that follows

    guard.run(sys.argv[1], code)


def copy_code(original: Path) -> Path:
    """The path of a copy of `stages/` without what `.dvcignore` leaves out, such as bytecode. Old copies are removed."""
    left_out = (original.parent / ".dvcignore").read_text(encoding="utf-8").splitlines()
    beside, md5 = COPIES.resolve() / f"part{os.getpid()}", hashlib.md5(usedforsecurity=False)
    shutil.copytree(original, beside / "stages", ignore=shutil.ignore_patterns(*left_out))
    for path in sorted(path for path in beside.rglob("*") if path.is_file()):
        md5.update(f"{path.relative_to(beside)} ".encode() + path.read_bytes())
    copy = beside.with_name(md5.hexdigest())
    try:
        os.replace(beside, copy)
    except OSError:  # it is there already
        shutil.rmtree(beside)
    os.utime(copy)
    for other in beside.parent.iterdir():
        with suppress(FileNotFoundError):  # another stage may be renaming it
            if other.stat().st_mtime < time.time() - KEPT_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
    return copy / "stages"


if __name__ == "__main__":
    main()
