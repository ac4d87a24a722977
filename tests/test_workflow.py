"""The workflow for GitHub: it follows the published schema, and its scripts do what they are for."""

import os
import shlex
import subprocess
import sys

import pytest
import yaml

from tests.conftest import ENVIRONMENT, ROOT, commit, edit, run
from tests.faults import README, readme

PATH = ROOT / ".github" / "workflows" / "ci.yml"
JOBS = yaml.safe_load(PATH.read_text())["jobs"]


def test_it_follows_the_published_schema(tmp_path):
    check = ("python", "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows")
    run(ROOT, *check, str(PATH))
    (tmp_path / "bad.yml").write_text(PATH.read_text().replace("runs-on", "runs_on"))
    run(ROOT, *check, str(tmp_path / "bad.yml"), succeeds=False)


@pytest.mark.parametrize(
    ("reached", "installed", "found", "said"),
    [(1, 0, 0, "pypi.org cannot be reached"), (0, 1, 0, "cannot be installed"), (0, 0, 0, ""), (0, 0, 1, "")],
)
def test_the_audit_fails_only_where_it_found_something(tmp_path, reached, installed, found, said):
    for name, text in (
        ("python", f"exit {reached}"),
        ("uv", f'case "$*" in *--version) exit {installed};; esac; exit {found}'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    printed = run(ROOT, "make", "INSTALL=:", f"BIN={tmp_path}", "advisories", succeeds=not found)
    assert ("not audited" in printed) == bool(said)
    assert said in printed


UV = """#!/bin/sh
for name; do :; done
sed -i "s/^numpy==.*/numpy==$NEWEST/" "$name"
"""
PYTHON = """#!/bin/sh
echo "$@" >> calls
case "$*" in *"stage list"*) printf "check\\nbench\\ntrain@cnn-0\\n";; *"metrics diff"*) echo "accuracy 0.95 0.94";; esac
"""


@pytest.mark.parametrize("newest", ["1.26.4", "2.1.0"])
def test_make_lock_pins_what_is_newest_and_shows_what_it_changes(tmp_path, newest):
    for name, text in {"bin/uv": UV, "bin/python": PYTHON}.items():
        stub = tmp_path / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(text)
        stub.chmod(0o755)
    for kind in ("", "-dev", "-app", "-parallel"):
        (tmp_path / f"requirements{kind}.txt").write_text("numpy==1.26.4\npandas==2.2.3\n")
    run(tmp_path, "git", "init", "--quiet")
    commit(tmp_path, "Pins")
    make = ("make", "--file", str(ROOT / "Makefile"), "--no-print-directory", "INSTALL=:", f"BIN={tmp_path / 'bin'}")
    printed = run(tmp_path, *make, f"MAKE={shlex.join(make)}", "lock", NEWEST=newest)
    calls = (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else ""
    if newest == "1.26.4":
        assert printed == "no package changed\n"
        assert not calls
    else:
        assert printed.startswith("-numpy==1.26.4\n+numpy==2.1.0\n" * 4)
        assert printed.endswith("accuracy 0.95 0.94\n")
        assert "-m pytest\n-m dvc stage list --name-only\n-m dvc repro --force check train@cnn-0\n" in calls


@pytest.mark.parametrize(
    ("typed", "runs"),
    [
        ("run", "-m stages.run"),
        ("run JOBS=3", "-m stages.parallel --jobs 3"),
        ("search MODEL=sprint", "-m stages.search sprint"),
        ("search MODEL=sprint TRIALS=9 JOBS=3", "-m stages.search sprint --trials 9 --jobs 3"),
    ],
)
def test_make_runs_what_its_variables_say(typed, runs):
    unset = {"JOBS": "", "MODEL": "", "TRIALS": ""}  # `make` takes variables from the environment, too
    printed = run(ROOT, "make", "INSTALL=:", "PYTHON=echo", *typed.split(), **unset).split("\n")
    assert " ".join(printed[-2].split()) == runs


def test_every_target_that_it_makes_is_there():
    targets = [step["run"] for job in JOBS.values() for step in job["steps"] if step.get("run", "").startswith("make ")]
    assert {"make lint", "make test", "make verify"} <= set(targets)
    for target in targets:
        run(ROOT, "make", "--dry-run", *target.split()[1:])


def test_a_pull_request_shows_what_it_changes(workspace, tmp_path):
    (workspace / ".venv").symlink_to(sys.prefix)
    edit(workspace, lambda content: content["models"]["plain"].update(learning_rate=0.5))
    metrics = workspace / "reports/metrics/val/plain-0.json"
    metrics.write_text(metrics.read_text().replace('"accuracy": 0.', '"accuracy": 0.1'))
    (script,) = (step["run"] for step in JOBS["compare"]["steps"] if "GITHUB_STEP_SUMMARY" in step.get("run", ""))
    variables = {"BASE": "origin/main", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    shell = ["bash", "-e", "-c", script]
    subprocess.run(shell, cwd=workspace, env=os.environ | ENVIRONMENT | variables, check=True)
    summary = (tmp_path / "summary.md").read_text()
    assert "| reports/metrics/val/plain-0.json | accuracy |" in summary
    assert "| params.yaml | models.plain.learning_rate |" in summary


@pytest.mark.fault(
    "After `make run` on another processor `make test` fails: digits and wall times differ from the committed ones.",
    "What holds the record together is tested by `make verify` alone.",
)
def test_no_test_of_the_record_is_a_part_of_make_test():
    collect = [
        "python",
        "-m",
        "pytest",
        "-n",
        "0",
        "--collect-only",
        "tests/test_results.py",
        "tests/test_page_numbers.py",
    ]
    assert "committed" not in run(ROOT, *collect)
    assert "test_results.py" not in run(ROOT, *collect)
    recorded = run(ROOT, *collect, "-m", "record")
    assert "[committed]" in recorded
    assert "[finished]" not in recorded


def test_the_table_of_faults_is_that_of_the_marks():
    assert README.read_text(encoding="utf-8") == readme()
