"""The Makefile: what its variables do, what pins packages, and that the workflow on GitHub asks for nothing else."""

import pytest
import yaml

from tests.conftest import ROOT, run


@pytest.mark.parametrize(
    ("typed", "runs"),
    [
        ("run", "-m stages.run"),
        ("run JOBS=3", "-m stages.run --jobs 3"),
        ("search MODEL=sprint TRIALS=9 JOBS=3", "-m stages.search sprint --trials 9 --jobs 3"),
    ],
)
def test_make_runs_what_its_variables_say(typed, runs):
    unset = {"JOBS": "", "MODEL": "", "TRIALS": ""}  # `make` takes variables from the environment, too
    printed = run(ROOT, "make", "INSTALL=:", "PYTHON=echo", *typed.split(), **unset).splitlines()
    assert " ".join(printed[-1].split()) == runs


def test_every_target_of_the_workflow_is_there():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    targets = {step["run"] for job in jobs.values() for step in job["steps"] if step.get("run", "").startswith("make ")}
    assert {"make lint", "make test", "make verify"} <= targets
    for target in targets:
        run(ROOT, "make", "--dry-run", "INSTALL=:", *target.split()[1:])
