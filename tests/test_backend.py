"""How Keras is started."""

import gc

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
