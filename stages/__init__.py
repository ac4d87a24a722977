"""The pipeline. Every file in this folder can be run (`python -m stages.NAME`). The folders hold the code they share.

Importing `stages` changes nothing in the process that does. Only `python -m stages.NAME` sets the environment of its own
process, before any library is loaded.
"""

import sys

IGNORED: list[str] = []  # names of the environment variables that were removed

if sys.argv[0] == "-m" and any(argument.startswith("stages.") for argument in sys.orig_argv):
    from stages.base import environment, errors, late

    environment.refuse_another_python()
    IGNORED = environment.ignore_user_settings()
    errors.show_as_sentences()
    late.load_when_used(
        "keras", "stages.explanation.", "stages.figures.photo", "stages.inference.formats", "stages.inference.measure",
        "stages.layers.", "stages.trained.", "stages.training.", "tensorflow._api.v2.",
    )  # fmt: skip
