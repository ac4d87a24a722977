"""What a user exported elsewhere, or keeps in the home directory, changes no result and breaks no run."""

import importlib
import json
import os
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path

import pytest

from stages.base import late
from stages.base.environment import FORCED_VARIABLES, KEPT, ignore_user_settings
from stages.runner.graph import files_of, read_stage
from tests.conftest import ROOT, hashes, run
from tests.test_graph import NO_STAGE_IMPORTS

HOSTILE = {
    "AUTOGRAPH_VERBOSITY": "10", "FREETYPE_PROPERTIES": "truetype:interpreter-version=35", "JAX_ENABLE_X64": "1",
    "KERAS_BACKEND": "torch", "KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1", "KERAS_NNX_ENABLED": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline", "OMP_NUM_THREADS": "3", "ONEDNN_DEFAULT_FPMATH_MODE": "ANY",
    "OPENBLAS_NUM_THREADS": "3", "SKLEARN_WORKING_MEMORY": "1", "TF2_BEHAVIOR": "0", "TF_DETERMINISTIC_OPS": "0",
    "TF_ENABLE_ONEDNN_OPTS": "0", "TF_NUM_INTEROP_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1",
    "TF_SET_ONEDNN_FPMATH_MODE": "BF16", "TF_USE_LEGACY_KERAS": "1", "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
    "PYTHONWARNINGS": "error",
}  # fmt: skip
ALIEN = {"COLUMNS": "40", "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONHASHSEED": "1", "PYTHONUTF8": "0"}
ALIEN |= {"TZ": "Pacific/Kiritimati"}
TEST_SET = Path("data/prepared/test.npy")
ON_ONE_CORE = ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))) if shutil.which("taskset") else ()
MATPLOTLIBRC = "figure.facecolor: red\nfont.size: 30\nsavefig.dpi: 20\nbackend: module://no.such.backend\n"
KERAS_JSON = {"floatx": "float16", "epsilon": 0.1, "backend": "torch", "image_data_format": "channels_first"}


@pytest.mark.skipif(not str(ROOT).isascii(), reason="without UTF-8, no library can read a path with other letters")
def test_each_stage_runs_without_the_runner_whatever_the_user_has_set(finished, tmp_path):
    """`python -m stages.NAME` writes what DVC recorded, to the byte: without the runner's code, without the test images
    unless it declares them, in an environment that is hostile and foreign and, where it trains models, on one core."""
    folder = tmp_path / "bare"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns(".git", ".dvc", "__pycache__"))
    home = {"HOME": str(tmp_path), "KERAS_HOME": f"{tmp_path}/.keras", "MATPLOTLIBRC": f"{tmp_path}/.config/matplotlib"}
    for path, text in {
        folder / "matplotlibrc": MATPLOTLIBRC,
        tmp_path / ".config/matplotlib/matplotlibrc": MATPLOTLIBRC,
        tmp_path / ".keras/keras.json": json.dumps(KERAS_JSON),
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    names = run(finished, "dvc", "stage", "list", "--name-only").split()
    with chdir(folder):
        stages = {name: read_stage(name) for name in names}
    for room in NO_STAGE_IMPORTS:
        shutil.rmtree(folder / "stages" / room)
    (folder / "stages/start.py").unlink()
    test_set, aside = folder / TEST_SET, tmp_path / "aside.npy"
    for name, stage in stages.items():
        is_declared = TEST_SET in {*stage.dependencies, *stage.results}
        for path in stage.results:
            shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()
        kind, _, item = name.partition("@")
        command = ("python", "-m", f"stages.{kind}", *([name] if item else []))
        if not is_declared:
            test_set.rename(aside)
        run(folder, *(ON_ONE_CORE if item else ()), *command, **HOSTILE | ALIEN | home)
        if not is_declared:
            aside.rename(test_set)
    for path in hashes(finished):
        for file in files_of(finished / path):
            assert (folder / file.relative_to(finished)).read_bytes() == file.read_bytes(), file


def test_every_variable_that_libraries_heed_is_taken_out_but_for_a_few(monkeypatch):
    for name, value in (HOSTILE | ALIEN).items():
        monkeypatch.setenv(name, value)
    for name in KEPT:
        monkeypatch.setenv(name, "kept")
    assert set(HOSTILE) <= set(ignore_user_settings())
    assert {name for name in HOSTILE if name in os.environ} == set(FORCED_VARIABLES) & set(HOSTILE)
    assert {name: os.environ[name] for name in FORCED_VARIABLES} == FORCED_VARIABLES
    assert {os.environ[name] for name in KEPT} == {"kept"}
    assert ignore_user_settings() == []  # those that it set itself are none of the user's


FOREIGN = """
import os, signal, sys
import matplotlib
def state():
    return dict(os.environ), sys.excepthook, signal.getsignal(signal.SIGINT), sys.meta_path[:], dict(matplotlib.rcParams)
before = state()
import stages
from stages import check, models
from stages.base import environment, errors, files, late
from stages.runner import guard
assert state() == before
assert not {"keras", "tensorflow", "jax"} & set(sys.modules)
assert stages.IGNORED == []
"""


@pytest.mark.parametrize("command", ["-m foreign", "foreign/__main__.py stages.select"])
def test_an_import_changes_nothing_in_a_foreign_process(tmp_path, command):
    (tmp_path / "foreign").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / f"foreign/{name}.py").write_text(FOREIGN)
    variables = HOSTILE | {"PYTHONWARNINGS": "", "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT)}
    run(tmp_path, "python", *command.split(), **variables)


def test_a_python_without_the_packages_is_told_what_to_type():
    command = "import sys; sys.path.insert(0, '.'); sys.argv[0] = '-m'; sys.orig_argv.append('stages.x'); import stages"
    printed = run(ROOT, sys.executable, "-I", "-S", "-c", command, succeeds=False)
    assert printed.startswith(f"error: {sys.executable} has no package numpy, ")
    assert "make installed" in printed


def test_a_late_module_is_whole_for_every_thread_that_uses_it_first(tmp_path, monkeypatch):
    name = "slow_to_load"
    (tmp_path / f"{name}.py").write_text("import time\nFIRST = 1\ntime.sleep(0.2)\nLAST = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    late.load_when_used(name)
    module = importlib.import_module(name)
    together = threading.Barrier(4)

    def use(_: int) -> tuple[int, int]:
        together.wait()
        return module.LAST, module.FIRST

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(use, range(4))) == {(2, 1)}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing
