"""The pipeline. Every file in this folder can be run (`python -m stages.NAME`). The folders hold the code they share."""

from stages.common import environment, late, start

start.answer_ctrl_c()
environment.refuse_another_python()
IGNORED = environment.ignore_user_settings()  # names of the variables that it removed
late.load_when_used(
    "dvc.schema",
    "stages.benchmark.measure",
    "stages.common.checkpoint",
    "stages.common.lock_file",
    "stages.common.stage",
    "stages.explanation.",
    "stages.figures.photo",
    "stages.inference.formats",
    "stages.inference.measure",
    "stages.layers.",
    "stages.trained.",
    "stages.training.",
)
