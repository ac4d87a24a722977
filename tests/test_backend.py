"""How Keras is started."""

import gc
from pathlib import Path

import pytest

from tests.conftest import ROOT, run


def test_what_was_loaded_is_spared_by_the_garbage_collector_which_goes_on_with_the_rest():
    assert gc.get_freeze_count() > 10_000
    assert gc.isenabled()


def test_keras_starts_with_the_backend_that_is_asked_for_and_without_a_word():
    for backend in ("tensorflow", "jax"):
        code = f"from stages.common.backend import start_keras; start_keras(2, {backend!r})\n"
        code += "import sys, keras; print(keras.backend.backend(), keras.config.floatx())\n"
        code += "import matplotlib, sklearn"  # which were kept from TensorFlow
        assert run(ROOT, "python", "-c", code) == f"{backend} float32\n"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux, which tells the names of threads")
@pytest.mark.parametrize("threads", [1, 5])
def test_jax_computes_on_as_many_threads_as_it_is_told_whatever_the_number_of_cores(threads):
    code = f"from stages.common.backend import start_keras; start_keras({threads}, 'jax')\n"
    code += "import jax, pathlib; jax.numpy.ones((9, 9)).sum().block_until_ready()\n"
    code += "names = [path.read_text().strip() for path in pathlib.Path('/proc/self/task').glob('*/comm')]\n"
    code += "print(names.count('tf_XLAEigen'))"
    assert run(ROOT, "python", "-c", code) == f"{threads}\n"


@pytest.mark.parametrize("threads", [1, 5])
def test_other_libraries_compute_on_as_many_threads_too(threads):
    code = "import sklearn.decomposition, threadpoolctl; from stages.common.backend import use_threads\n"
    code += f"use_threads({threads})\n"
    code += "print({found['num_threads'] for found in threadpoolctl.threadpool_info()})"
    assert run(ROOT, "python", "-c", code) == f"{{{threads}}}\n"


def test_a_second_start_does_nothing_and_one_with_another_backend_is_refused():
    code = (
        "from stages.common import backend, entry\nbackend.start_keras(2)\nbackend.start_keras(2)\nprint('started')\n"
    )
    code += "entry.entry_point(lambda: backend.start_keras(2, 'jax'))()"
    told = run(ROOT, "python", "-c", code, succeeds=False)
    assert told.startswith("started\nerror: Keras was loaded with the backend tensorflow before")


def test_a_backend_that_is_not_installed_is_told_with_what_to_type():
    code = "from stages.common import backend, entry\n"
    code += "backend.find_spec = lambda name: None\n"
    code += "entry.entry_point(lambda: backend.start_keras(2, 'jax'))()"
    told = run(ROOT, "python", "-c", code, succeeds=False)
    assert told.startswith("error: backend is jax, but the package is not installed: type `pip install")
