"""Mutation testing: small faults are planted into the code that decides, one at a time, and the tests have to notice each.

`python -m tests.mutation` plants up to `MOST` faults into each file of `TESTS`, `python -m tests.mutation FILE ...` into
some, and prints those that no test notices. `tests/mutation.md` tells what came of it. Tests that run the whole graph or
long trainings are left out.
"""

import ast
import copy
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = "parameters models experiments"
STATISTICS = "significance calibration intervals evaluation coverage"
TESTS = {  # the tests of each file
    "stages/prepare.py": "prepare",
    "stages/select.py": "evaluation",
    "stages/compare.py": "evaluation intervals",
    **{f"stages/evaluation/{name}.py": STATISTICS for name in ("intervals", "significance", "calibration", "scores")},
    **{f"stages/evaluation/{name}.py": "evaluation robustness" for name in ("classes", "ensemble", "robustness")},
    "stages/common/parameters.py": PARAMETERS,
    "stages/models/__init__.py": PARAMETERS,
    "stages/models/block.py": PARAMETERS,
    "stages/common/checkpoint.py": "resume",
    "stages/common/stage.py": "record resume",
    "stages/common/lock_file.py": "record",
    "stages/training/resume.py": "resume",
}
SLOW = "interrupted_anywhere or incomplete_lock or damaged_lock or new_entry or make_clean or entry_is_what"
SELECTED = {  # which tests of a file, where not all but the slow ones
    "stages/common/lock_file.py": "incomplete_lock or damaged_lock or new_entry or entries_of_other",
    "stages/training/resume.py": "(anywhere and (all or averaged)) or seconds_of_teachers or depend_on_besides",
}
MOST, SECONDS = 50, 300  # faults drawn from a file, and the time after which one counts as noticed
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Mod: ast.Mult,
}  # fmt: skip
NAMES = {"min": "max", "any": "all", "minimum": "maximum", "argmax": "argmin", "ceil": "floor", "sorted": "list"}
NAMES |= {other: name for name, other in NAMES.items() if name != "sorted"}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """The faults of one expression or statement."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                yield with_(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
    elif isinstance(node, ast.BoolOp):
        yield with_(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield with_(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
        yield with_(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.comprehension):
        for place in range(len(node.ifs)):
            yield with_(node, ifs=node.ifs[:place] + node.ifs[place + 1 :])
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield ast.Constant(node.value * 2 + (not node.value))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"\w+", node.value):
        yield ast.Constant(f"{node.value}_")
    elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield with_(node, id=NAMES[node.id])
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield with_(node, attr=NAMES[node.attr])
    elif isinstance(node, ast.Call):
        for place, keyword in enumerate(node.keywords):
            if keyword.arg not in {"description", "file", "flush"}:
                yield with_(node, keywords=node.keywords[:place] + node.keywords[place + 1 :])
    elif isinstance(node, ast.Return) and node.value:
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, (ast.Raise, ast.Continue, ast.AugAssign)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass()


def with_(node: ast.AST, **fields: object) -> ast.AST:
    """A copy of a node with other fields."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def faults(path: Path) -> list[tuple[str, str, str]]:
    """Of a file: where each fault is, what it changes, and the file's text with it. Messages and `main` are left out."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), []

    def visit(node: ast.AST, where: str) -> None:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            where = f"{where}.{node.name}".lstrip(".")
        for name, value in ast.iter_fields(node):
            for place, child in enumerate(value if isinstance(value, list) else [value]):
                if not isinstance(child, ast.AST) or isinstance(child, (ast.JoinedStr, ast.arg)) or name == "returns":
                    continue
                if isinstance(child, ast.FunctionDef) and child.name in ("main", "prepare_to_write"):
                    continue
                if isinstance(child, ast.If) and "__main__" in ast.unparse(child.test):
                    continue
                for other in changes(child):
                    if isinstance(value, list):
                        value[place] = other
                    else:
                        setattr(node, name, other)
                    found.append((where, f"{shown(child)} → {shown(other)}", ast.unparse(tree)))
                    if isinstance(value, list):
                        value[place] = child
                    else:
                        setattr(node, name, child)
                visit(child, where)

    visit(tree, "")
    return found


def shown(node: ast.AST) -> str:
    """The first characters of an expression, in one line without what a Markdown table would misread."""
    text = " ".join(ast.unparse(node).split()).replace("|", "¦").replace("`", "'")
    return text if len(text) <= 70 else f"{text[:70]}…"


class Selected:
    """A plugin of pytest: tests that run the graph are left out; the others share one workspace."""

    def __init__(self, workspace: Path):
        self.workspace = workspace

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        sys.modules["conftest"].clone_with_data = lambda *_: self.workspace
        items[:] = [one for one in items if {"dry_workspace", "finished"} & {*one.fixturenames} != {"finished"}]


def prepare(folder: Path) -> None:
    """Fill a folder with a copy of the project, and with a workspace for the tests that need one."""
    left_out = {ROOT: [".git", ".venv", ".dvc", "data"]}
    shutil.copytree(ROOT, folder / "project", ignore=lambda at, _: left_out.get(Path(at), ["__pycache__"]))
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-k", "comes_back", "tests/test_resume.py"]
    subprocess.run([*command, f"--basetemp={folder / 'first'}"], cwd=ROOT, check=True)
    (next((folder / "first").glob("dry*")) / "workspace").rename(folder / "workspace")


def run_tests(folder: Path, file: str, text: str) -> int:
    """In a process of its own: run the tests of a file with another text. Returns pytest's exit status."""
    project, workspace = folder / "project", folder / "copy"
    if "resume" in TESTS[file]:
        shutil.rmtree(workspace, ignore_errors=True)
        shutil.copytree(folder / "workspace", workspace, symlinks=True)
    (project / file).write_text(text, encoding="utf-8")
    sys.dont_write_bytecode = True
    os.chdir(project)
    sys.path[:] = [str(project), *(path for path in sys.path if path not in {"", str(ROOT)})]
    for name in [name for name in sys.modules if name.partition(".")[0] in {"stages", "tests"}]:
        del sys.modules[name]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    signal.alarm(SECONDS)
    selected = SELECTED.get(file, f"not ({SLOW})")
    options = ["-xq", "-pno:cacheprovider", "-pno:xdist", "-oaddopts=", "-mnot record and not slow", f"-k{selected}"]
    names = [f"tests/test_{name}.py" for name in TESTS[file].split()]
    return pytest.main([*options, f"--basetemp={folder / 'temporary'}", *names], [Selected(workspace)])


def is_noticed(folder: Path, file: str, text: str) -> bool:
    """Whether a test fails, or takes too long, with another text of a file."""
    child = os.fork()
    if not child:
        status = 1
        try:
            status = run_tests(folder, file, text)
        finally:
            os._exit(int(status))
    _, status = os.waitpid(child, 0)
    shutil.copy(ROOT / file, folder / "project" / file)
    return bool(status)


def main() -> None:
    os.environ |= {
        "KERAS_BACKEND": "tensorflow",
        "PYTEST_XDIST_WORKER": "one",
    }  # so that all share one run of the graph
    for name in ("hypothesis", "keras", "matplotlib.pyplot", "onnxruntime", "pandas", "scipy.stats", "sklearn.metrics"):
        __import__(name)  # once, not for each fault
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        for file in sys.argv[1:] or TESTS:
            whole = (ROOT / file).read_text(encoding="utf-8")
            assert not is_noticed(folder, file, whole), f"the tests of {file} fail without a fault"
            found = faults(ROOT / file)
            drawn = sorted(random.Random(0).sample(range(len(found)), min(MOST, len(found))))
            unnoticed = [found[place] for place in drawn if not is_noticed(folder, file, found[place][2])]
            print(f"{file}: {len(drawn)} mutants, {len(unnoticed)} unnoticed", flush=True)
            for where, change, _ in unnoticed:
                print(f"  {where}: {change}", flush=True)


if __name__ == "__main__":
    main()
