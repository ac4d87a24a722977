"""What `dvc.yaml` promises, read from it and from the code: the invariants of the design."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from stages import models
from stages.dataset import PUBLISHED
from tests.conftest import ROOT, run

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MODULES = {name: re.search(r"python -E -m (stages\.\w+)", stage["cmd"])[1] for name, stage in STAGES.items()}


def paths(entries: list) -> set[str]:
    """The paths of a list of outs, metrics or plots, with or without options behind them."""
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def outputs(stage: dict) -> set[str]:
    return set().union(*(paths(stage.get(kind, [])) for kind in ("outs", "metrics", "plots")))


def source(module: str) -> Path | None:
    """The file of a module of the project, None where there is none."""
    path = ROOT / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def imported(module: str, seen: set[Path]) -> set[Path]:
    """Every file of the project that a module imports, directly or not, at its top or inside a function."""
    file = source(module)
    if file is None or file in seen:
        return seen
    seen.add(file)
    for parent in [".".join(module.split(".")[:count]) for count in range(1, module.count(".") + 1)]:
        imported(parent, seen)
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.split(".")[0] == "stages":
                imported(name, seen)
    return seen


def has_code(file: Path) -> bool:
    """Whether there is more in a file than a docstring."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(file.read_text()).body)


@pytest.mark.parametrize("name", STAGES)
def test_every_local_import_is_a_dependency(name):
    declared = paths(STAGES[name]["deps"])
    files = imported(MODULES[name], set())
    if name == "bench":  # which starts it as a process
        imported("stages.benchmark.ours", files)
    needed = {str(file.relative_to(ROOT)) for file in files if has_code(file)}
    if name in {"train", "folds", "check"}:  # these load models by name, which no import statement shows
        assert {"stages/models/${item.model}.py", "stages/models/${audit.model}.py", "stages/models"} & declared
    missing = {file for file in needed if not any(file == dep or file.startswith(f"{dep}/") for dep in declared)}
    assert not missing
    unneeded = {dep for dep in declared if dep.endswith(".py") and "$" not in dep} - needed
    assert not unneeded


def parameters_read(module: str) -> set[str]:
    """The keys that a stage's own module asks `read_parameters` for, with `{model_name}` as in `dvc.yaml`."""
    keys = set()
    for node in ast.walk(ast.parse(source(module).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "read_parameters":
            keys |= {re.fullmatch(r"f?'(.*)'", ast.unparse(argument))[1] for argument in node.args}
    return {key.replace("{model_name}", "${item.model}").replace("{audit_model}", "${audit.model}") for key in keys}


@pytest.mark.parametrize("name", [name for name in STAGES if name != "check"])
def test_a_stage_reads_exactly_the_parameters_that_it_declares(name):
    assert parameters_read(MODULES[name]) == set(STAGES[name].get("params", []))


def test_only_one_module_opens_the_parameters():
    openers = {
        file.name
        for file in (ROOT / "stages").rglob("*.py")
        if re.search(r"import yaml|ruamel.yaml import", file.read_text())
    }
    assert openers == {"parameters.py", "demo.py", "experiments.py"}  # the last two: a copy's, and those of commits


def ancestors(name: str) -> set[str]:
    """All stages whose outputs reach a stage, itself included."""
    found, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        deps = paths(STAGES[current]["deps"])
        waiting += [
            other
            for other, stage in STAGES.items()
            if any(
                out == dep or out.startswith(f"{dep}/") or dep.startswith(f"{out}/")
                for out in outputs(stage)
                for dep in deps
            )
        ]
    return found


TEST_DATA = re.compile(
    r"test\.npz|t10k|metrics/(?!val)|predictions(?!/val)|reports/(robustness|unfamiliar|audit|explain)"
)


@pytest.mark.parametrize("name", ["train", "select", "calibrate", "folds", "eda", "bench"])
def test_what_fits_stops_selects_or_calibrates_has_no_test_data_among_its_ancestors(name):
    reached = ancestors(name)
    assert not reached & {"evaluate", "audit", "explain", "compare", "report"}
    read = set().union(*(paths(STAGES[stage]["deps"]) for stage in reached - {"prepare", "fetch"}))
    if name == "bench":  # the notebook's `load_data` wants all four files, and the notebook drops the test set
        read -= {dep for dep in read if "t10k" in dep}
    assert not {dep for dep in read if TEST_DATA.search(dep)}
    # a folder that is read as a whole must hold none of it either
    for dep in read:
        inside = {out for stage in STAGES.values() for out in outputs(stage) if out.startswith(f"{dep}/")}
        assert not [out for out in inside if TEST_DATA.search(out)]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_loads_the_parts_that_it_declares_and_no_others(name):
    text = source(MODULES[name]).read_text()
    if name == "bench":  # which starts it as a process
        text += (ROOT / "stages/benchmark/ours.py").read_text()
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    called = {(getattr(call.func, "id", ""), ast.unparse(argument)) for call in calls for argument in call.args[:1]}
    loaded = {argument.strip("'") for function, argument in called if function == "load_split"}
    declared = paths(STAGES[name]["deps"])
    assert loaded == {part for part in ("train", "val", "test") if f"data/prepared/{part}.npz" in declared}
    metrics = {argument.strip("'") for function, argument in called if function == "read_metrics"}
    for split in metrics - {"split"}:  # `compare` asks for both, by variable
        assert [dep for dep in declared if dep.startswith(f"reports/metrics/{split}")]
    if "split" in metrics:
        assert {"reports/metrics/val", "reports/metrics/test"} <= declared
    reads_raw = "RAW" in {
        node.id for node in ast.walk(ast.parse(source(MODULES[name]).read_text())) if isinstance(node, ast.Name)
    }
    assert reads_raw == (name in {"fetch", "prepare", "bench"})  # bench hands it to the notebook


def test_only_stages_that_decide_nothing_read_the_test_set():
    readers = {name for name, stage in STAGES.items() if "data/prepared/test.npz" in paths(stage["deps"])}
    assert readers == {"evaluate", "audit", "explain", "report"}


def test_the_four_files_are_pinned_as_published():
    assert list(PUBLISHED) == [
        f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ]
    assert [digest[:8] for digest in PUBLISHED.values()] == ["3aede38d", "a04f1713", "346e55b9", "67da17c7"]
    assert {len(digest) for digest in PUBLISHED.values()} == {64}


def test_every_stage_says_what_it_does():
    assert all(stage.get("desc") for stage in STAGES.values())


def test_numbers_and_pictures_live_in_git_and_data_in_the_cache():
    for stage in STAGES.values():
        for kind in ("outs", "metrics", "plots"):
            for entry in stage.get(kind, []):
                path, options = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
                assert (options.get("cache", True) is False) == path.startswith("reports/"), path


def test_train_and_evaluate_can_be_restored_from_the_run_cache():
    for name in (
        "train",
        "evaluate",
        "prepare",
        "eda",
        "folds",
        "explain",
    ):  # a plain out without cache would turn it off
        assert not [entry for entry in STAGES[name].get("outs", []) if not isinstance(entry, str)]


def test_no_module_hides_one_of_pythons_own():
    import sys

    names = {file.stem for file in (ROOT / "stages").glob("*.py")}
    assert not names & (set(sys.stdlib_module_names) - {"__init__"})


def test_dvc_makes_one_stage_of_every_model_and_seed():
    listed = run(ROOT, "dvc", "stage", "list", "--name-only").split()
    seeds = yaml.safe_load((ROOT / "params.yaml").read_text())["seeds"]
    expected = {
        f"{stage}@{model}-{seed}" for stage in ("train", "evaluate") for model in models.names() for seed in seeds
    }
    assert {name for name in listed if "@" in name} == expected


def test_custom_plot_templates_are_there():
    used = {
        options["template"]
        for stage in STAGES.values()
        for entry in stage.get("plots", [])
        for options in entry.values()
        if "template" in options
    }
    built_in = {"simple", "linear", "scatter"}
    for name in used - built_in:
        json.loads((ROOT / ".dvc" / "plots" / f"{name}.json").read_text())
