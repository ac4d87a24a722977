"""What a user exported elsewhere, or keeps in the home directory, changes no result and breaks no run."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from stages.common import environment
from stages.common.environment import (
    KEPT,
    SET,
    cores,
    ignore_user_settings,
    machine,
    other_versions,
    processor,
    versions,
)
from tests.conftest import ROOT, run

HOSTILE = {
    "AUTOGRAPH_VERBOSITY": "10",
    "COLUMNS": "40",
    "FREETYPE_PROPERTIES": "truetype:interpreter-version=35",
    "JAX_ENABLE_X64": "1",
    "KERAS_BACKEND": "torch",
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "KERAS_NNX_ENABLED": "1",
    "LC_ALL": "POSIX",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "OMP_NUM_THREADS": "3",
    "ONEDNN_DEFAULT_FPMATH_MODE": "ANY",
    "OPENBLAS_NUM_THREADS": "3",
    "PYTHONHASHSEED": "1",
    "PYTHONIOENCODING": "ascii",
    "SKLEARN_WORKING_MEMORY": "1",
    "TF2_BEHAVIOR": "0",
    "TF_DETERMINISTIC_OPS": "0",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_SET_ONEDNN_FPMATH_MODE": "BF16",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "TZ": "Pacific/Kiritimati",
}
MATPLOTLIBRC = "figure.facecolor: red\nfont.size: 30\nsavefig.dpi: 20\nbackend: module://no.such.backend\n"
KERAS_JSON = {"floatx": "float16", "epsilon": 0.1, "backend": "torch", "image_data_format": "channels_first"}


@pytest.fixture
def home(tmp_path) -> dict[str, str]:
    """Variables that name a home directory whose files would change everything."""
    for path in (tmp_path / ".config/matplotlib/matplotlibrc", tmp_path / "rc/matplotlibrc"):
        path.parent.mkdir(parents=True)
        path.write_text(MATPLOTLIBRC)
    (tmp_path / ".config/dvc").mkdir()
    (tmp_path / ".config/dvc/config").write_text("[cache]\n    type = symlink\n[core]\n    autostage = false\n")
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras/keras.json").write_text(json.dumps(KERAS_JSON))
    named = {
        "HOME": tmp_path,
        "DVC_GLOBAL_CONFIG_DIR": tmp_path / ".config/dvc",
        "KERAS_HOME": tmp_path / ".keras",
        "MATPLOTLIBRC": tmp_path / "rc",
    }
    return {name: str(path) for name, path in named.items()}


@pytest.mark.fault(
    "Variables such as `KERAS_MAX_EPOCHS`, `TF_ENABLE_ONEDNN_OPTS` or `MPLBACKEND`, `~/.keras/keras.json` or a "
    "`matplotlibrc` change results or figures, or end in a traceback.",
    "They count for nothing: the same bytes.",
)
def test_no_variable_and_no_file_of_the_user_changes_a_byte(workspace, home):
    stages = ["eda", "train@small-0", "evaluate@small-0", "explain", "report"]
    (workspace / "matplotlibrc").write_text(MATPLOTLIBRC)
    models = [workspace / f"data/models/small-0.{kind}" for kind in ("keras", "txt")]
    before = [path.read_bytes() for path in models]
    run(workspace, "dvc", "repro", "--force", "--single-item", *stages, **HOSTILE, **home)
    assert [path.read_bytes() for path in models] == before
    changed = {line[3:] for line in run(workspace, "git", "status", "--porcelain").splitlines()} - {"matplotlibrc"}
    assert all(path == "dvc.lock" or path.startswith("reports/timing/") for path in changed), changed
    assert sorted(path.name for path in (Path(home["HOME"]) / ".keras").iterdir()) == ["keras.json"]


@pytest.mark.fault(
    "A locale without UTF-8 (`LC_ALL=C`) or a narrow terminal changes what a stage writes.", "The same bytes."
)
@pytest.mark.skipif(not str(ROOT).isascii(), reason="without UTF-8, no library can read a path with other letters")
def test_no_locale_and_no_width_of_the_terminal_changes_a_byte(workspace):
    """Without `-E`, so that Python heeds the variables that keep it from taking UTF-8 in place of ASCII."""

    def written() -> dict[Path, bytes]:
        folders = ("data/models", "reports/eda", "reports/metrics", "reports/history")
        return {path: path.read_bytes() for folder in folders for path in (workspace / folder).rglob("*.*")}

    def stage(*arguments: str, locale: str) -> None:
        variables = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "40"}
        run(workspace, "python", "-m", *arguments, **variables)

    before, pages = written(), []
    stage("stages.eda", locale="C")
    stage("stages.train", "small", locale="C")
    assert written() == before
    assert not (workspace / "data/models/small-0.txt").read_bytes().isascii()
    for locale in ("POSIX", "C.UTF-8"):
        stage("stages.report", locale=locale)
        pages.append((workspace / "reports/report.html").read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.fault(
    "The number of cores changes results.",
    "The parameter `threads` says on how many threads libraries compute: the same bytes with one core and with two.",
)
@pytest.mark.skipif(cores() < 2 or not hasattr(os, "sched_setaffinity"), reason="needs two cores, and Linux")
def test_the_number_of_cores_changes_no_byte(workspace):
    before, all_cores = (workspace / "data/models/small-0.keras").read_bytes(), os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(all_cores)})
        run(
            workspace, "dvc", "repro", "--force", "--single-item", "eda", "train@small-0", "evaluate@small-0", "explain"
        )
    finally:
        os.sched_setaffinity(0, all_cores)
    assert (workspace / "data/models/small-0.keras").read_bytes() == before
    changed = {line[3:] for line in run(workspace, "git", "status", "--porcelain").splitlines()}
    assert all(path == "dvc.lock" or path.startswith("reports/timing/") for path in changed), changed


@pytest.mark.fault(
    "`PYTHONWARNINGS=error` ends a stage.",
    "It does not.",
)
def test_warnings_that_a_user_turned_into_errors_stop_no_stage():
    warn = "import warnings, stages; warnings.warn('of a library')"
    assert "of a library" in run(ROOT, "python", "-c", warn, PYTHONWARNINGS="error")


def test_every_variable_that_the_libraries_heed_is_taken_out_but_for_a_few(monkeypatch):
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    for name in KEPT:
        monkeypatch.setenv(name, "kept")
    taken = {name for name in HOSTILE if name not in {"COLUMNS", "LC_ALL", "PYTHONHASHSEED", "PYTHONIOENCODING", "TZ"}}
    assert taken <= set(ignore_user_settings())
    assert {name for name in taken if name in os.environ} == set(SET) & taken
    assert {name: os.environ[name] for name in SET} == SET
    assert {os.environ[name] for name in KEPT} == {"kept"}
    assert ignore_user_settings() == []  # those that it set itself are none of the user's


@pytest.mark.fault(
    "A variable is without effect, and its user does not know.",
    "`make run` names it.",
)
def test_a_variable_without_effect_is_told_where_a_run_begins(workspace):
    output = run(workspace, "python", "-m", "stages.run", KERAS_MAX_EPOCHS="1")
    assert re.search("note: .*ignored.*KERAS_MAX_EPOCHS", output)


@pytest.mark.fault(
    "A stage is run by a Python without the packages.",
    "A sentence says what to type.",
)
def test_a_python_without_the_packages_is_told_what_to_type():
    output = run(
        ROOT, sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); import stages", succeeds=False
    )
    assert output.startswith(f"error: {sys.executable} has no package numpy, ")
    assert "make run" in output
    assert "Traceback" not in output


def test_another_processor_is_told_by_what_stands_in_for_it(monkeypatch):
    for name in environment.PROCESSOR:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "Path", lambda path: Path("/nonexistent"))
    assert processor()  # without /proc/cpuinfo, too
    monkeypatch.undo()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in machine()["processor"]
    assert machine()["threads"] >= 1
    assert machine()["versions"]["keras"] != "none"


@pytest.mark.fault(
    "On a processor without bfloat16 (`ONEDNN_MAX_CPU_ISA`) models of `precision: auto` crash.",
    "They compute in float32, and the metrics say so.",
)
def test_a_processor_without_bfloat16_trains_and_evaluates(workspace):
    """With fewer instructions than the models were trained with, they load, and those of `precision: auto` train."""
    commands = (("stages.evaluate", "small"), ("stages.train", "small"), ("stages.evaluate", "small"))
    for module, model in commands:
        run(workspace, "python", "-m", module, model, ONEDNN_MAX_CPU_ISA="AVX2")
    for split in ("val", "test"):
        conditions = json.loads((workspace / f"reports/metrics/{split}/small-0.json").read_text())["conditions"][0]
        assert conditions["precision"] == "float32"
        assert "ONEDNN_MAX_CPU_ISA=AVX2" in conditions["processor"]


@pytest.mark.fault(
    "The user's own environment has other versions of the packages, and so other digits.", "`check` names them."
)
def test_packages_of_other_versions_than_the_pinned_ones_are_named(workspace):
    numpy = versions()["numpy"]
    assert other_versions(f"numpy=={numpy}\nabsl-py==1.0\n") == []
    assert other_versions("numpy==1.0 ; python_version > '3'\n") == [f"numpy {numpy} (1.0)"]
    (workspace / "requirements.txt").write_text("keras==1.2.3\n")
    assert f"keras {versions()['keras']} (1.2.3)" in run(workspace, "python", "-m", "stages.check")
