"""Every command and every code block of README.md runs as it stands, in one go from top to bottom, on small drawn data."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages import models
from stages.demo import shrink
from stages.install import STAMP, digest
from tests.conftest import ENVIRONMENT, ROOT, edit, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = "\n".join(text for kind, text in BLOCKS if kind == "sh")
NAMED = {name for name in re.findall(r"models\.(\w+)\.|@(\w+)-", COMMANDS) for name in name if name}


def environment_of(folder: Path) -> None:
    """A `.venv` that `make` takes for installed, with this Python and this DVC; `make test` only collects the tests."""
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    python = shlex.quote(sys.executable)
    collect = f'if [ "$1 $2" = "-m pytest" ]; then exec {python} -m pytest --collect-only -q tests/test_idx.py; fi\n'
    for name, line in (("python", f'{collect}exec {python} "$@"'), ("dvc", f'exec {python} -m dvc "$@"')):
        (binaries / name).write_text(f"#!/bin/sh\n{line}\n")
        (binaries / name).chmod(0o755)
    (binaries / "activate").write_text(f'export PATH="{binaries}:$PATH"\n')
    packages = {path.name: digest(path) for path in (ROOT / "requirements.txt", ROOT / "requirements-dev.txt")}
    (folder / STAMP).write_text(json.dumps({"environment": str(folder / ".venv"), "packages": packages}))


@pytest.fixture
def clone(tmp_path) -> Path:
    """A copy of the project as it is now, under git, on small drawn data, with the models that the README names."""
    missing = NAMED - set(models.names()) - {"tiny"}
    if missing:
        pytest.skip(f"README.md shows commands for {', '.join(missing)}, which this project has no more")
    folder = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    for name in listed.stdout.decode().split("\0"):
        source = ROOT / name
        if (name and source.is_file() and not name.startswith("reports/")) or name.startswith("reports/experiments"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    for path in (folder / "stages" / "models").glob("*.py"):
        if path.stem not in {"__init__", "block", *NAMED}:
            path.unlink()
    (folder / "dvc.lock").unlink(missing_ok=True)
    content = yaml.safe_load((folder / "params.yaml").read_text())
    content["models"] = {name: block for name, block in content["models"].items() if name in NAMED}
    content["search"] = {name: ranges for name, ranges in content["search"].items() if name in NAMED}
    content["audit"]["model"] = next(iter(content["models"]))
    content["defaults"] |= {"epochs": 2, "batch_size": 64}  # of the model that is added
    graph = yaml.safe_load((folder / "dvc.yaml").read_text())
    del graph["stages"]["bench"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    (folder / "params.yaml").write_text(yaml.safe_dump(shrink(content), sort_keys=False))
    environment_of(folder)
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "First")
    return folder


def notebook(clone: Path, cells: str) -> None:
    """Run cells beside the clone; `make` there takes results from the clone's cache, and shows no image but opens it."""
    folder = clone.parent / "notebook"
    (folder / "stubs" / "IPython").mkdir(parents=True)
    (folder / "stubs" / "IPython" / "display.py").write_text("def Image(path):\n    open(path, 'rb').close()\n")
    python = shlex.quote(sys.executable)
    cache = shlex.quote(str(clone / ".dvc" / "cache"))
    make = folder / "stubs" / "make"
    make.write_text(f"#!/bin/sh\n{python} -m dvc cache dir --local {cache} && exec {python} -m stages.run\n")
    make.chmod(0o755)
    paths = {"PATH": f"{make.parent}:{ENVIRONMENT['PATH']}", "PYTHONPATH": str(make.parent)}
    for line in cells.strip().splitlines():
        line = line.replace("ADDRESS", shlex.quote(str(clone)))
        if line.startswith("!"):
            run(folder, "sh", "-e", "-c", line[1:], **paths)
        elif line.startswith("%cd "):
            folder /= line[4:]
        else:
            run(folder, "python", "-c", line, **paths)


@pytest.mark.slow
def test_every_block_runs_as_it_stands(clone):
    ran = 0
    for kind, text in BLOCKS:
        if kind == "sh":
            if "rm -f" in text:  # the README says to delete the block first
                edit(clone, lambda content: content["models"].pop("tiny"))
            printed = run(clone, "sh", "-e", "-c", f". .venv/bin/activate\n{text}")
            if text.startswith("make run"):
                assert "test accuracy" in printed
            if "stages.predict" in text:
                assert len(re.findall(r"^tests/photos/\S+: .* % \(then ", printed, re.MULTILINE)) == 2
        elif kind == "python" and text.startswith("# stages/"):
            (clone / re.match(r"# (\S+)", text)[1]).write_text(text)
        elif kind == "python":
            printed = run(clone, "python", "-c", text)
            assert len(re.findall(r"^\S.* [\d.]+ %$", printed, re.MULTILINE)) == 3
        elif kind == "yaml":
            path = clone / "params.yaml"
            anchored = path.read_text().replace("\ndefaults:\n", "\ndefaults: &defaults\n", 1)
            path.write_text(anchored.replace("\nmodels:\n", f"\nmodels:\n{text}", 1))
            run(clone, "dvc", "repro", "--quiet", "train@tiny-0")
        elif kind == "ipython":
            notebook(clone, text)
        else:
            assert kind == "mermaid", f"no test runs blocks of kind {kind}"
            continue
        ran += 1
    assert ran == sum(kind != "mermaid" for kind, _ in BLOCKS)
    assert "valid" in run(clone, "python", "-m", "stages.check")
    assert not [
        path
        for path in clone.rglob("*")
        if "tiny" in path.name and not {".dvc", ".git", "__pycache__"} & set(path.parts)
    ]
