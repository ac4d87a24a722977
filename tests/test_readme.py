"""What the documents say: every code block runs as it stands, from top to bottom; paths, commands and tables are true."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from stages import models
from stages.models import NO_MODELS
from tests.conftest import ROOT, SMALL, commit, edit, few_images, run
from tests.test_graph import PARAMETERS, changed_by, changed_by_key, following, runs_of

NAMES = ("README.md", "reports/README.md", "stages/README.md", "stages/cluster/README.md")
DOCUMENTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES if (ROOT / name).exists()}
BLOCKS = [
    (name, kind, text)
    for name, document in DOCUMENTS.items()
    for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
]
NOT_RUN = {"mermaid", "text"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_commands_lead_somewhere(name):
    text = DOCUMENTS[name]
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / name).parent.joinpath(target).exists(), target
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *(block for _, kind, block in BLOCKS if kind == "sh")])
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= set(targets)
    for module in re.findall(r"python -m (stages\.[a-z][\w.]*)", code):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


def test_the_table_of_what_runs_again_is_true():
    tables = [text.partition("| you change | these run again |")[2].partition("\n\n")[0] for text in DOCUMENTS.values()]
    rows = [row for table in tables for row in re.findall(r"^\| *`([^`]+)`.*? *\| *(.*?) *\|$", table, re.MULTILINE)]
    assert rows
    for change, cell in rows:
        key = re.match(r"[\w.]+", change)[0]
        changed = (changed_by(change) if "/" in change else changed_by_key(key)) - {"check"}
        named = {name for name in re.findall(r"`([\w@-]+)`", cell) if name.partition(".")[0] not in PARAMETERS}
        assert runs_of(*named) <= following(changed), change
        model = PARAMETERS["folds"]["model"]  # "and `folds`, if ..." is said below the table
        told = runs_of(*named) | ({"folds"} if model in change else set())
        assert changed <= told or "follows" in cell, change


# --- The code blocks ---


def models_in_commands() -> set[str]:
    """The models that commands name, without the one that a block adds."""
    commands = "\n".join(text for _, kind, text in BLOCKS if kind == "sh")
    found = {name for names in re.findall(r"models\.(\w+)\.|@(\w+)-|MODEL=(\w+)", commands) for name in names if name}
    return found - set(re.findall(r"^# stages/models/(\w+)\.py", "\n".join(text for *_, text in BLOCKS), re.MULTILINE))


@pytest.fixture
def clone(tmp_path, published) -> Path:
    """A copy of the project as it is now, under git, with few images, and with the models that commands name alone."""
    named = models_in_commands()
    if missing := named - set(models.names()):
        pytest.skip(f"commands name {', '.join(missing)}, which this project has no more")
    folder = tmp_path / "clone"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not re.match(r"data/|dvc\.lock|reports/.*/", name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for path in (folder / "stages/models").glob("*.py"):
        if path.stem not in NO_MODELS | named:
            path.unlink()
    content = yaml.safe_load((folder / "params.yaml").read_text())
    quick = {"epochs": 2, "batch_size": 64}
    content["defaults"] |= quick
    content["models"] = {name: block | quick for name, block in content["models"].items() if name in named}
    for section in set(SMALL) - {"search"}:
        content[section] |= SMALL[section]
    content["folds"]["model"] = min(named)
    content["search"] = {name: ranges for name, ranges in content["search"].items() if name in named}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    few_images(folder, published, 2000)
    python = shlex.quote(sys.executable)
    binaries = folder / ".venv/bin"
    binaries.mkdir(parents=True)
    collect = f'[ "$1 $2" = "-m pytest" ] && exec {python} -m pytest --collect-only -q tests/test_cost.py\n'
    for name, lines in (("python", f'{collect}exec {python} "$@"'), ("dvc", f'exec {python} -m dvc "$@"')):
        (binaries / name).write_text(f"#!/bin/sh\n{lines}\n")
        (binaries / name).chmod(0o755)
    (binaries / "activate").write_text(f'export PATH="{binaries}:$PATH"\n')
    photos = sorted((ROOT / "tests/photos").iterdir())
    for place, photo in enumerate(photos * 12):  # images of one's own
        (tmp_path / "pictures" / "ab"[place % 2]).mkdir(parents=True, exist_ok=True)
        with Image.open(photo) as image:
            image.rotate(place).convert("RGB").resize((20, 20)).save(
                tmp_path / "pictures" / "ab"[place % 2] / f"{place}.png"
            )
    shutil.copy(tmp_path / "pictures/a/0.png", folder / "one-more.jpg")
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    commit(folder, "First")
    return folder


@pytest.mark.slow
def test_every_block_runs_as_it_stands(clone):
    added = []
    for name, kind, text in BLOCKS:
        if kind == "sh":
            for model in re.findall(r"^rm -f stages/models/(\w+)\.py", text, re.MULTILINE):  # first, delete the block
                edit(clone, lambda content, model=model: content["models"].pop(model))
            home = {"HOME": str(clone.parent)} if "~/" in text else {}
            printed = run(clone, "sh", "-e", "-c", f". .venv/bin/activate\n{text}", MAKEFLAGS=" -- INSTALL=:", **home)
            assert "test accuracy" in printed or not text.startswith("make run")
        elif kind == "python" and text.startswith("# stages/"):
            path = re.match(r"# (\S+)", text)[1]
            added.append(Path(path).stem)
            (clone / path).write_text(text)
        elif kind == "python":
            assert run(clone, "python", "-c", text)
        elif kind == "yaml":
            path = clone / "params.yaml"
            path.write_text(path.read_text().replace("\nmodels:\n", f"\nmodels:\n{text}", 1))
            run(clone, "dvc", "repro", "--quiet", f"train@{added[-1]}-0")
        else:
            assert kind in NOT_RUN, f"no test runs the block of kind {kind!r} in {name}"
    assert "valid" in run(clone, "python", "-m", "stages.check")
    written = {path for path in clone.rglob("*") if not {".dvc", ".git", "__pycache__"} & set(path.parts)}
    assert not [path for path in written if any(model in path.name for model in added)]
