"""What `dvc.yaml` promises, read from it and from the code: the invariants, the walls, and what an edit runs again."""

import ast
import functools
import re
from pathlib import Path

import networkx
import pytest
import yaml
from dvc.repo import Repo

from stages import models
from tests.conftest import ROOT

CODE = ROOT / "stages"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMETERS = yaml.safe_load((ROOT / "params.yaml").read_text())

# The rooms of the house: each imports only those above it.
ROOMS = (
    "base", "parameters", "results", "data", "scoring", "comparison", "stress", "quality", "explanation", "figures", "page",
    "layers", "models", "trained", "training", "inference", "runner", "cluster", "tuning", "benchmark",
)  # fmt: skip
UPWARDS = {("parameters/search.py", "models")}  # the ranges of a search are those of the models' blocks
NO_STAGE_IMPORTS = ("runner", "cluster", "tuning", "benchmark")
PROGRAMS = {"benchmark/ours.py", "cluster/step.py"}  # in a room, but started as processes

# The variables that hold a model's name, as `dvc.yaml` spells them.
MODEL_NAMES = {"model_name": "${item.model}", "folds_model": "${folds.model}"}
# These run of a model's file only `Parameters`, or nothing, so that what else it imports plays no part.
BUILD_NO_MODEL = {"check", "report"}


def paths(entries: list) -> set[str]:
    """The paths of a list of deps, outs, metrics or plots, with or without options behind them."""
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def deps(stage: str) -> set[str]:
    return paths(STAGES[stage]["deps"])


def outputs(stage: str) -> set[str]:
    return set().union(*(paths(STAGES[stage].get(kind, [])) for kind in ("outs", "metrics", "plots")))


def covered(path: str, declared: set[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in declared)


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def has_code(file: Path) -> bool:
    """Whether there is more in a file than a docstring."""
    return any(not isinstance(node, ast.Expr) for node in tree_of(file).body)


def files_of(folder: Path) -> set[str]:
    """The files with code in a folder, or the file itself, as paths from the project's root."""
    found = folder.rglob("*.py") if folder.is_dir() else [folder]
    return {file.relative_to(ROOT).as_posix() for file in found if has_code(file)}


def file_of(module: str) -> Path | None:
    """The file of a module of the project, None where there is none."""
    path = ROOT / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


@functools.cache
def modules_in(file: Path) -> set[str]:
    """The modules of the project that a file imports itself, at its top or inside a function."""
    names = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} has a relative import, which no test here follows"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.split(".")[0] == "stages" and file_of(name)}


def closure(module: str, seen: set[Path] | None = None) -> set[str]:
    """Every file of the project that a module imports, directly or not, itself among them."""
    seen = set() if seen is None else seen
    file = file_of(module)
    if file not in seen:
        seen.add(file)
        for name in (*modules_in(file), *([module.rpartition(".")[0]] if "." in module else [])):
            closure(name, seen)
    return {path.relative_to(ROOT).as_posix() for path in seen if has_code(path)}


def models_loaded(stage: str) -> set[str]:
    """The files of models, or their folder, that a stage reads by name: by calls of `stages.models`."""
    found = set()
    for call in [node for node in ast.walk(tree_of(CODE / f"{stage}.py")) if isinstance(node, ast.Call)]:
        function = ast.unparse(call.func)
        if re.fullmatch(r"models\.\w+", function):
            name = MODEL_NAMES.get(ast.unparse(call.args[0]) if call.args else "")
            found.add(f"stages/models/{name}.py" if name else "stages/models")
        elif function == "description":  # the docstring of a model's file
            found.add("stages/models")
    return found


@functools.cache
def imports_of(stage: str) -> set[str]:
    """The files that a stage imports. Of models, which are loaded by name, what they import, but not their files."""
    found = closure(f"stages.{stage}")
    if models_loaded(stage) and stage not in BUILD_NO_MODEL:
        found |= set().union(*(closure(f"stages.models.{model}") for model in models.names()))
    return found - {f"stages/models/{model}.py" for model in models.names()}


# --- Each stage declares what it reads ---


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_follow_the_imports(stage):
    needed, declared = imports_of(stage), {dep for dep in deps(stage) if dep.startswith("stages/")}
    assert {file for file in needed if not covered(file, declared)} == set(), "imported, but not declared"
    of_models = {dep for dep in declared if re.fullmatch(r"stages/models(/\$.*)?", dep)}
    assert of_models == models_loaded(stage)
    for dep in declared - of_models:
        files = files_of(ROOT / dep)
        assert 2 * len(files & needed) >= len(files), f"{dep} is declared, but imported are only {files & needed}"


def called(file: Path, function: str) -> list[ast.Call]:
    return [
        node for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call) and ast.unparse(node.func) == function
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_parameters_that_it_reads(stage):
    script = CODE / f"{stage}.py"
    keys = {ast.literal_eval(call.args[0]) for call in called(script, "read")}
    for call in called(script, "models.read_block"):
        keys |= {"defaults", f"models.{MODEL_NAMES[ast.unparse(call.args[0])]}"}
    assert keys == set(STAGES[stage].get("params", []))
    assert bool(called(script, "load_yaml")) == ("params.yaml" in deps(stage)) == (stage == "check")


def test_no_room_reads_parameters_behind_a_stages_back():
    rooms = {ROOT / path for stage in STAGES for path in imports_of(stage)} - {CODE / f"{stage}.py" for stage in STAGES}
    readers = {file.relative_to(CODE).as_posix() for file in rooms if called(file, "read") or called(file, "load_yaml")}
    # schema.py: `read` itself; models: `read_block`; tables.py: `results`, for the commands that print the table
    assert readers == {"parameters/schema.py", "models/__init__.py", "page/tables.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_splits_that_it_loads(stage):
    loaded = {ast.literal_eval(call.args[0]) for call in called(CODE / f"{stage}.py", "load_split")}
    assert loaded == {part for part in ("train", "val", "test") if f"data/prepared/{part}.npy" in deps(stage)}


# --- The walls ---


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_downwards(room):
    below = {room, *ROOMS[: ROOMS.index(room)]}
    for path in files_of(CODE / room):
        inside = path.removeprefix("stages/")
        rooms = {name.split(".")[1] for name in modules_in(ROOT / path) if "." in name}
        assert {other for other in rooms - below if (inside, other) not in UPWARDS} == set(), path


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_knows_what_starts_and_guards_it_so_an_edit_there_runs_nothing(stage):
    entry_points = {path.as_posix() for path in map(Path, files_of(CODE)) if path.parent.name == "stages"}
    others = entry_points - {"stages/__init__.py", f"stages/{stage}.py"}
    others = others.union(*(files_of(CODE / room) for room in NO_STAGE_IMPORTS))
    assert closure(f"stages.{stage}") & others == set()
    assert {dep for dep in deps(stage) if any(covered(file, {dep}) for file in others)} == set()


def is_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node) == "if __name__ == '__main__':\n    main()"


def test_every_file_in_stages_can_be_run_and_no_other_one():
    runnable = {path for path in files_of(CODE) if any(map(is_guard, tree_of(ROOT / path).body))}
    files = {path for path in files_of(CODE) if path.count("/") == 1} - {"stages/__init__.py"}
    assert {path.split("/")[1] for path in files_of(CODE) - files} == {"__init__.py", *ROOMS}
    assert files <= runnable
    assert {path.removeprefix("stages/") for path in runnable - files} <= PROGRAMS
    for name, stage in STAGES.items():
        argument = '"$DVC_STAGE"' if "matrix" in stage else name
        assert stage["cmd"].partition(" #")[0] == f"python -E -m stages.start {argument}"
        assert f"stages/{name}.py" in files


# --- The graph, as DVC makes it ---


@functools.cache
def graph() -> networkx.DiGraph:
    """The names of the stages, each with edges to those whose results it reads, its paths (`deps`) and keys (`params`)."""
    found = Repo(str(ROOT)).index.graph
    names = networkx.relabel_nodes(found, {stage: stage.addressing for stage in found})
    for stage in found:
        node = names.nodes[stage.addressing]
        node["params"] = {key for dep in stage.deps for key in getattr(dep, "params", [])}
        files = [dep for dep in stage.deps if not hasattr(dep, "params")]
        paths_of = [Path(dep.fs_path) for dep in files]
        node["deps"] = {path.relative_to(ROOT).as_posix() for path in paths_of if path.is_relative_to(ROOT)}
    return names


def runs_of(*stages: str) -> set[str]:
    """DVC's names of these stages: of `train`, those of all runs; of `train@cnn`, those of all seeds."""
    return {name for name in graph() if any(name == stage or re.match(rf"{stage}[@-]", name) for stage in stages)}


def changed_by(path: str) -> set[str]:
    """The stages that run because a file changed, even if no result does."""
    return {name for name, node in graph().nodes(data=True) if covered(path, node["deps"])}


def changed_by_key(key: str) -> set[str]:
    """The stages that run because the value of a key of `params.yaml` changed."""
    nodes = graph().nodes(data=True)
    return {name for name, node in nodes if any(f"{key}.".startswith(f"{one}.") for one in node["params"])}


def following(stages: set[str]) -> set[str]:
    """These stages, and all that may run after them."""
    return stages.union(*(networkx.ancestors(graph(), stage) for stage in stages))


def test_dvc_makes_one_stage_of_every_model_and_seed():
    expected = {
        f"{stage}@{model}-{seed}"
        for stage in ("train", "evaluate")
        for model in PARAMETERS["models"]
        for seed in PARAMETERS["seeds"]
    }
    assert {name for name in graph() if "@" in name} == expected


OF_VALIDATION = (
    r"data/prepared/(train|val)\.npy|data/prepared/summary\.json|(data/predictions|reports/metrics)/val(/.*)?"
)


@pytest.mark.parametrize("stage", ["eda", "train", "select", "calibrate", "export", "folds"])
def test_what_fits_stops_selects_or_calibrates_has_no_test_data_among_its_ancestors(stage):
    for name in runs_of(stage):
        reached = {name, *networkx.descendants(graph(), name)}
        assert not reached & runs_of("evaluate", "audit", "explain", "compare", "report")
        read = set().union(*(graph().nodes[one]["deps"] for one in reached - {"prepare"}))
        data = {path for path in read if re.match("data/(prepared|predictions)|reports/metrics", path)}
        assert {path for path in data if not re.fullmatch(OF_VALIDATION, path)} == set()


def test_numbers_and_figures_live_in_git_and_data_in_the_cache():
    for name, stage in STAGES.items():
        assert stage["desc"]
        entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
        for entry in entries:
            path, options = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
            assert (options.get("cache", True) is False) == path.startswith("reports/"), path
            template = options.get("template", "linear")
            assert template in {"linear", "scatter"} or (ROOT / f".dvc/plots/{template}.json").exists()
        if name in {"prepare", "eda", "train", "evaluate", "folds", "explain"}:  # DVC's cache of runs has their results
            assert all(isinstance(entry, str) for entry in stage.get("outs", [])), "a plain out in git turns it off"


# --- What an edit runs again ---

MODEL = PARAMETERS["folds"]["model"]
# Of each edit: the file, what runs, and what may run after it, if results change.
EDITS = {
    "a range of report.samples": ("stages/parameters/report.py", {"check", "report"}, set()),
    "a colour": ("stages/figures/style.py", {"eda", "audit", "explain", "report"}, {"compare"}),
    "a new corruption": ("stages/stress/corruptions.py", {"evaluate", "report"}, {"compare"}),
    "a new metric of the classes": ("stages/scoring/classes.py", {"evaluate", "compare"}, {"report"}),
    "a new test metric": ("stages/evaluate.py", {"evaluate"}, {"compare", "report"}),
    "a comment in a model": (
        f"stages/models/{MODEL}.py",
        {"check", f"train@{MODEL}", f"evaluate@{MODEL}", "folds", "export", "audit", "explain", "report", "strangers"},
        {"select", "calibrate", "compare"},
    ),
    "a warning's wording": (
        "stages/scoring/training_warnings.py",
        {"select", "compare"},
        {"calibrate", "export", "audit", "explain", "report", "strangers"},
    ),
    "the significance test": ("stages/comparison/significance.py", {"compare"}, {"report"}),
    "the report's template": ("stages/page/report.html.jinja", {"report"}, set()),
}


@pytest.mark.parametrize(("path", "runs", "after"), EDITS.values(), ids=EDITS)
def test_an_edit_runs_what_depends_on_it(path, runs, after):
    assert (ROOT / path).exists()
    assert changed_by(path) == runs_of(*runs)
    assert following(runs_of(*runs)) <= runs_of(*runs, *after)


def test_an_error_sentence_in_base_trains_and_computes_only_what_can_raise_it():
    cheap = {"check", "prepare", "eda", "select", "calibrate", "compare", "report"}  # a few seconds each
    for path in files_of(CODE / "base"):
        can_raise = {stage for stage in STAGES if path in imports_of(stage)}
        assert {name.partition("@")[0] for name in changed_by(path)} <= can_raise | cheap, path
