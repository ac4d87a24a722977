"""What `dvc.yaml` promises, read from it and from the code: the invariants of the design, and the rules of the house."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from stages import models
from stages.data.publisher import PUBLISHED
from tests.conftest import ROOT, run

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MODULES = {name: re.search(r"python -E -m (stages\.\w+)", stage["cmd"])[1] for name, stage in STAGES.items()}
STARTED = {"bench": ("stages.benchmark.ours",)}  # programs of ours that a stage starts as processes

# The variables that hold a model's name, as `dvc.yaml` spells them.
NAMES = {"model_name": "${item.model}", "audit_model": "${audit.model}"}

# What each room of the house may import, beside itself.
BASE = {"common", "data"}
ROOMS = {
    "common": set(),
    "data": {"common"},
    "layers": {"common"},
    "models": {"common", "layers"},
    "trained": {*BASE, "layers"},
    "inference": {*BASE, "trained"},
    "evaluation": BASE,
    "quality": BASE,
    "explanation": BASE,
    "training": {*BASE, "layers", "models", "trained"},
    "cluster": {"common"},
    "tuning": {"common", "models"},
    "figures": {*BASE, "evaluation"},
    "page": {*BASE, "evaluation"},
}
ROOMS["benchmark"] = set(ROOMS)  # everything that it measures
# In a room, but started: by stage `bench`, and by workers.
PROGRAMS = {"stages/benchmark/ours.py", "stages/benchmark/notebook.py", "stages/cluster/step.py"}


def paths(entries: list) -> set[str]:
    """The paths of a list of outs, metrics or plots, with or without options behind them."""
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def outputs(stage: dict) -> set[str]:
    return set().union(*(paths(stage.get(kind, [])) for kind in ("outs", "metrics", "plots")))


def source(module: str) -> Path | None:
    """The file of a module of the project, None where there is none."""
    path = ROOT / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def names_imported(file: Path) -> set[str]:
    """The modules of the project that a file imports itself, at its top or inside a function, and what may be modules."""
    names = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} has a relative import, which no test here follows"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.split(".")[0] == "stages"}


def imported(module: str, seen: set[Path]) -> set[Path]:
    """Every file of the project that a module imports, directly or not; adds them to `seen`."""
    file = source(module)
    if file is None or file in seen:
        return seen
    seen.add(file)
    for parent in [".".join(module.split(".")[:count]) for count in range(1, module.count(".") + 1)]:
        imported(parent, seen)
    for name in names_imported(file):
        imported(name, seen)
    return seen


def has_code(file: Path) -> bool:
    """Whether there is more in a file than a docstring."""
    return any(not isinstance(node, ast.Expr) for node in tree_of(file).body)


def files_of(*folders: str) -> list[Path]:
    """The files with code directly in `stages`, or in rooms of it."""
    found = [file for folder in folders for file in sorted((ROOT / "stages" / folder).rglob("*.py"))]
    return [file for file in found if has_code(file)]


def named(files: set[Path]) -> set[str]:
    """Files with code, as paths from the project's root."""
    return {file.relative_to(ROOT).as_posix() for file in files if has_code(file)}


def modules_of(stage: str) -> tuple[str, ...]:
    """The modules that a stage runs: its own, and those that it starts as processes."""
    return (MODULES[stage], *STARTED.get(stage, ()))


def imports_of(stage: str) -> set[str]:
    """The files that a stage imports, wherever they lie. Models are loaded by name: see `models_loaded`."""
    return named(set().union(*(imported(module, set()) for module in modules_of(stage))))


def calls(stage: str) -> list[ast.Call]:
    trees = [tree_of(source(module)) for module in modules_of(stage)]
    return [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]


def models_loaded(stage: str) -> set[str]:
    """The files of models, or their folder, that a stage reads by name: by calls of `stages.models`."""
    found = set()
    for call in calls(stage):
        if ast.unparse(call.func) == "description":  # which reads the docstring of a model's file
            found.add("stages/models")
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "models":
            name = NAMES.get(ast.unparse(call.args[0]) if call.args else "")
            found.add(f"stages/models/{name}.py" if name else "stages/models")
    return found


def covered(file: str, declared: set[str]) -> bool:
    return any(file == dep or file.startswith(f"{dep}/") for dep in declared)


def imports_of_models() -> set[str]:
    """What the models' files import, these files themselves aside."""
    files = set().union(*(imported(f"stages.models.{model}", set()) for model in models.names()))
    return named(files - {source(f"stages.models.{model}") for model in models.names()})


@pytest.mark.parametrize("name", STAGES)
def test_every_local_import_is_a_dependency(name):
    declared, needed = paths(STAGES[name]["deps"]), imports_of(name)
    if models_loaded(name) and name not in {
        "check",
        "report",
    }:  # which run of a model's file only Parameters, or nothing
        needed |= imports_of_models()
    assert {file for file in needed if not covered(file, declared)} == set()
    needed |= {"stages/models"} & models_loaded(name)
    ours = {dep for dep in declared if dep.startswith("stages/") and "$" not in dep}
    unneeded = {dep for dep in ours if not any(covered(file, {dep}) for file in needed)}
    assert unneeded == set(), "declared, but nothing of it is imported"


@pytest.mark.parametrize("name", STAGES)
def test_a_model_that_is_loaded_by_name_is_a_dependency(name):
    of_a_run, of_folds, any_model = (
        f"stages/models{which}" for which in ("/${item.model}.py", "/${audit.model}.py", "")
    )
    expected = {
        "check": {any_model}, "train": {of_a_run}, "evaluate": {of_a_run}, "folds": {of_folds}, "audit": {any_model},
        "explain": {any_model}, "export": {any_model}, "report": {any_model}, "bench": {any_model},
    }  # fmt: skip
    loaded, declared = models_loaded(name), paths(STAGES[name]["deps"])
    assert loaded == expected.get(name, set())
    assert {dep for dep in declared if re.fullmatch(r"stages/models(/\$.*)?", dep)} == loaded


def parameters_read(stage: str) -> set[str]:
    """The keys that a stage asks for: of `read_parameters`, and blocks, of `models.read_block`."""
    keys = set()
    for call in calls(stage):
        function = ast.unparse(call.func)
        if function == "read_parameters":
            keys |= {ast.literal_eval(argument) for argument in call.args}
        elif function == "models.read_block":
            keys.add(f"models.{NAMES[ast.unparse(call.args[0])]}")
    return keys


@pytest.mark.parametrize("name", [name for name in STAGES if name not in {"check", "bench"}])
def test_a_stage_reads_exactly_the_parameters_that_it_declares(name):
    assert parameters_read(name) == set(STAGES[name].get("params", []))


def test_check_and_bench_depend_on_all_parameters():
    assert {name for name, stage in STAGES.items() if "params.yaml" in paths(stage["deps"])} == {"check", "bench"}


def called(node: ast.AST) -> set[str]:
    """The names of what is called in a piece of code, without the modules before them."""
    found = [ast.unparse(inner.func) for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    return {name.rpartition(".")[2] for name in found}


def test_only_what_declares_everything_or_is_no_stage_reads_everything():
    readers = {file.stem for file in files_of("") if "read_all" in called(tree_of(file))}
    assert {"check"} <= readers <= {"check", "run", "demo"}


def test_no_room_reads_parameters_behind_a_stages_back():
    functions = [
        node for file in files_of(*ROOMS) for node in ast.walk(tree_of(file)) if isinstance(node, ast.FunctionDef)
    ]
    # `arguments` asks for nothing but the models' names, of which the command's is one; `read_block`: see above.
    reading, known = {"read_parameters"}, {"arguments", "read_block"}
    while more := {one.name for one in functions if called(one) & reading} - reading - known:
        reading |= more
    for name in STAGES:
        assert not {inner for call in calls(name) for inner in called(call)} & reading - {"read_parameters"}, name


def test_only_one_module_opens_the_parameters():
    openers = {
        file.name
        for file in (ROOT / "stages").rglob("*.py")
        if re.search(r"import yaml|ruamel.yaml import", file.read_text())
    }
    # demo.py: a copy's; experiments.py: those of commits; lock_file.py opens `dvc.lock` alone
    assert openers == {"parameters.py", "demo.py", "experiments.py", "lock_file.py"}


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


TEST_DATA = re.compile(r"test\.npz|t10k|metrics/(?!val)|predictions(?!/val)|reports/(robustness|ood|audit|explain)")


@pytest.mark.parametrize("name", ["train", "select", "calibrate", "export", "folds", "eda", "bench"])
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
    called = {(ast.unparse(call.func), ast.unparse(argument)) for call in calls(name) for argument in call.args[:1]}
    loaded = {argument.strip("'") for function, argument in called if function == "load_split"}
    declared = paths(STAGES[name]["deps"])
    assert loaded == {part for part in ("train", "val", "test") if f"data/prepared/{part}.npz" in declared}
    metrics = {argument.strip("'") for function, argument in called if function == "read_metrics"}
    for split in metrics - {"split"}:  # `compare` asks for both, by variable
        assert [dep for dep in declared if dep.startswith(f"reports/metrics/{split}")]
    if "split" in metrics:
        assert {"reports/metrics/val", "reports/metrics/test"} <= declared
    reads_raw = "RAW" in {node.id for node in ast.walk(tree_of(source(MODULES[name]))) if isinstance(node, ast.Name)}
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


def test_numbers_and_figures_live_in_git_and_data_in_the_cache():
    for stage in STAGES.values():
        for kind in ("outs", "metrics", "plots"):
            for entry in stage.get(kind, []):
                path, options = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
                assert (options.get("cache", True) is False) == path.startswith("reports/"), path


def test_train_and_evaluate_can_be_restored_from_the_run_cache():
    for name in ("train", "evaluate", "prepare", "eda", "folds", "explain"):
        # a plain out without cache would turn it off
        assert not [entry for entry in STAGES[name].get("outs", []) if not isinstance(entry, str)]


def test_no_module_hides_one_of_pythons_own():
    names = {file.stem for file in (ROOT / "stages").glob("*.py")} - {"__init__"}
    # `select.py` may be called as its stage is: Python looks into `stages/` itself only where it runs one of its files. But
    # stages run as modules (`python -m stages.NAME`: see MODULES), and `install.py`, which runs as a file, with -I.
    assert names & set(sys.stdlib_module_names) <= {"select"}
    run_as_files = re.findall(r"^[^#\n]*?(\S+ stages/\w+\.py)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert run_as_files == ["-I stages/install.py"]
    assert list(MODULES) == list(STAGES)


# --- The rules of the house ---


def is_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


@pytest.mark.parametrize("file", sorted((ROOT / "stages").glob("*.py")), ids=lambda file: file.name)
def test_every_file_in_stages_can_be_run(file):
    if file.name == "__init__.py":
        return
    body = tree_of(file).body
    assert "main" in {node.name for node in body if isinstance(node, ast.FunctionDef)}
    assert [ast.unparse(node.body) for node in body if is_guard(node)] == ["main()"]


def test_no_file_in_a_room_can_be_run_but_the_programs_of_the_benchmark():
    runnable = {
        file.relative_to(ROOT).as_posix() for file in files_of(*ROOMS) if any(map(is_guard, ast.walk(tree_of(file))))
    }
    assert runnable <= PROGRAMS


def test_every_folder_in_stages_is_a_room():
    folders = {path.parent.name for path in (ROOT / "stages").glob("*/*.py")}
    assert folders == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_downwards(room):
    for file in files_of(room):
        for name in names_imported(file):
            if source(name) is not None:  # else a name in a module
                _, other, *_ = [*name.split("."), ""]
                assert other in {"", room, *ROOMS[room]}, f"{file} imports {name}"


def test_no_entry_point_is_imported():
    entry_points = {f"stages.{file.stem}" for file in (ROOT / "stages").glob("*.py")} - {"stages.__init__"}
    for file in (ROOT / "stages").rglob("*.py"):
        assert not names_imported(file) & entry_points, file


def is_import(node: ast.stmt) -> bool:
    """Whether a statement imports: always, or for a type checker alone."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return all(map(is_import, node.body))
    return isinstance(node, (ast.Import, ast.ImportFrom))


@pytest.mark.parametrize("file", files_of(""), ids=lambda file: file.relative_to(ROOT / "stages").as_posix())
def test_imports_stand_at_the_top(file):
    path = file.relative_to(ROOT).as_posix()
    if (
        path == "stages/benchmark/notebook.py"
    ):  # sets a variable that Keras reads when it is loaded; uses ours at its end
        return
    tree = tree_of(file)
    body = tree.body[1:] if ast.get_docstring(tree) else tree.body
    count = next((place for place, node in enumerate(body) if not is_import(node)), len(body))
    top = [inner for node in body[:count] for inner in ast.walk(node)]
    below = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) and node not in top]
    # start_keras: the moment at which Keras may load; Gradio is an extra, and reads variables when it is loaded
    allowed = {"stages/common/backend.py": ["import keras"], "stages/app.py": ["import gradio as gr"] * 2}.get(path, [])
    assert [ast.unparse(node) for node in below] == allowed


def test_the_graph_and_the_parameters_can_be_read_in_a_few_minutes():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 480
    assert len((ROOT / "params.yaml").read_text().splitlines()) <= 180


# --- DVC ---


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
